"""What recording metrics costs a request, in microseconds of CPU: `python -m bench.metrics_cost`. Ours beside prometheus-client for the same metrics.

The best of several passes of one thread; the row is made before, as the ledger needs it anyway.
"""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from contract.usage import Usage
from gateway.metrics.counts import Counts
from gateway.metrics.exposition import exposition
from gateway.metrics.families import BETWEEN_TOKENS, OVERHEAD, SECONDS
from gateway.telemetry.trace import trace_of
from ledger.row import AttemptRow

REQUESTS = 20_000
PASSES = 7
ROW = AttemptRow(
    request_id="req_" + "0" * 32,
    attempt=1,
    started_at_us=1_800_000_000_000_000,
    team="search",
    key_id="k",
    endpoint="chat.completions",
    stream=True,
    model_asked="chat",
    route="chat",
    target="openai",
    model_sent="gpt",
    status="ok",
    reason="first of the order",
    client_status=200,
    first_token_us=210_000,
    end_us=1_900_000,
    usage=Usage(input_uncached=900, cache_read=100, output_visible=180, reasoning=20),
    cost_nusd=1_234_567,
    policy="interactive",
    slo_met=True,
    overhead_us=180,
)
HEADERS = [(name, b"x" * 20) for name in (b"host", b"authorization", b"content-type", b"content-length", b"accept", b"user-agent", b"x-a", b"x-b")]


def ours() -> Callable[[], object]:
    counts, labels = Counts(), ("chat.completions", "chat", "interactive", "search", "200", "ok")

    def record() -> None:
        counts.row(ROW, 0.211)
        counts.request(labels, True, 1.9, ROW.request_id)

    return record


def prometheus() -> Callable[[], object]:
    """The same with prometheus-client's labelled metrics, the children kept by the caller, without exemplars: its best case."""
    registry = CollectorRegistry()
    named = {"model": "chat", "target": "openai", "team": "search"}

    def counter(name: str, *more: str) -> Counter:
        return Counter(name, name, [*named, *more], registry=registry).labels(*named.values(), *more)

    def histogram(name: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, name, [*named], registry=registry, buckets=buckets).labels(*named.values())

    attempts, requests, cost, kept = counter("attempts"), counter("requests", "status"), counter("cost"), counter("slo", "met")
    tokens = {kind: counter(f"tokens_{kind}", "type") for kind in ("input", "cache_read", "output", "reasoning")}
    first, whole = histogram("first", SECONDS), histogram("whole", SECONDS)
    between, overhead, took = histogram("between", BETWEEN_TOKENS), histogram("overhead", OVERHEAD), histogram("took", SECONDS)

    def record() -> None:
        attempts.inc()
        requests.inc()
        kept.inc()
        cost.inc(0.001234567)
        tokens["input"].inc(900)
        tokens["cache_read"].inc(100)
        tokens["output"].inc(180)
        tokens["reasoning"].inc(20)
        first.observe(0.211)
        whole.observe(1.9)
        between.observe(0.0085)
        overhead.observe(0.00018)
        took.observe(1.9)

    generate_latest(registry)
    return record


def cost_us(record: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(PASSES):
        began = time.thread_time()
        for _ in range(REQUESTS):
            record()
        best = min(best, time.thread_time() - began)
    return best / REQUESTS * 1e6


def scrape_ms(teams: int, models: int, targets: int) -> tuple[float, float, int]:
    """A scrape of a large gateway: on the event loop, beside it, and its bytes."""
    from msgspec.structs import replace

    counts = Counts()
    for team in range(teams):
        for model in range(models):
            for target in range(targets):
                counts.row(replace(ROW, team=f"team-{team}", route=f"model-{model}", target=f"target-{target}"), 0.2)
    began = time.thread_time()
    snapshot = counts.snapshot()
    looked = time.thread_time()
    text = exposition(snapshot, (), True)
    return (looked - began) * 1e3, (time.thread_time() - looked) * 1e3, len(text)


if __name__ == "__main__":
    print(f"a streamed request with all metrics and exemplars   {cost_us(ours()):6.2f} us")
    print(f"the same in prometheus-client, without exemplars    {cost_us(prometheus()):6.2f} us")
    print(f"looking for a traceparent that is not there         {cost_us(lambda: trace_of(HEADERS, None)):6.2f} us")
    look_ms, text_ms, size = scrape_ms(50, 10, 3)
    print(f"a scrape with 50 teams, 10 models, 3 targets        {look_ms:6.1f} ms on the loop, {text_ms:.1f} ms beside it, {size / 1e3:.0f} kB")
