"""A second attempt beside the first: the first real output wins, the other is stopped at once, and both are in the books."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, good, silent, status

ASK = [{"role": "user", "content": "Hi"}]
AFTER_S = 0.1
PROMPT_S = 0.5  # what takes 50 ms, on a machine that is ten times too busy
PRICE = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
  three: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  pair: {{policy: fast, targets: [{{provider: one, model: m1{price}}}, {{provider: two, model: m2{price}}}, {{provider: three, model: m3{price}}}]}}
policies: {{fast: {{hedge: {{after: {after}, max_extra_spend: {share}}}, {more}}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
Config = Callable[..., str]


@pytest.fixture
def config(one: Upstream, two: Upstream, tmp_path: Path) -> Config:
    def text(after: str = "100", share: float = 1, price: str = PRICE, more: str = "") -> str:
        price = f", {price}" if price else ""
        return CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, after=after, share=share, price=price, more=more)

    return text


def body(stream: bool = True) -> dict[str, Any]:
    return {"model": "pair", "messages": ASK, "stream": stream}


def after(delay_s: float, play: Play = good) -> Play:
    async def delayed(x: Exchange) -> None:
        await asyncio.sleep(delay_s)
        await play(x)

    return delayed


class Leaving:
    """Says nothing, and notes when the gateway closed the connection."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.gone: list[float] = []

    async def __call__(self, x: Exchange) -> None:
        self.began.append(monotonic())
        await x.wait_until_gone()
        self.gone.append(monotonic())


async def trail(gateway: Gateway, request_id: str) -> list[tuple[int, str, str, str]]:
    return [(row.attempt, row.target, row.status, row.billed) for row in sorted(await gateway.rows(request_id), key=lambda row: row.attempt)]


async def settled(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not seen():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_second_starts_after_its_time_and_its_answer_is_the_client_s(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, stream: bool
) -> None:
    loser = one.plays["m1"] = Leaving()
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body(stream))
        answered_at = monotonic()
        assert answer.status_code == 200 and "Hello" in answer.text
        assert answer.headers["x-turnout-target"] == "two/m2" and answer.headers["x-turnout-decision"] == "hedge after 100 ms"
        await settled(lambda: bool(loser.gone))
        rows = await gateway.rows(answer.headers["x-request-id"])
    started = {row.target: row.started_at_us for row in rows}
    assert (started["two"] - started["one"]) / 1e6 == pytest.approx(AFTER_S, abs=PROMPT_S)
    assert started["two"] - started["one"] >= AFTER_S * 1e6 * 0.95
    assert loser.gone[0] - answered_at < PROMPT_S


async def test_both_are_in_the_ledger_the_winner_for_the_team_and_the_loser_for_the_gateway(config: Config, tmp_path: Path, one: Upstream) -> None:
    one.plays["m1"] = silent
    async with running(config(), tmp_path) as gateway:
        request_id = (await gateway.post(body())).headers["x-request-id"]
        assert await trail(gateway, request_id) == [(1, "one", "abandoned", "gateway"), (2, "two", "ok", "team")]


