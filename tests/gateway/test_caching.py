"""Kept answers: who gets one, what it costs, and what is never kept. Over real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic

from tests.gateway import anthropic_upstream as up
from tests.gateway.caching_world import ASKED, COST, STREAMED, row_of, until, use, world
from tests.gateway.conftest import KEY, Gateway
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion, good, status


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["c1"] = up.says(up.text("Hello there"))
    async with world(tmp_path, one) as gateway:
        yield gateway


async def test_who_asks_the_same_again_gets_the_kept_answer(gateway: Gateway, one: Upstream) -> None:
    first, second = await gateway.post(ASKED), await gateway.post(ASKED)
    assert (use(first), use(second)) == ("miss", "hit")
    assert first.content == second.content and len(one.journal) == 1
    assert first.headers["content-type"] == second.headers["content-type"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert (second.headers["x-turnout-attempts"], second.headers["x-turnout-cost-usd"]) == ("0", "0.000000000")
    assert first.headers["x-request-id"] in second.headers["x-turnout-decision"]
    assert second.headers["x-turnout-target"] == "one/m1" and second.headers["age"] == "0"


async def test_a_hit_costs_nothing_and_the_ledger_knows_what_it_saved(gateway: Gateway) -> None:
    first, second = await row_of(gateway, await gateway.post(ASKED)), await row_of(gateway, await gateway.post(ASKED))
    assert (first.cache, first.cost_nusd, first.saved_nusd) == ("miss", COST, None)
    assert (second.cache, second.cost_nusd, second.saved_nusd) == ("hit", 0, COST)
    assert (second.target, second.attempt, second.status, second.client_status) == ("cache", 0, "ok", 200)
    assert second.bytes_client == first.bytes_client and second.usage is None


async def test_a_stream_is_kept_event_by_event(gateway: Gateway, one: Upstream) -> None:
    told = []
    for _ in range(2):
        async with gateway.sdk.chat.completions.with_streaming_response.create(**STREAMED) as raw:
            told.append((raw.headers["x-turnout-cache"], [event.choices[0].delta.content async for event in await raw.parse() if event.choices]))
    assert [cache for cache, _ in told] == ["miss", "hit"]
    assert told[0][1] == told[1][1] and "".join(word or "" for word in told[0][1]) == "Hello there"
    assert len(one.journal) == 1


async def test_a_stream_and_a_whole_answer_are_kept_apart(gateway: Gateway) -> None:
    answers = [await gateway.post(body) for body in (ASKED, STREAMED, ASKED, STREAMED)]
    assert [use(answer) for answer in answers] == ["miss", "miss", "hit", "hit"]
    assert answers[2].json()["choices"] and answers[3].content.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("model", ["claude", "solo"])
async def test_each_dialect_gets_its_own(gateway: Gateway, one: Upstream, model: str) -> None:
    """Anthropic's by its SDK, from a provider of its dialect and from one of another; a chat request beside it is another request."""
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as sdk:
        for cache in ("miss", "hit"):
            raw = await sdk.messages.with_raw_response.create(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hello?"}])
            message = await raw.parse()
            assert raw.headers["x-turnout-cache"] == cache
            assert message.content[0].text == "Hello there"  # type: ignore[union-attr]
        for cache in ("miss", "hit"):
            async with sdk.messages.stream(model=model, max_tokens=9, messages=[{"role": "user", "content": "Hello?"}]) as stream:
                assert await stream.get_final_text() == "Hello there"
                assert stream.response.headers["x-turnout-cache"] == cache
    chat = await gateway.post({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hello?"}]})
    assert use(chat) == "miss" and chat.json()["choices"][0]["message"]["content"] == "Hello there"
    assert len(one.journal) == 3


async def test_responses_and_embeddings_are_kept_too(gateway: Gateway, one: Upstream) -> None:
    async def embeds(x: Exchange) -> None:
        if not x.seen.head[":path"].endswith("/embeddings"):
            return await good(x)
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
        return await x.respond(200, json.dumps({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1}}).encode())

    one.plays["m1"] = embeds
    responses = [await gateway.sdk.responses.with_raw_response.create(model="solo", input="Hello?") for _ in range(2)]
    assert [use(each) for each in responses] == ["miss", "hit"]
    assert responses[0].parse().id == responses[1].parse().id
    embedded = [await gateway.sdk.embeddings.with_raw_response.create(model="solo", input="Hello?") for _ in range(2)]
    assert [use(each) for each in embedded] == ["miss", "hit"] and len(one.journal) == 2


async def test_the_order_of_members_and_white_space_make_no_other_request(gateway: Gateway) -> None:
    body = b'{ "messages" : [ { "role":"user", "content":"Hello?" } ],\n "model":"solo" }'
    assert [use(await gateway.post(ASKED)), use(await gateway.post(body))] == ["miss", "hit"]


SAME: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"user": "u1"},
    {"metadata": {"a": "b"}},
    {"max_tokens": 7},
    {"seed": 1},
    {"messages": [{"role": "system", "content": "Be brief."}, *ASKED["messages"]]},
    {"messages": [{"role": "user", "content": "Hello!"}]},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    {"model": "claude"},
]


