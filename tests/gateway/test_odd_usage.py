"""Usage that contradicts itself, or lacks what an answer has: never believed in silence, and the same whether it was streamed or not."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{url}", api_key: k}}
  claude: {{kind: anthropic, base_url: "{url}", api_key: k}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: {price}}}]}}
  claude: {{targets: [{{provider: claude, model: m1, price: {price}}}]}}
teams:
  search: {{keys: [{key}]}}
"""
PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 10, web_search_usd: 0.01}"
WORDS = "word " * 56  # 280 characters
ASKED = {"max_tokens": 500, "messages": [{"role": "user", "content": "Hi"}]}
INPUT = "several words " * 20
BY_HAND = json.dumps({"model": "solo", "input": INPUT}).encode()


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, url=one.base_url, key=KEY, price=PRICE), tmp_path) as gateway:
        yield gateway


def whole(body: Any, content_type: str = "application/json") -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(body).encode(), content_type)

    return play


def events(*told: Any) -> Play:
    """By their types, or chat's."""

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for each in told:
            name = f"event: {each['type']}\n" if isinstance(each, dict) and "type" in each else ""
            await x.raw_chunk(f"{name}data: {each if isinstance(each, str) else json.dumps(each)}\n\n".encode())
        await x.end_stream()

    return play


def chat(usage: Any) -> dict[bool, Play]:
    said = [chunk({"content": "word "}) for _ in range(56)]
    return {
        False: whole(completion(WORDS, usage=usage)),
        True: events(*said, chunk({}, finish="stop"), chunk(None, usage=usage), "[DONE]"),
    }


def response(usage: Any) -> dict[bool, Play]:
    item = {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": WORDS, "annotations": []}],
    }  # fmt: skip
    done = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [item], "usage": usage}
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    said = [{"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": "word "}] * 56
    return {
        False: whole(done),
        True: events({"type": "response.created", "response": begun}, *said, {"type": "response.completed", "response": done}),
    }