async def test_the_first_wins_when_its_output_comes_before_the_second_s(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = after(0.3)
    loser = two.plays["m2"] = Leaving()
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "one/m1" and answer.headers["x-turnout-decision"] == "first in order"
        assert answer.headers["x-turnout-attempts"] == "2", "as the ledger counts them"
        await settled(lambda: bool(loser.gone))
        assert await trail(gateway, answer.headers["x-request-id"]) == [(1, "one", "ok", "team"), (2, "two", "abandoned", "gateway")]


async def test_no_second_starts_where_the_first_answers_in_time(config: Config, tmp_path: Path, two: Upstream) -> None:
    async with running(config(after="2000"), tmp_path) as gateway:
        answers = [await gateway.post(body(stream)) for stream in (True, False)]
        assert {answer.headers["x-turnout-attempts"] for answer in answers} == {"1"} and not two.journal


async def test_a_preamble_does_not_win(config: Config, tmp_path: Path, one: Upstream) -> None:
    """Headers, a role and comments come at once; real output never."""

    async def preamble(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": ""}))
        await x.raw_chunk(b": still here\n\n")
        await x.wait_until_gone()

    one.plays["m1"] = preamble
    async with running(config(), tmp_path) as gateway:
        assert (await gateway.post(body())).headers["x-turnout-target"] == "two/m2"


async def test_a_client_that_leaves_stops_both(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    both = one.plays["m1"] = two.plays["m2"] = Leaving()
    async with running(config(), tmp_path) as gateway:
        asking = asyncio.create_task(gateway.post(body()))
        await settled(lambda: len(both.began) == 2)
        asking.cancel()
        left_at = monotonic()
        await settled(lambda: len(both.gone) == 2)
        assert max(both.gone) - left_at < 2 * PROMPT_S
        await settled(lambda: gateway.runtime.ledger.pending == 0)
        rows = await gateway.all_rows()
    assert [(row.target, row.status) for row in rows] == [("one", "client_closed"), ("two", "client_closed")]


async def test_the_first_failing_leaves_the_race_to_the_second(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = after(0.2, status(500)), after(0.3)
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "two/m2"
        assert await trail(gateway, answer.headers["x-request-id"]) == [(1, "one", "failed", "gateway"), (2, "two", "ok", "team")]


async def test_the_second_failing_leaves_the_race_to_the_first(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = after(0.4), status(500)
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "one/m1"
        assert await trail(gateway, answer.headers["x-request-id"]) == [(1, "one", "ok", "team"), (2, "two", "failed", "gateway")]


async def test_both_failing_goes_on_with_the_next_target(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = after(0.2, status(401)), after(0.3, status(401))
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "three/m3"
        assert [row[1:3] for row in await trail(gateway, answer.headers["x-request-id"])] == [("one", "failed"), ("two", "failed"), ("three", "ok")]


FILTERED = status(400, b'{"error":{"code":"content_filter","message":"CANARY","type":"invalid_request_error"}}')
NO_PREFILL = status(400, b'{"error":{"code":null,"message":"assistant prefill is not supported","type":"invalid_request_error"}}')


@pytest.mark.parametrize("verdict_of", ["first", "second"])
async def test_a_content_filter_s_verdict_ends_the_race(config: Config, tmp_path: Path, one: Upstream, two: Upstream, verdict_of: str) -> None:
    """It is not got around by asking two at once."""
    filtered, slow = after(0.2, FILTERED), after(0.6)
    one.plays["m1"], two.plays["m2"] = (filtered, slow) if verdict_of == "first" else (slow, filtered)
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "content_policy_violation"
        assert answer.headers["x-turnout-attempts"] == "2" and answer.json()["error"]["attempts"] == 2, "as in the ledger"
        statuses = ["failed", "abandoned"] if verdict_of == "first" else ["abandoned", "failed"]
        assert [row[1:3] for row in await trail(gateway, answer.headers["x-request-id"])] == list(zip(["one", "two"], statuses, strict=True))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("refusal", [status(400), status(413), NO_PREFILL], ids=["400", "413", "no prefill"])
async def test_a_second_runner_that_refuses_leaves_the_race_to_the_first(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, refusal: Play, stream: bool
) -> None:
    one.plays["m1"], two.plays["m2"] = after(2.0), refusal
    async with running(config(price="price: free"), tmp_path) as gateway:
        answer = await gateway.post(body(stream))
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "one/m1" and "Hello" in answer.text
        assert await trail(gateway, answer.headers["x-request-id"]) == [(1, "one", "ok", "team"), (2, "two", "failed", "gateway")]


async def test_a_first_that_refuses_leaves_the_race_to_a_second_that_runs(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = after(0.2, status(400)), after(0.5)
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "two/m2"
        assert await trail(gateway, answer.headers["x-request-id"]) == [(1, "one", "failed", "gateway"), (2, "two", "ok", "team")]


FIELD = status(422, b'{"error":{"message":"x","type":"t","code":null,"param":"temperature"}}')


@pytest.mark.parametrize(
    ("first_s", "second_s", "second"),
    [(0.6, 0.0, status(400)), (0.2, 0.5, status(400)), (0.6, 0.0, status(500)), (0.2, 0.5, status(500)), (0.2, 0.5, status(503))],
    ids=["both, the second sooner", "both, the first sooner", "the second fails sooner", "the second fails later", "the second is overloaded later"],
)
async def test_where_nobody_of_the_race_answers_the_first_s_refusal_is_the_client_s(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, first_s: float, second_s: float, second: Play
) -> None:
    """As without a hedge: nobody else is asked for it."""
    one.plays["m1"], two.plays["m2"] = after(first_s, FIELD), after(second_s, second)
    async with running(config(), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "temperature"
        assert answer.headers["x-turnout-attempts"] == "2" and len(two.journal) == 1
        assert [row[1:3] for row in await trail(gateway, answer.headers["x-request-id"])] == [("one", "failed"), ("two", "failed")]


@pytest.mark.parametrize("first", [silent, after(0.8, status(500))], ids=["silent", "failing beside the second"])
async def test_the_time_that_a_race_takes_is_not_told_as_the_gateway_s_own(
    config: Config, tmp_path: Path, one: Upstream, two: Upstream, first: Play
) -> None:
    one.plays["m1"], two.plays["m2"] = first, after(0.5)
    async with running(config(after="600"), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "two/m2"
        assert 0 <= float(answer.headers["x-turnout-overhead-ms"]) < 300


# --- what it may cost ---------------------------------------------------------------------------------------------------
async def test_without_a_budget_one_is_hedged_at_most(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = after(1.0)
    two.plays["m2"] = silent
    async with running(config(share=0.000001), tmp_path) as gateway:
        for _ in range(4):
            assert (await gateway.post(body())).headers["x-turnout-target"] == "one/m1"
    assert len(two.journal) == 1


async def test_requests_at_the_same_moment_share_one_budget(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    one.plays["m1"] = after(0.3)
    two.plays["m2"] = silent
    async with running(config(share=0.000001), tmp_path) as gateway:
        answers = await asyncio.gather(*(gateway.post(body()) for _ in range(8)))
    assert {answer.headers["x-turnout-target"] for answer in answers} == {"one/m1"}
    assert len(two.journal) == 1


async def test_however_requests_end_nothing_of_them_runs_on(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    """Answered, failed, overtaken or left alone, at the same time: each attempt is over once, and each has its row."""
    plays = [good, good, good, after(0.15), after(0.3), after(0.2, status(400)), after(0.15, status(500))]
    draws = Random(7)
    one.plays["m1"] = two.plays["m2"] = two.plays["m3"] = lambda x: draws.choice(plays)(x)

    async def ask(gateway: Gateway, number: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(draws.choice((0.12, 0.25, 5, 5))):
                await gateway.post(body(stream=number % 2 == 0))

    async with running(config(price=""), tmp_path) as gateway:
        for _ in range(5):
            await asyncio.gather(*(ask(gateway, number) for number in range(16)))
        targets = gateway.runtime.routes.exact["pair"].targets
        await settled(lambda: not any(target.health.running for target in targets))
        rows = await gateway.all_rows()
    by_request: dict[str, list[Any]] = {}
    for row in rows:
        by_request.setdefault(row.request_id, []).append(row)
    for mine in by_request.values():
        mine.sort(key=lambda row: row.attempt)
        assert [row.attempt for row in mine] in (list(range(1, len(mine) + 1)), [0])
        assert sum(row.status == "ok" for row in mine) <= 1
        assert not any(row.error_code == "server_shutting_down" for row in mine)
    assert {row.status for row in rows} == {"ok", "failed", "abandoned", "client_closed"}, "all of it happened"


# --- the predicted p95 --------------------------------------------------------------------------------------------------
async def test_after_the_predicted_p95_a_slow_answer_is_overtaken(config: Config, tmp_path: Path, one: Upstream) -> None:
    async with running(config(after="p95"), tmp_path) as gateway:
        assert {(await gateway.post(body())).headers["x-turnout-target"] for _ in range(5)} == {"one/m1"}
        one.plays["m1"] = silent
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "two/m2" and answer.headers["x-turnout-decision"].startswith("hedge after ")


async def test_a_slow_answer_that_was_overtaken_still_teaches_that_it_was_slow(config: Config, tmp_path: Path, one: Upstream) -> None:
    """Else each p95 would leave out what exceeded the last one, and shrink until every request is hedged."""
    one.plays["m1"] = silent
    async with running(config(after="300"), tmp_path) as gateway:
        assert (await gateway.post(body())).headers["x-turnout-target"] == "two/m2"
        target = gateway.runtime.routes.exact["pair"].targets[0]
        forecast = target.stats.forecast(monotonic(), streamed=True, prompt_tokens=10, load=0)
        assert forecast.ttft_mean_s is not None and forecast.ttft_mean_s >= 0.25


SLOW_FIRST = "objective: ordered, slo: {ttft_p95_ms: 400}"


async def test_a_first_that_always_loses_to_its_hedge_is_learnt_as_slow(config: Config, tmp_path: Path, one: Upstream) -> None:
    """Also by a gateway that starts anew, from the ledger."""
    one.plays["m1"] = after(1)
    yaml = config(after="300", price="price: free", more=SLOW_FIRST)
    async with running(yaml, tmp_path) as gateway:
        answers = [await gateway.post(body()) for _ in range(14)]
        assert {answer.headers["x-turnout-target"] for answer in answers} == {"two/m2"}
        assert [answer.headers["x-turnout-attempts"] for answer in answers[-5:]] == ["1"] * 5, "nobody waits for the first any more"
        assert 3 <= len(one.journal) <= 6
    asked = len(one.journal)
    async with running(yaml, tmp_path) as gateway:
        assert (await gateway.post(body())).headers["x-turnout-attempts"] == "1" and len(one.journal) == asked


# --- with hold ----------------------------------------------------------------------------------------------------------
async def test_an_answer_that_is_held_back_is_not_hedged_for_it(config: Config, tmp_path: Path, one: Upstream, two: Upstream) -> None:
    async def steady(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": ""}))
        for number in range(10):
            await x.event(chunk({"content": f" {number}"}))
            await asyncio.sleep(0.05)
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = steady
    async with running(config(more="recovery: hold, commit_after_ms: 300"), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "one/m1" and not two.journal
        parts = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        assert "".join(c["delta"].get("content", "") for part in parts for c in part["choices"]) == " 0 1 2 3 4 5 6 7 8 9"


# --- with continue --------------------------------------------------------------------------------------------------------
CONTINUED = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}, two: {{kind: vllm, base_url: "{two}"}}}}
models: {{pair: {{policy: p, targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}}}
policies: {{p: {{recovery: continue, hedge: {{after: 100, max_extra_spend: 1}}}}}}
teams: {{search: {{keys: [{key}]}}}}
"""


async def test_who_only_lost_the_race_may_go_on_with_a_cut_answer(tmp_path: Path, one: Upstream, two: Upstream) -> None:
    async def cut(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
        await asyncio.sleep(0.05)
        x.reset()

    one.plays["m1"], two.plays["m2"] = after(0.3, cut), [silent, good]
    async with running(CONTINUED.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "one/m1" and answer.text.rstrip().endswith("[DONE]")
        trail_ = [row[1:3] for row in await trail(gateway, answer.headers["x-request-id"])]
    assert trail_ == [("one", "cut"), ("two", "abandoned"), ("two", "ok")]
