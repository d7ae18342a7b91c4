"""Which target a request goes to, through real sockets: by promise and price, by residency, by readiness, by what a target can take."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion, good, status

ASK = [{"role": "user", "content": "Hi"}]
CHEAP = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
DEAR = "price: {input_usd_per_mtok: 10, output_usd_per_mtok: 20}"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k, region: {region}}}
  two: {{kind: {two_kind}, base_url: "{two}", api_key: k, region: us-east-1}}
  three: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models: {{m: {{policy: p, targets: [{targets}]}}}}
policies: {{p: {{{policy}}}}}
teams: {{search: {{keys: [{key}], overrides: true}}}}
"""
PAIR = f"{{provider: one, model: m1, {CHEAP}}}, {{provider: two, model: m2, {DEAR}}}"
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
Config = Callable[..., str]


@pytest.fixture
def config(one: Upstream, two: Upstream, tmp_path: Path) -> Config:
    def text(targets: str = PAIR, policy: str = "", region: str = "eu-west-1", two_kind: str = "openai-compatible") -> str:
        urls = {"one": one.base_url, "two": two.base_url}
        return CONFIG.format(
            **urls, folder=tmp_path, key=KEY, targets=targets, policy=policy, region=region, two_kind=two_kind
        )  # fmt: skip

    return text