def message(usage: dict[str, Any], last: Any) -> dict[bool, Play]:
    """`last`: the usage at a stream's end."""
    plain = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    said = [{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}] * 56
    return {
        False: whole({**plain, "content": [{"type": "text", "text": WORDS}], "stop_reason": "end_turn"}),
        True: events(
            {"type": "message_start", "message": {**plain, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *said,
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last},
            {"type": "message_stop"},
        ),
    }


async def row_of(gateway: Gateway, path: str, body: Any) -> Any:
    answer = await gateway.post(body, path=path)
    assert answer.status_code == 200
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.status == "ok"
    return row


# --- a class below nothing -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("part", ["reasoning_tokens", "audio_tokens"])
@pytest.mark.parametrize("dialect", ["chat", "responses"])
async def test_a_class_below_nothing_leaves_the_whole(gateway: Gateway, one: Upstream, dialect: str, part: str, stream: bool) -> None:
    if dialect == "chat":
        plays = chat({"prompt_tokens": 12, "completion_tokens": 40, "completion_tokens_details": {part: -3}})
        path, body = "/v1/chat/completions", {"model": "solo", **ASKED}
    else:
        plays = response({"input_tokens": 12, "output_tokens": 40, "total_tokens": 52, "output_tokens_details": {part: -3}})
        path, body = "/v1/responses", {"model": "solo", "input": "Hi"}
    one.plays["m1"] = plays[stream]
    row = await row_of(gateway, path, {**body, "stream": stream})
    assert (row.usage.input_uncached, row.usage.output_visible, row.usage.output_total) == (12, 40, 40)
    assert (row.usage.source, row.cost_nusd) == ("estimated", 412_000)


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_without_an_output_is_an_estimate(gateway: Gateway, one: Upstream, stream: bool) -> None:
    one.plays["m1"] = chat({"prompt_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 5000}})[stream]
    row = await row_of(gateway, "/v1/chat/completions", {"model": "solo", "stream": stream, **ASKED})
    assert (row.usage.source, row.usage.output_total) == ("estimated", 5000)


# --- Messages --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
@pytest.mark.parametrize("last", [{}, {"input_tokens": 12}, {"output_tokens": None}, None])
async def test_a_message_s_first_token_is_not_its_whole_output(gateway: Gateway, one: Upstream, path: str, last: Any) -> None:
    one.plays["m1"] = message({"input_tokens": 12}, last)[True]
    row = await row_of(gateway, path, {"model": "claude", "stream": True, **ASKED})
    assert (row.usage.input_uncached, row.usage.source) == (12, "estimated") and 40 <= row.usage.output_visible <= 80


async def test_a_message_s_output_may_be_told_before_its_last_report(gateway: Gateway, one: Upstream) -> None:
    said = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word"}}
    one.plays["m1"] = events(
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 12, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        said,
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 12}},
        {"type": "message_stop"},
    )
    row = await row_of(gateway, "/v1/messages", {"model": "claude", "stream": True, **ASKED})
    assert (row.usage.input_uncached, row.usage.output_visible, row.usage.source) == (12, 7, "provider")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("more", "source"),
    [
        ({"cache_creation_input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}}, "estimated"),
        ({"cache_creation_input_tokens": 100, "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60}}, "provider"),
        ({"server_tool_use": {"web_search_requests": 10**12}}, "estimated"),
        ({"server_tool_use": {"web_search_requests": "2"}}, "estimated"),
        ({"server_tool_use": {"web_search_requests": -3}}, "estimated"),
        ({"server_tool_use": {"web_search_requests": None}}, "provider"),
        ({"server_tool_use": {"web_search_requests": 3}}, "provider"),
    ],
)
async def test_what_contradicts_itself_is_flagged(gateway: Gateway, one: Upstream, more: dict[str, Any], source: str, stream: bool) -> None:
    usage = {"input_tokens": 12, "output_tokens": 40, **more}
    one.plays["m1"] = message(usage, usage)[stream]
    row = await row_of(gateway, "/v1/messages", {"model": "claude", "stream": stream, **ASKED})
    assert (row.usage.source, row.usage.output_visible) == (source, 40)


@pytest.mark.parametrize("searches", [10**12, "2", -3])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_s_searches_that_cannot_be_are_flagged(gateway: Gateway, one: Upstream, searches: Any, stream: bool) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 40, "server_tool_use": {"web_search_requests": searches}}
    one.plays["m1"] = chat(usage)[stream]
    row = await row_of(gateway, "/v1/chat/completions", {"model": "solo", "stream": stream, **ASKED})
    assert (row.usage.source, row.usage.web_searches) == ("estimated", None)


# --- what is no text -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("output", [{"output_tokens": -40}, {"output_tokens": 10**12}, {}])
async def test_a_picture_without_a_count_that_can_be_has_no_known_cost(gateway: Gateway, one: Upstream, output: Any, stream: bool) -> None:
    usage = {"input_tokens": 12, "total_tokens": 12, **output}
    done = {"type": "image_generation.completed", "b64_json": "aGk=", "usage": usage}
    one.plays["m1"] = events(done) if stream else whole({"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage})
    row = await row_of(gateway, "/v1/images/generations", {"model": "solo", "prompt": "a cat", "stream": stream})
    assert row.cost_nusd is None and row.priced and row.usage.input_total is None
    assert json.loads(bytes(row.usage.raw)) == usage


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -5, "total_tokens": 1 << 50}, {"prompt_tokens": "12"}, [1, 2]])
async def test_embeddings_without_a_count_that_can_be_are_estimated_by_their_prompt(gateway: Gateway, one: Upstream, usage: Any) -> None:
    one.plays["m1"] = whole({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m", "usage": usage})
    row = await row_of(gateway, "/v1/embeddings", BY_HAND)
    about = len(BY_HAND) // 4
    assert (row.usage.input_uncached, row.usage.output_total, row.usage.source) == (about, None, "estimated") and row.cost_nusd == about * 1_000


async def test_nothing_is_thought_for_an_embedding(gateway: Gateway, one: Upstream) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens_details": {"reasoning_tokens": 5000}}
    one.plays["m1"] = whole({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m", "usage": usage})
    row = await row_of(gateway, "/v1/embeddings", BY_HAND)
    assert (row.usage.input_uncached, row.usage.reasoning, row.usage.source, row.cost_nusd) == (12, None, "estimated", 12_000)
