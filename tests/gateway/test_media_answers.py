"""What an answer costs that holds a picture or a sound, and whose provider did not tell: nobody knows, and budgets keep its reservation."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.cutting import RESPONSE, cut
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.5}}}}
  google: {{kind: gemini, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.5}}}}
models:
  chat: {{targets: [{{provider: one, price: {price}}}], policy: once}}
  google: {{targets: [{{provider: google, model: gemini-3-pro-image, price: {price}}}], policy: once}}
policies:
  once: {{retry: {{max_attempts: 1}}}}
teams:
  search: {{keys: [{key}], budget: {{usd: 10, window: day}}}}
"""
PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 10}"
MEDIUM = "A" * 2_000_000
PICTURE = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": MEDIUM}
UNTYPED_YET = {"id": "ig_1", "result": MEDIUM, "type": "image_generation_call", "status": "completed"}
URL = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{MEDIUM}"}}
PARTS = {"content": {"role": "model", "parts": [{"inlineData": {"mimeType": "image/png", "data": MEDIUM}}]}}
USAGE = {"input_tokens": 40, "output_tokens": 4000, "total_tokens": 4040}


def spoken(**message: Any) -> dict[str, Any]:
    answer = completion("", usage=None)
    answer["choices"][0]["message"] = {"role": "assistant", "content": None, **message}
    return answer


def drawn(item: dict[str, Any]) -> dict[str, Any]:
    return {**RESPONSE, "output": [item, *RESPONSE["output"]], "usage": None}


CHAT = ("/v1/chat/completions", {"model": "chat", "max_tokens": 500, "messages": [{"role": "user", "content": "Say it."}]})
GOOGLE = ("/v1/chat/completions", {**CHAT[1], "model": "google"})
RESPONSES = ("/v1/responses", {"model": "chat", "max_output_tokens": 500, "store": False, "input": "Draw it."})
ANSWERS: dict[str, tuple[tuple[str, dict[str, Any]], dict[str, Any]]] = {
    "chat sound": (CHAT, spoken(audio={"id": "a1", "data": MEDIUM, "transcript": "hello", "expires_at": 1})),
    "chat sound, its bytes first": (CHAT, spoken(audio={"data": MEDIUM, "id": "a1"})),
    "chat picture": (CHAT, spoken(content="Here.", images=[URL])),
    "gemini picture": (GOOGLE, {"candidates": [{**PARTS, "finishReason": "STOP"}]}),
    "responses picture": (RESPONSES, drawn(PICTURE)),
    "responses picture, its bytes first": (RESPONSES, drawn(UNTYPED_YET)),
}
STREAMS: dict[str, tuple[tuple[str, dict[str, Any]], list[dict[str, Any]]]] = {
    "chat sound": (CHAT, [chunk({"role": "assistant", "content": ""}), *[chunk({"audio": {"id": "a1", "data": "A" * 100_000}})] * 3]),
    "chat picture": (CHAT, [chunk({"role": "assistant", "content": "Here."}), chunk({"images": [URL]})]),
    "chat picture as a part": (CHAT, [chunk({"role": "assistant", "content": [URL]})]),
    "gemini picture": (GOOGLE, [{"candidates": [{"content": {"role": "model", "parts": [{"text": "Here."}]}}]}, {"candidates": [PARTS]}]),
    "responses picture": (
        RESPONSES,
        [
            {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_item.added", "output_index": 0, "item": {**PICTURE, "result": None, "status": "in_progress"}},
            {"type": "response.image_generation_call.partial_image", "item_id": "ig_1", "output_index": 0, "partial_image_b64": MEDIUM},
        ],
    ),
    "responses sound": (
        RESPONSES,
        [
            {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": [], "usage": None}},
            {"type": "response.audio.delta", "delta": "A" * 100_000},
        ],
    ),
}


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY, price=PRICE), tmp_path) as gateway:
        yield gateway


async def send(x: Exchange, events: list[dict[str, Any]]) -> None:
    await x.start_stream()
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event else ""
        await x.raw_chunk(f"{name}data: {json.dumps(event)}\n\n".encode())


def broken(events: list[dict[str, Any]]) -> Play:
    async def play(x: Exchange) -> None:
        await send(x, events)
        await asyncio.sleep(0.05)  # or the kernel takes back what was not read yet
        x.reset()

    return play


def whole(answer: Any) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(answer).encode())

    return play


def is_unknown(row: Any) -> None:
    usage = row.usage
    assert (usage.source, usage.input_total, usage.output_total, row.cost_nusd) == ("estimated", None, None, None)
    if row.billed == "team":
        assert row.held_nusd > 500 * 10_000  # what was reserved for its longest answer


@pytest.mark.parametrize("kind", ANSWERS)
async def test_a_unary_answer_with_a_medium_costs_what_nobody_knows(gateway: Gateway, one: Upstream, kind: str) -> None:
    (path, body), answer = ANSWERS[kind]
    for share, billed in ((0.5, "gateway"), (1.0, "team")):  # cut in its middle; whole, without usage
        one.default = whole(answer) if share == 1.0 else cut(answer, "short", share)
        got = await gateway.post(body, path=path)
        (row,) = await gateway.rows(got.headers["x-request-id"])
        assert row.billed == billed
        is_unknown(row)


@pytest.mark.parametrize("kind", STREAMS)
async def test_a_stream_that_was_cut_after_a_medium_costs_what_nobody_knows(gateway: Gateway, one: Upstream, kind: str) -> None:
    (path, body), events = STREAMS[kind]
    one.default = broken(events)
    got = await gateway.post({**body, "stream": True}, path=path)
    (row,) = await gateway.rows(got.headers["x-request-id"])
    assert (row.status, row.billed) == ("cut", "team")
    is_unknown(row)


async def test_a_picture_comes_as_one_event_of_a_stream_and_its_usage_is_believed(gateway: Gateway, one: Upstream) -> None:
    (path, body), events = STREAMS["responses picture"]
    last = {"type": "response.completed", "response": {**drawn(PICTURE), "usage": USAGE}}

    async def play(x: Exchange) -> None:
        await send(x, [*events, {"type": "response.output_item.done", "output_index": 0, "item": PICTURE}, last])
        await x.end_stream()

    one.default = play
    got = await gateway.post({**body, "stream": True}, path=path)
    assert got.text.count(MEDIUM) == 3
    (row,) = await gateway.rows(got.headers["x-request-id"])
    assert (row.status, row.usage.source, row.usage.input_total, row.usage.output_total) == ("ok", "provider", 40, 4000)
    assert row.usage.server_tool_calls == 1  # without a price, so that its cost is not known