def body(stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": ASK, "stream": stream, **more}


async def ask(gateway: Gateway, stream: bool = False, **more: Any) -> str:
    """The target that answered."""
    answer = await gateway.post(body(stream, **more))
    assert answer.status_code == 200, answer.text
    return answer.headers["x-turnout-target"]


async def removed(gateway: Gateway, answer: httpx2.Response) -> dict[str, str]:
    await asyncio.to_thread(gateway.runtime.ledger.flush)
    path = f"/v1/decisions/{answer.headers['x-request-id']}"
    told = (await gateway.http.get(path, headers={"authorization": f"Bearer {KEY}"})).json()
    return {each["target"]: each["rule"] for each in told["decision"]["candidates"] if each["verdict"] == "removed"}


def after(delay_s: float, play: Play = good) -> Play:
    async def delayed(x: Exchange) -> None:
        await asyncio.sleep(delay_s)
        await play(x)

    return delayed


# --- by promise and price -----------------------------------------------------------------------------------------------
PROMISE = "objective: cheapest, explore: 0, slo: {ttft_p95_ms: 300}"


@BOTH
async def test_the_cheapest_of_those_that_keep_the_promise_is_found_in_a_few_requests(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, stream: bool
) -> None:
    """A promise of 300 ms to the first token, of answers of 5 tokens: 550 ms for a whole one."""
    one.plays["m1"] = after(0.8)
    async with running(config(policy=PROMISE), tmp_path) as gateway:
        found = [await ask(gateway, stream, max_tokens=5) for _ in range(8)]
        assert found[0] == "one/m1", "nothing was known yet, and it is the cheaper one"
        assert found[-3:] == ["two/m2"] * 3
        assert (await gateway.post(body(stream, max_tokens=5))).headers["x-turnout-decision"] == "cheapest of those that meet the SLO"


async def test_a_first_token_is_learnt_of_before_its_answer_ends(config: Config, tmp_path: Path, one: Upstream) -> None:
    go_on = asyncio.Event()

    async def long(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
        await go_on.wait()
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = long
    async with running(config(policy=PROMISE), tmp_path) as gateway:
        stats = gateway.runtime.routes.exact["m"].targets[0].stats
        head = {"authorization": f"Bearer {KEY}"}
        async with gateway.http.stream("POST", "/v1/chat/completions", json=body(True), headers=head) as answer:
            pieces = answer.aiter_raw()
            assert b"Hello" in await anext(pieces)
            assert (stats.changes, stats.attempts) == (1, 0)
            go_on.set()
            assert b"[DONE]" in b"".join([piece async for piece in pieces])
        assert (stats.changes, stats.attempts) == (2, 1)


async def test_when_the_cheap_one_keeps_the_promise_too_it_gets_the_requests(config: Config, tmp_path: Path) -> None:
    async with running(config(policy=PROMISE), tmp_path) as gateway:
        assert {await ask(gateway, True) for _ in range(6)} == {"one/m1"}


async def test_without_a_promise_the_slow_cheap_one_is_asked(config: Config, tmp_path: Path, one: Upstream) -> None:
    one.plays["m1"] = after(0.3)
    async with running(config(policy="objective: cheapest, explore: 0"), tmp_path) as gateway:
        answers = [await gateway.post(body()) for _ in range(4)]
    assert {(a.headers["x-turnout-target"], a.headers["x-turnout-decision"]) for a in answers} == {("one/m1", "cheapest")}


async def test_when_nobody_keeps_the_promise_the_response_says_so(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = two.plays["m2"] = after(0.1)
    async with running(config(policy="objective: cheapest, explore: 0, slo: {ttft_p95_ms: 1}"), tmp_path) as gateway:
        answers = [await gateway.post(body(stream=True)) for _ in range(10)]
    assert answers[-1].headers["x-turnout-decision"] == "most likely to meet the SLO, at 0%"


async def plain(x: Exchange) -> None:
    """Nothing was cached, as far as it says."""
    await x.respond(200, json.dumps(completion(usage={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25})).encode())


async def test_a_conversation_stays_where_its_begin_is_cached(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    """Two targets at one price: each conversation begins at one of them by its request's id, and stays there."""
    one.plays["m1"] = two.plays["m2"] = plain
    price = "price: {input_usd_per_mtok: 10, output_usd_per_mtok: 1, cache_read_usd_per_mtok: 1}"
    targets = f"{{provider: one, model: m1, {price}}}, {{provider: two, model: m2, {price}}}"
    begins = set()
    async with running(config(targets, "objective: cheapest, explore: 0"), tmp_path) as gateway:
        for number in range(16):
            messages = [{"role": "user", "content": f"conversation {number} " + "about turnouts " * 200}]
            first = await ask(gateway, messages=messages, max_tokens=5)
            begins.add(first)
            for turn in range(3):
                messages += [{"role": "assistant", "content": "I see."}, {"role": "user", "content": f"And {turn}?"}]
                assert await ask(gateway, messages=messages, max_tokens=5) == first
    assert begins == {"one/m1", "two/m2"}


# --- by residency -------------------------------------------------------------------------------------------------------
OBJECTIVES = ("ordered", "cheapest", "fastest", "throughput", "weighted")


@pytest.mark.parametrize("objective", OBJECTIVES)
async def test_no_socket_is_opened_to_a_target_outside_the_regions(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, objective: str
) -> None:
    """Not when the allowed one fails, hedges, explores, limits or is down: two is in the us, three nowhere that is known."""
    targets = f"{{provider: two, model: m2, {CHEAP}}}, {{provider: three, model: m3, {CHEAP}}}, {{provider: one, model: m1, {DEAR}}}"
    policy = f"objective: {objective}, explore: 1, residency: [eu], hedge: {{after: 20, max_extra_spend: 1}}, recovery: hold"
    one.plays["m1"] = [good, after(0.1), status(500), status(429), status(503)]
    async with running(config(targets, policy), tmp_path) as gateway:
        answers = [await gateway.post(body(stream)) for stream in (True, False) * 4]
        assert "200" in {str(answer.status_code) for answer in answers}
        assert {answer.status_code for answer in answers} & {429, 502, 503}
        assert await removed(gateway, answers[0]) == dict.fromkeys(("two/m2", "three/m3"), "residency: [eu]")
    assert one.connections > 0 and two.connections == 0


@pytest.mark.parametrize("residency", ["local_only", "ch", "eu-west-2"])
async def test_when_residency_leaves_nobody_the_request_is_refused_and_no_socket_opened(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, residency: str
) -> None:
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body(), **{"x-turnout-residency": residency})
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "no_allowed_target"
    assert one.connections == two.connections == 0


# --- by readiness -------------------------------------------------------------------------------------------------------
async def test_when_all_breakers_are_open_the_answer_is_a_503_at_once_that_says_when(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream
) -> None:
    one.plays["m1"] = two.plays["m2"] = status(500)
    async with running(config(), tmp_path) as gateway:
        for _ in range(6):
            answer = await gateway.post(body())
            if answer.json()["error"]["code"] == "no_target_ready":
                break
        sent, took = len(one.journal) + len(two.journal), []
        for _ in range(20):
            began = perf_counter()
            answer = await gateway.post(body(stream=True))
            took.append(perf_counter() - began)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
            assert 1 <= int(answer.headers["retry-after"]) <= 15 and 0 < int(answer.headers["retry-after-ms"]) <= 15_000
        assert min(took) <= 0.010
        assert len(one.journal) + len(two.journal) == sent, "nobody was bothered for it"
        assert set((await removed(gateway, answer)).values()) == {"not ready: its breaker is open after failures"}


async def test_a_target_that_asked_to_be_left_alone_is_passed_over_until_then(config: Config, tmp_path: Path, one: Upstream) -> None:
    one.plays["m1"] = [status(429, retry_after="1"), good]
    async with running(config(), tmp_path) as gateway:
        assert [await ask(gateway) for _ in range(2)] == ["two/m2", "two/m2"] and len(one.journal) == 1
        await asyncio.sleep(1.1)
        assert await ask(gateway) == "one/m1"


async def test_the_decision_in_the_header_says_why_this_target(config: Config, tmp_path: Path, one: Upstream) -> None:
    one.plays["m1"] = [good, status(500), good, status(401), good]
    async with running(config(), tmp_path) as gateway:
        said = [(await gateway.post(body())).headers["x-turnout-decision"] for _ in range(3)]
    assert said == ["first in order", "retry after upstream_error", "fallback"]


# --- by what a target can take ------------------------------------------------------------------------------------------
@BOTH
async def test_tools_are_not_sent_to_a_provider_that_has_none(config: Config, tmp_path: Path, one: Upstream, two: Upstream, stream: bool) -> None:
    targets = f"{{provider: two, model: m2, {CHEAP}}}, {{provider: one, model: m1, {DEAR}}}"
    async with running(config(targets, two_kind="perplexity"), tmp_path) as gateway:
        answer = await gateway.post(body(stream, tools=TOOLS))
        assert answer.headers["x-turnout-target"] == "one/m1" and answer.headers["x-turnout-attempts"] == "1"
        assert await removed(gateway, answer) == {"two/m2": "cannot: tools"}
        assert await ask(gateway, stream) == "two/m2", "without tools it comes first"
    assert len(two.journal) == 1


async def test_a_prompt_that_is_too_long_is_never_sent_again_to_the_same_model(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    too_long = status(400, b'{"error":{"code":"context_length_exceeded","message":"CANARY"}}')
    one.plays["m1"], two.plays["m1"] = too_long, good
    targets = "{provider: one, model: m1}, {provider: two, model: m1}, {provider: three, model: m3}"
    async with running(config(targets), tmp_path) as gateway:
        assert await ask(gateway) == "three/m3"
    assert [seen.body["model"] for seen in (*one.journal, *two.journal)] == ["m1", "m3"]


async def test_a_prompt_known_to_be_too_long_is_not_sent_at_all(config: Config, tmp_path: Path, one: Upstream) -> None:
    targets = "{provider: one, model: m1, context: 1000}, {provider: two, model: m2, context: 100000}"
    async with running(config(targets), tmp_path) as gateway:
        answer = await gateway.post(body(messages=[{"role": "user", "content": "word " * 2000}]))
        assert answer.headers["x-turnout-target"] == "two/m2"
        assert list(await removed(gateway, answer)) == ["one/m1"]
    assert not one.journal


PIXELS = base64.b64encode(bytes(range(256)) * 400).decode()
PARTS = [
    {"type": "text", "text": "What is it?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXELS}"}},
]


async def test_an_image_s_bytes_are_not_counted_as_text(config: Config, tmp_path: Path, one: Upstream) -> None:
    """136,000 bytes of base64 are about a thousand tokens, not 34,000."""
    targets = "{provider: one, model: m1, context: 8000}, {provider: two, model: m2, context: 100000}"
    async with running(config(targets), tmp_path) as gateway:
        assert await ask(gateway, messages=[{"role": "user", "content": PARTS}]) == "one/m1"


# --- learning -------------------------------------------------------------------------------------------------------------
async def test_a_verbose_model_loses_the_requests_that_its_list_price_had_won(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    async def verbose(x: Exchange) -> None:
        usage = {"prompt_tokens": 20, "completion_tokens": 500, "total_tokens": 520}
        await x.respond(200, json.dumps(completion(usage=usage)).encode())

    one.plays["m1"] = verbose
    targets = (
        "{provider: one, model: m1, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}, "
        "{provider: two, model: m2, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 3}}"
    )
    async with running(config(targets, "objective: cheapest, explore: 1"), tmp_path) as gateway:
        found = [await ask(gateway) for _ in range(12)]
    assert set(found) == {"one/m1", "two/m2"}, "both are measured"
    assert found[-3:] == ["two/m2"] * 3
