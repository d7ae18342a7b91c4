"""Targets that fail are left alone, tried again by one request at a time, and used again soon: over real sockets."""

import asyncio
import time

import httpx2
import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.upstream import Exchange, Upstream, good, silent, status

ASK = [{"role": "user", "content": "Hi"}]
OPEN_S = 2.0  # how long a breaker is open at first


def body(model: str, stream: bool = False) -> dict[str, object]:
    return {"model": model, "messages": ASK, "stream": stream}


def at(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-turnout-target"]


async def opened(gateway: Gateway, one: Upstream) -> float:
    """The breaker of `one` has opened; gives when, at the latest."""
    one.plays["m1"] = status(500)
    while True:
        before = len(one.journal)
        assert at(await gateway.post(body("pair"))) == "two/m2"
        if len(one.journal) == before:
            return time.monotonic()


async def test_with_every_target_down_a_client_is_told_at_once_when_to_come_back(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    one.plays["m1"], two.plays["m2"] = status(500), status(503)
    for _ in range(6):
        answer = await gateway.post(body("pair"))
        assert answer.status_code in (502, 503)
    seen = len(one.journal) + len(two.journal)
    took = []
    for _ in range(5):
        began = time.monotonic()
        answer = await gateway.post(body("pair"))
        took.append(time.monotonic() - began)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
        assert answer.headers["retry-after"] in ("1", "2") and 0 < int(answer.headers["retry-after-ms"]) <= 2000
        assert answer.headers["x-should-retry"] == "true"
    assert len(one.journal) + len(two.journal) == seen, "nobody is asked"
    assert min(took) < 0.05  # the bar is 10 ms; five times that for a busy machine


async def test_in_an_outage_all_are_served_and_the_primary_is_used_again_soon_after_it(gateway: Gateway, one: Upstream) -> None:
    assert at(await gateway.post(body("pair"))) == "one/m1"
    one.plays["m1"] = status(500)
    ends_at = time.monotonic() + 1.0
    while time.monotonic() < ends_at:
        assert at(await gateway.post(body("pair", stream=True))) == "two/m2"
        await asyncio.sleep(0.05)
    assert len(one.journal) <= 1 + 4, "the breaker spares most of them a failed attempt"
    one.plays["m1"] = good
    while at(await gateway.post(body("pair", stream=True))) != "one/m1":
        assert time.monotonic() < ends_at + OPEN_S + 1
        await asyncio.sleep(0.05)
    assert {at(await gateway.post(body("pair"))) for _ in range(5)} == {"one/m1"}


async def test_one_request_at_a_time_tries_a_target_and_one_that_leaves_makes_room(gateway: Gateway, one: Upstream) -> None:
    since = await opened(gateway, one)
    one.plays["m1"] = [silent, good]
    await asyncio.sleep(max(0.0, since + OPEN_S - time.monotonic()))
    seen = len(one.journal)
    leaver = asyncio.create_task(gateway.post(body("pair")))
    async with asyncio.timeout(5):
        while len(one.journal) == seen:
            await asyncio.sleep(0.01)
    others = await asyncio.gather(*(gateway.post(body("pair")) for _ in range(5)))
    assert {at(each) for each in others} == {"two/m2"} and len(one.journal) == seen + 1
    leaver.cancel()
    await asyncio.wait_for(one.journal[-1].gone.wait(), 5)
    assert at(await gateway.post(body("pair"))) == "one/m1"


async def test_a_stream_that_has_begun_lets_the_others_in(gateway: Gateway, one: Upstream) -> None:
    release = asyncio.Event()

    async def long(x: Exchange) -> None:
        await x.start_stream()
        await x.event({"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]})
        await release.wait()
        await x.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await x.event("[DONE]")
        await x.end_stream()

    since = await opened(gateway, one)
    one.plays["m1"] = [long, good]
    await asyncio.sleep(max(0.0, since + OPEN_S - time.monotonic()))
    async with gateway.http.stream(
        "POST", "/v1/chat/completions", json=body("pair", stream=True), headers={"authorization": "Bearer sk-test-key"}
    ) as first:
        async for piece in first.aiter_bytes():
            assert b"Hello" in piece
            break
        assert first.headers["x-turnout-target"] == "one/m1"
        assert at(await gateway.post(body("pair"))) == "one/m1"
        release.set()


@pytest.mark.parametrize("code", [503, 529])
async def test_a_target_that_asks_for_time_is_left_alone_for_it(gateway: Gateway, one: Upstream, code: int) -> None:
    one.plays["m1"] = [status(code, retry_after="1"), good]
    assert at(await gateway.post(body("pair"))) == "two/m2"
    began = time.monotonic()
    assert at(await gateway.post(body("pair"))) == "two/m2" and len(one.journal) == 1
    while at(await gateway.post(body("pair"))) != "one/m1":
        assert time.monotonic() - began < 30
        await asyncio.sleep(0.05)
    assert time.monotonic() - began > 0.9


async def test_what_is_the_request_s_own_fault_does_not_take_its_target_from_others(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = [*[status(code) for code in (400, 404, 413, 422, 400, 404, 413, 422, 400)], good]
    for _ in range(9):
        await gateway.post(body("solo"))
    assert at(await gateway.post(body("solo"))) == "one/m1"
