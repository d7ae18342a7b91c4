"""A deadline and a target that gives nothing: the next one still has its time. And waits that a provider asked for, of whichever key."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion, good, silent, status

ASK = [{"role": "user", "content": "Hi"}]
BOTH = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unary"])
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_keys: [k1, k2]}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
policies: {{p: {{{policy}}}}}
models:
  m: {{policy: p, targets: [{{provider: one, model: m1, {cheap}}}, {{provider: two, model: m2, {dear}}}]}}
  alone: {{targets: [{{provider: one, model: m1}}]}}
teams: {{search: {{keys: [{key}], overrides: true}}}}
"""
CHEAP = "price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1, cache_read_usd_per_mtok: 0.1}"
DEAR = "price: {input_usd_per_mtok: 1.2, output_usd_per_mtok: 1.2, cache_read_usd_per_mtok: 0.12}"
Config = Callable[[str], str]


@pytest.fixture
def config(one: Upstream, two: Upstream, tmp_path: Path) -> Config:
    def text(policy: str) -> str:
        return CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, policy=policy, cheap=CHEAP, dear=DEAR)

    return text


async def ask(gateway: Gateway, stream: bool = False, model: str = "m", **headers: str) -> Any:
    return await gateway.post({"model": model, "messages": ASK, "stream": stream}, **headers)