@pytest.mark.parametrize("other", SAME, ids=lambda other: next(iter(other)))
async def test_whatever_differs_in_the_body_makes_another_request(gateway: Gateway, other: dict[str, Any]) -> None:
    assert use(await gateway.post(ASKED)) == "miss"
    assert use(await gateway.post(ASKED | other)) == "miss"
    assert use(await gateway.post(ASKED | other)) == "hit"


async def test_teams_do_not_share_and_a_team_s_keys_do(gateway: Gateway, one: Upstream) -> None:
    keys = (KEY, "sk-other", "sk-search-2", "sk-other", KEY)
    assert [use(await gateway.post(ASKED, key=key)) for key in keys] == ["miss", "miss", "hit", "hit", "hit"]
    assert len(one.journal) == 2


async def test_a_policy_without_cache_says_nothing_of_it(gateway: Gateway, one: Upstream) -> None:
    answers = [await gateway.post(ASKED | {"model": "plain"}) for _ in range(2)]
    assert all("x-turnout-cache" not in answer.headers for answer in answers) and len(one.journal) == 2
    assert (await row_of(gateway, answers[0])).cache is None


@pytest.mark.parametrize("said", ["no-cache", "no-store", "max-age=0, No-Store"])
async def test_a_request_may_go_by_the_cache(gateway: Gateway, one: Upstream, said: str) -> None:
    await gateway.post(ASKED)
    answer = await gateway.post(ASKED, **{"cache-control": said})
    assert use(answer) == "bypass" and len(one.journal) == 2
    assert (await row_of(gateway, answer)).cache == "bypass"
    assert use(await gateway.post(ASKED)) == "hit"


@pytest.mark.parametrize("body", [ASKED | {"store": False}, ASKED | {"store": True}])
async def test_what_is_stored_elsewhere_or_must_not_be_is_not_kept(gateway: Gateway, one: Upstream, body: dict[str, Any]) -> None:
    assert [use(await gateway.post(body)) for _ in range(2)] == ["bypass", "bypass"] and len(one.journal) == 2


async def test_an_answer_to_an_earlier_one_is_not_kept(gateway: Gateway, one: Upstream) -> None:
    first = await gateway.sdk.responses.create(model="solo", input="Hello?")
    for _ in range(2):
        raw = await gateway.sdk.responses.with_raw_response.create(model="solo", input="And?", previous_response_id=first.id)
        assert use(raw) == "bypass"
    assert len(one.journal) == 3


CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answers(message: dict[str, Any], finish: str = "stop") -> Play:
    async def play(x: Exchange) -> None:
        if not x.seen.body.get("stream"):
            choices = [{"index": 0, "message": {"role": "assistant", "content": "Hello", **message}, "finish_reason": finish}]
            return await x.respond(200, json.dumps(completion() | {"choices": choices}).encode())
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello", **message}))
        await x.event(chunk({}, finish=finish))
        await x.event("[DONE]")
        return await x.end_stream()

    return play


async def cut(x: Exchange) -> None:
    if not x.seen.body.get("stream"):
        await x.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"id":')
    else:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
    x.reset()


NEVER: dict[str, Play] = {
    "an error": status(500),
    "a refusal": status(400),
    "a cut": cut,
    "a tool's call": answers({"tool_calls": [CALL]}, "tool_calls"),
    "a tool's call that ends as if it were none": answers({"tool_calls": [CALL]}),
    "too short": answers({}, "length"),
    "filtered": answers({}, "content_filter"),
}


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
@pytest.mark.parametrize("play", NEVER.values(), ids=NEVER)
async def test_what_is_no_whole_plain_answer_is_never_kept(gateway: Gateway, one: Upstream, play: Play, body: dict[str, Any]) -> None:
    one.plays["m1"] = [play, good]
    first = await gateway.post(body)
    gateway.heal()
    second = await gateway.post(body)
    assert use(first) == use(second) == "miss" and len(one.journal) == 2
    assert first.content != second.content
    assert use(await gateway.post(body)) == "hit"


