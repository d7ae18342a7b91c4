"""Requests that are the same at the same time share one upstream; each has its own deadline, and leaves by itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.caching_world import ASKED, COST, STREAMED, Gate, row_of, under_way, until, use, world
from tests.gateway.conftest import KEY, Gateway
from tests.gateway.upstream import Exchange, Upstream, chunk, good, status

DEADLINE = {"x-turnout-deadline-ms": "300"}


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with world(tmp_path, one) as gateway:
        yield gateway


@pytest.fixture
def gate(one: Upstream) -> Gate:
    gate = Gate()
    one.plays["m1"] = gate
    return gate


def asks(gateway: Gateway, body: dict[str, Any], **kwargs: Any) -> "asyncio.Task[httpx2.Response]":
    return asyncio.create_task(gateway.post(body, **kwargs))


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_a_herd_shares_one_upstream(gateway: Gateway, one: Upstream, gate: Gate, body: dict[str, Any]) -> None:
    tasks = [asks(gateway, body) for _ in range(20)]
    await until(under_way(gateway, 20))
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert sorted(use(each) for each in answers) == ["join"] * 19 + ["miss"]
    assert len(one.journal) == 1 and len({each.content for each in answers}) == 1
    assert len({each.headers["x-request-id"] for each in answers}) == 20
    assert use(await gateway.post(body)) == "hit"


async def test_the_ledger_has_one_cost_and_what_the_others_saved(gateway: Gateway, gate: Gate) -> None:
    tasks = [asks(gateway, ASKED) for _ in range(3)]
    await until(under_way(gateway, 3))
    gate.open.set()
    rows = [await row_of(gateway, each) for each in await asyncio.gather(*tasks)]
    leader = next(row for row in rows if row.cache == "miss")
    joined = [row for row in rows if row.cache == "join"]
    assert (leader.cost_nusd, leader.saved_nusd, leader.target) == (COST, None, "one")
    assert [(row.cost_nusd, row.saved_nusd, row.target, row.status) for row in joined] == [(0, COST, "cache", "ok")] * 2


async def test_who_joins_a_stream_hears_it_from_its_beginning_as_it_flows(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    first = asks(gateway, STREAMED)
    await gate.asked.wait()
    async with await gateway.sdk.chat.completions.create(**STREAMED) as stream:
        words = aiter(stream)
        assert (await anext(words)).choices[0].delta.content == "Hello"  # while the upstream still holds back the rest
        assert not gate.open.is_set()
        gate.open.set()
        assert (await anext(words)).choices[0].delta.content == " there"
        async for _ in words:
            pass
    await first
    assert len(one.journal) == 1


async def test_teams_do_not_join_one_another(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    tasks = [asks(gateway, ASKED, key=key) for key in (KEY, "sk-other")]
    await until(lambda: len(one.journal) == 2)
    gate.open.set()
    assert [use(each) for each in await asyncio.gather(*tasks)] == ["miss", "miss"]


async def test_what_goes_by_the_cache_joins_nobody(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    first = asks(gateway, ASKED)
    await gate.asked.wait()
    second = asks(gateway, ASKED, **{"cache-control": "no-cache"})
    await until(lambda: len(one.journal) == 2)
    gate.open.set()
    assert [use(await first), use(await second)] == ["miss", "bypass"]


async def test_a_policy_may_do_without(one: Upstream, gate: Gate, tmp_path: Path) -> None:
    async with world(tmp_path, one, cache="single_flight: false") as gateway:
        tasks = [asks(gateway, ASKED) for _ in range(3)]
        await until(lambda: len(one.journal) == 3)
        gate.open.set()
        assert [use(each) for each in await asyncio.gather(*tasks)] == ["miss"] * 3
        assert use(await gateway.post(ASKED)) == "hit"


# --- who leaves --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_the_leader_s_leaving_does_not_end_the_others(gateway: Gateway, one: Upstream, gate: Gate, body: dict[str, Any]) -> None:
    leader = asks(gateway, body)
    await gate.asked.wait()
    followers = [asks(gateway, body) for _ in range(2)]
    await until(under_way(gateway, 3))
    leader.cancel()
    await until(under_way(gateway, 2))
    gate.open.set()
    answers = await asyncio.gather(*followers)
    assert [(each.status_code, use(each)) for each in answers] == [(200, "join")] * 2
    assert "there" in answers[0].text and len(one.journal) == 1
    rows = [row for row in await gateway.all_rows() if row.cache == "miss"]
    assert [(row.status, row.cost_nusd) for row in rows] == [("ok", COST)]  # it was asked for, and it is paid, once


async def test_a_follower_s_leaving_ends_nothing(gateway: Gateway, gate: Gate) -> None:
    leader = asks(gateway, ASKED)
    await gate.asked.wait()
    follower = asks(gateway, ASKED)
    await until(under_way(gateway, 2))
    follower.cancel()
    await until(under_way(gateway, 1))
    gate.open.set()
    assert (await leader).status_code == 200
    joined = [row for row in await gateway.all_rows() if row.cache == "join"]
    assert [(row.status, row.cost_nusd, row.saved_nusd) for row in joined] == [("client_closed", 0, None)]


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_when_nobody_waits_any_more_the_upstream_is_stopped(gateway: Gateway, one: Upstream, gate: Gate, body: dict[str, Any]) -> None:
    tasks = [asks(gateway, body) for _ in range(3)]
    await until(under_way(gateway, 3))
    await gate.asked.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait_for(one.journal[0].gone.wait(), 10)
    rows: list[Any] = []
    while len(rows) < 3:
        rows = await gateway.all_rows()
    assert sorted((row.cache, row.status) for row in rows) == [("join", "client_closed")] * 2 + [("miss", "client_closed")]
    gate.open.set()
    assert use(await gateway.post(body)) == "miss"


# --- deadlines ---------------------------------------------------------------------------------------------------------------
async def test_a_follower_has_its_own_deadline(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    leader = asks(gateway, ASKED)
    await gate.asked.wait()
    late = await gateway.post(ASKED, **DEADLINE)
    assert late.status_code == 504 and late.json()["error"]["code"] == "upstream_total_timeout"
    assert not leader.done()
    gate.open.set()
    assert (await leader).status_code == 200 and len(one.journal) == 1
    row = await row_of(gateway, late)
    assert (row.status, row.cache, row.client_status, row.cost_nusd) == ("failed", "join", 504, 0)


async def test_a_follower_s_deadline_within_a_stream_is_told_in_it(gateway: Gateway, gate: Gate) -> None:
    leader = asks(gateway, STREAMED)
    await gate.asked.wait()
    late = await gateway.post(STREAMED, **DEADLINE)
    assert late.status_code == 200 and "upstream_total_timeout" in late.text and "[DONE]" not in late.text
    assert not leader.done()
    gate.open.set()
    assert (await leader).text.endswith("data: [DONE]\n\n")
    row = await row_of(gateway, late)
    assert (row.status, row.error_code) == ("cut", "upstream_total_timeout")


async def test_when_the_leader_s_time_is_over_one_who_has_more_leads(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    one.plays["m1"] = [Gate(), good]
    leader = asks(gateway, ASKED, **DEADLINE)
    await until(lambda: len(one.journal) == 1)
    followers = [asks(gateway, ASKED) for _ in range(3)]
    assert (await leader).status_code == 504
    answers = await asyncio.gather(*followers)
    assert [each.status_code for each in answers] == [200] * 3 and len(one.journal) == 2
    assert sorted(use(each) for each in answers) == ["join", "join", "miss"]


# --- failures ----------------------------------------------------------------------------------------------------------------
async def test_when_the_leader_fails_one_of_the_others_leads(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    gate.rest = status(502)
    one.plays["m1"] = [gate, good]
    tasks = [asks(gateway, ASKED) for _ in range(5)]
    await until(under_way(gateway, 5))
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert sorted(each.status_code for each in answers) == [200] * 4 + [502] and len(one.journal) == 2
    assert sorted(use(each) for each in answers if each.status_code == 200) == ["join"] * 3 + ["miss"]


async def test_a_herd_before_an_upstream_that_fails_asks_it_twice(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    second = Gate(status(502))
    gate.rest = status(502)
    one.plays["m1"] = [gate, second]
    tasks = [asks(gateway, ASKED) for _ in range(10)]
    await until(under_way(gateway, 10))
    gate.open.set()
    await second.asked.wait()
    await until(under_way(gateway, 9))
    second.open.set()
    answers = await asyncio.gather(*tasks)
    assert [each.status_code for each in answers] == [502] * 10 and len(one.journal) == 2
    rows = [row for row in await gateway.all_rows() if row.cache == "join"]
    assert [(row.status, row.error_code, row.client_status) for row in rows] == [("failed", "upstream_error", 502)] * 8


async def test_what_would_be_refused_again_is_not_asked_again(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    gate.rest = status(400)
    tasks = [asks(gateway, ASKED) for _ in range(5)]
    await until(under_way(gateway, 5))
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert [each.status_code for each in answers] == [400] * 5 and len(one.journal) == 1
    assert len({each.json()["error"]["request_id"] for each in answers}) == 5


async def test_a_cut_is_a_cut_for_all_who_heard_it(gateway: Gateway, one: Upstream) -> None:
    opened = asyncio.Event()

    async def cut(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
        await opened.wait()
        x.reset()

    one.plays["m1"] = [cut, good]
    tasks = [asks(gateway, STREAMED) for _ in range(3)]
    await until(under_way(gateway, 3))
    opened.set()
    answers = await asyncio.gather(*tasks)
    assert all("upstream_stream_truncated" in each.text and "[DONE]" not in each.text for each in answers)
    assert {(await row_of(gateway, each)).status for each in answers} == {"cut"}
    gateway.heal()
    assert use(await gateway.post(STREAMED)) == "miss"


async def test_a_tool_s_call_is_shared_while_it_is_made_and_not_kept(gateway: Gateway, one: Upstream, gate: Gate) -> None:
    async def calls(x: Exchange) -> None:
        call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message}]}
        body["choices"][0]["finish_reason"] = "tool_calls"  # type: ignore[index]
        await x.respond(200, json.dumps(body).encode())

    gate.rest = calls
    tasks = [asks(gateway, ASKED) for _ in range(2)]
    await until(under_way(gateway, 2))
    gate.open.set()
    assert sorted(use(each) for each in await asyncio.gather(*tasks)) == ["join", "miss"]
    assert use(await gateway.post(ASKED)) == "miss"


async def test_an_answer_too_long_to_keep_reaches_all(gateway: Gateway, one: Upstream) -> None:
    """Of three megabytes nobody who came later could hear the beginning: it is asked for anew."""
    opened, sent = asyncio.Event(), asyncio.Event()

    async def long(x: Exchange) -> None:
        await x.start_stream()
        for number in range(30):
            await x.event(chunk({"content": "x" * 100_000}))
            if number == 0:
                await opened.wait()
        sent.set()
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = [long, good]
    tasks = [asks(gateway, STREAMED) for _ in range(3)]
    await until(under_way(gateway, 3))
    opened.set()
    answers = await asyncio.gather(*tasks)
    assert len({each.content for each in answers}) == 1 and len(answers[0].content) > 3_000_000 and len(one.journal) == 1
    assert use(await gateway.post(STREAMED)) == "miss"


async def test_a_server_that_stops_ends_what_is_under_way(one: Upstream, gate: Gate, tmp_path: Path) -> None:
    async with world(tmp_path, one) as gateway:
        tasks = [asks(gateway, STREAMED) for _ in range(2)]
        await until(under_way(gateway, 2))
        await gate.asked.wait()
    await asyncio.wait(tasks)
    await asyncio.wait_for(one.journal[0].gone.wait(), 10)
    for task in tasks:
        task.cancelled() or task.exception()