@BOTH
@pytest.mark.parametrize("policy", ["slo: {deadline_ms: 1000}", "objective: cheapest, explore: 0, slo: {ttft_p95_ms: 300, deadline_ms: 1000}"])
async def test_a_silent_target_leaves_the_next_one_its_time(
    stream: bool, policy: str, config: Config, one: Upstream, two: Upstream, tmp_path: Path
) -> None:
    one.plays["m1"] = silent
    async with running(config(policy), tmp_path) as gateway:
        answers = [await ask(gateway, stream) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert all(answer.headers["x-turnout-target"] == "two/m2" for answer in answers)
    assert 1 <= len(one.journal) < 8  # it was found to be unwell


async def test_a_deadline_that_a_request_brings_says_nothing_of_a_cold_target(config: Config, one: Upstream, two: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = [*[silent] * 6, good]
    async with running(config(""), tmp_path) as gateway:
        hurried = [await ask(gateway, **{"x-turnout-deadline-ms": "300"}) for _ in range(6)]
        assert [answer.status_code for answer in hurried] == [200] * 6
        assert (await ask(gateway)).headers["x-turnout-target"] == "one/m1"


async def test_a_target_that_turned_silent_is_left_at_once(config: Config, one: Upstream, two: Upstream, tmp_path: Path) -> None:
    async with running(config("slo: {deadline_ms: 1000}"), tmp_path) as gateway:
        for _ in range(10):
            assert (await ask(gateway)).headers["x-turnout-target"] == "one/m1"
        one.plays["m1"] = silent
        answers = [await ask(gateway) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8


def stalls(tokens: int, pings: bool = False) -> Play:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for number in range(tokens):
            await x.event(chunk({"content": f" {number}"}))
        while pings and not x.seen.gone.is_set():
            await x.event(chunk({"content": ""}))
            await asyncio.sleep(0.1)
        await x.wait_until_gone()

    return play


@pytest.mark.parametrize("pings", [False, True])
async def test_a_target_that_stalls_unseen_leaves_the_next_one_its_time(
    config: Config, one: Upstream, two: Upstream, tmp_path: Path, pings: bool
) -> None:
    one.plays["m1"] = stalls(20, pings)
    async with running(config("recovery: hold, commit_after_ms: 600, slo: {deadline_ms: 3000}"), tmp_path) as gateway:
        answer = await ask(gateway, stream=True)
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "two/m2" and "Hello" in answer.text
        rows = await gateway.rows(answer.headers["x-request-id"])
    first, second = sorted(rows, key=lambda row: row.attempt)
    assert (first.status, first.error_code, second.status) == ("failed", "upstream_idle_timeout", "ok")
    assert 1.4e6 <= first.end_us < 2.5e6, "half of the time to the deadline"
    assert one.journal[0].gone.is_set()


async def test_a_stream_that_goes_on_is_held_beyond_its_share(config: Config, one: Upstream, two: Upstream, tmp_path: Path) -> None:
    async def steady(x: Exchange) -> None:
        await x.start_stream()
        for number in range(9):
            await x.event(chunk({"content": f" {number}"}))
            await asyncio.sleep(0.2)
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = steady
    async with running(config("recovery: hold, commit_after_ms: 1600, slo: {deadline_ms: 2500}"), tmp_path) as gateway:
        answer = await ask(gateway, stream=True)
    assert answer.headers["x-turnout-target"] == "one/m1" and answer.text.rstrip().endswith("[DONE]")


async def test_a_stall_within_a_deadline_that_the_request_brought_says_nothing_of_its_target(
    config: Config, one: Upstream, two: Upstream, tmp_path: Path
) -> None:
    one.plays["m1"] = [*[stalls(1)] * 4, good]
    async with running(config("recovery: hold, commit_after_ms: 300"), tmp_path) as gateway:
        answers = [await ask(gateway, stream=True, **{"x-turnout-deadline-ms": "1000"}) for _ in range(4)]
        assert {answer.headers["x-turnout-target"] for answer in answers} == {"two/m2"}
        assert (await ask(gateway, stream=True)).headers["x-turnout-target"] == "one/m1"


@BOTH
async def test_a_deadline_that_passes_amid_retries_names_what_failed(stream: bool, config: Config, one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = [status(500), silent]
    async with running(config(""), tmp_path) as gateway:
        answer = await ask(gateway, stream, "alone", **{"x-turnout-deadline-ms": "1000"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (504, "upstream_total_timeout")
    assert "the provider failed (HTTP 500) (upstream_error)" in error["message"] and "CANARY" not in answer.text


# --- several keys --------------------------------------------------------------------------------------------------------------
def by_key(**plays: Play) -> Play:
    async def play(x: Exchange) -> None:
        key = x.seen.head["authorization"].removeprefix("Bearer ")
        times[key] = times.get(key, 0) + 1
        await (plays[key] if times[key] == 1 else good)(x)

    times: dict[str, int] = {}
    return play


QUOTA = json.dumps({"error": {"message": "x", "type": "insufficient_quota", "code": "insufficient_quota"}}).encode()


@pytest.mark.parametrize("second", [status(429, retry_after="1"), status(429, QUOTA)], ids=["limited too", "spent"])
async def test_two_keys_are_waited_for_as_one_would_be(second: Play, config: Config, one: Upstream, two: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = by_key(k1=status(429, retry_after="1"), k2=second)
    async with running(config(""), tmp_path) as gateway:
        answer = await ask(gateway, model="alone")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-turnout-attempts"] == "3"


# --- caches that are none ------------------------------------------------------------------------------------------------------
async def test_a_conversation_leaves_a_target_whose_cache_holds_nothing(config: Config, one: Upstream, two: Upstream, tmp_path: Path) -> None:
    """The dearer target answered its first turn, and would be cheaper for the next ones if it kept a cache, as its price list says."""

    def answer(prompt_tokens: int) -> bytes:
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 5,
            "total_tokens": prompt_tokens + 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        return json.dumps(completion(usage=usage)).encode()

    prompt = "word " * 2000
    one.plays["m1"] = [status(429, retry_after="1"), status(429, retry_after="1"), status(200, answer(2000))]
    two.plays["m2"] = status(200, answer(2000))
    targets = []
    async with running(config("objective: cheapest, explore: 0"), tmp_path) as gateway:
        for turn in range(12):
            messages = [{"role": "user", "content": prompt + " more" * turn}]
            answered = await gateway.post({"model": "m", "messages": messages, "max_tokens": 10})
            targets.append(answered.headers["x-turnout-target"])
            if turn == 0:
                await asyncio.sleep(1.1)  # its keys rest
    assert targets[0] == "two/m2"
    assert targets[-1] == "one/m1"