async def test_an_answer_that_only_speaks_of_tools_is_kept(gateway: Gateway, one: Upstream) -> None:
    text = 'say {"tool_calls": [{"type": "tool_use"}]}'
    one.plays["m1"] = answers({"content": text, "tool_calls": []})
    told = [await gateway.post(ASKED) for _ in range(2)]
    assert [use(each) for each in told] == ["miss", "hit"] and told[1].json()["choices"][0]["message"]["content"] == text


async def test_an_answer_has_its_time(one: Upstream, tmp_path: Path) -> None:
    async with world(tmp_path, one, cache="ttl_s: 0.2") as gateway:
        assert use(await gateway.post(ASKED)) == "miss"
        uses: list[str] = []
        while "miss" not in uses:
            uses.append(use(await gateway.post(ASKED)))
            await asyncio.sleep(0.02)
        assert len(one.journal) == 2


async def test_memory_has_its_bound(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = answers({"content": "x" * 100_000})
    async with world(tmp_path, one, state=", cache_mb: 1") as gateway:
        for number in range(12):
            assert use(await gateway.post(ASKED | {"seed": number})) == "miss"
        assert use(await gateway.post(ASKED | {"seed": 11})) == "hit"
        assert use(await gateway.post(ASKED | {"seed": 0})) == "miss"


async def test_without_memory_nothing_is_kept(one: Upstream, tmp_path: Path) -> None:
    async with world(tmp_path, one, state=", cache_mb: 0") as gateway:
        assert [use(await gateway.post(ASKED)) for _ in range(2)] == ["miss", "miss"]


@pytest.mark.parametrize(("header", "value"), [("x-turnout-residency", "eu"), ("x-turnout-max-cost", "1")])
async def test_another_rule_does_not_get_it(gateway: Gateway, header: str, value: str) -> None:
    await gateway.post(ASKED)
    other = await gateway.post(ASKED, **{header: value})
    assert other.headers.get("x-turnout-cache") != "hit"


async def test_a_shorter_deadline_is_no_other_rule(gateway: Gateway) -> None:
    await gateway.post(ASKED)
    assert use(await gateway.post(ASKED, **{"x-turnout-deadline-ms": "5000"})) == "hit"


async def test_a_stream_is_replayed_as_fast_as_it_came_where_the_policy_says_so(one: Upstream, tmp_path: Path) -> None:
    async def slow(x: Exchange) -> None:
        await x.start_stream()
        for word in ("Hello", " there"):
            await x.event(chunk({"content": word}))
            await asyncio.sleep(0.3)
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = slow
    async with world(tmp_path, one, cache="replay: recorded") as gateway:
        told = [await gateway.post(STREAMED) for _ in range(2)]
        assert [use(each) for each in told] == ["miss", "hit"] and told[0].content == told[1].content
        row = await row_of(gateway, told[1])
        assert row.end_us is not None and row.first_token_us is not None and row.end_us - row.first_token_us >= 550_000


async def test_who_leaves_a_replay_is_told_in_the_ledger(one: Upstream, tmp_path: Path) -> None:
    async def slow(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}))
        await asyncio.sleep(1)
        await x.event(chunk({}, finish="stop"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = slow
    async with world(tmp_path, one, cache="replay: recorded") as gateway:
        await gateway.post(STREAMED)
        async with gateway.http.stream("POST", "/v1/chat/completions", json=STREAMED, headers={"authorization": f"Bearer {KEY}"}) as answer:
            assert use(answer) == "hit"
        rows: list[Any] = []
        while not rows:
            rows = await gateway.rows(answer.headers["x-request-id"])
        assert (rows[0].status, rows[0].cache, rows[0].cost_nusd) == ("client_closed", "hit", 0)


async def test_hits_are_answers_like_any_other_in_reports(gateway: Gateway) -> None:
    await gateway.post(ASKED)
    hit = await gateway.post(ASKED)
    told = await gateway.http.get(f"/v1/requests/{hit.headers['x-request-id']}", headers={"authorization": f"Bearer {KEY}"})
    assert told.status_code == 200, told.text
    assert told.json()["status"] == "ok"


async def test_nothing_of_it_is_kept_after_the_gateway(one: Upstream, tmp_path: Path) -> None:
    for _ in range(2):
        async with world(tmp_path, one) as gateway:
            assert use(await gateway.post(ASKED)) == "miss"
    await until(lambda: len(one.journal) == 2)
