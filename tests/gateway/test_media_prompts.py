"""What a prompt with a picture, a sound or a file costs where its provider does not tell: what routing takes it for, not its base64 as text."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.asking import MEDIUM_TOKENS
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.cutting import MESSAGE, RESPONSE, WORDS, cut
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.5}}}}
  claude: {{kind: anthropic, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.5}}}}
models:
  chat: {{targets: [{{provider: one, price: {price}}}], policy: once}}
  claude: {{targets: [{{provider: claude, price: {price}}}], policy: once}}
policies:
  once: {{retry: {{max_attempts: 1}}}}
teams:
  search: {{keys: [{key}], budget: {{usd: 10, window: day}}, limits: {{tpm: 200000}}}}
"""
PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 10}"
MEDIUM = "A" * 400_000
URL = f"data:image/png;base64,{MEDIUM}"
SOURCE = {"type": "base64", "media_type": "image/png", "data": MEDIUM}


def chat(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {"model": "chat", "max_tokens": 500, "messages": [{"role": "user", "content": [part]}]}


def messages(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/messages", {"model": "claude", "max_tokens": 500, "messages": [{"role": "user", "content": [part]}]}


def responses(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "/v1/responses", {"model": "chat", "max_output_tokens": 500, "store": False, "input": [{"role": "user", "content": [part]}]}


ASKED = {
    "chat picture": chat({"type": "image_url", "image_url": {"url": URL}}),
    "chat sound": chat({"type": "input_audio", "input_audio": {"data": MEDIUM, "format": "wav"}}),
    "chat file": chat({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{MEDIUM}"}}),
    "messages picture": messages({"type": "image", "source": SOURCE}),
    "messages file": messages({"type": "document", "source": {**SOURCE, "media_type": "application/pdf"}}),
    "responses picture": responses({"type": "input_image", "image_url": URL}),
    "responses drawn picture": (
        "/v1/responses",
        {
            "model": "chat",
            "max_output_tokens": 500,
            "store": False,
            "input": [
                {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": MEDIUM},
                {"role": "user", "content": "Larger."},
            ],
        },
    ),
    "responses file": responses({"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{MEDIUM}"}),
}
WHOLE = {
    "/v1/chat/completions": completion(WORDS, usage=None),
    "/v1/messages": {**MESSAGE, "usage": {}},
    "/v1/responses": {**RESPONSE, "usage": None},
}
BEGUN = {
    "/v1/chat/completions": [chunk({"role": "assistant", "content": WORDS})],
    "/v1/messages": [
        {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": WORDS}},
    ],
    "/v1/responses": [
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": [], "usage": None}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0, "delta": WORDS},
    ],
}


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY, price=PRICE), tmp_path) as gateway:
        yield gateway


def stream_cut(path: str) -> Play:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in BEGUN[path]:
            name = f"event: {event['type']}\n" if "type" in event else ""
            await x.raw_chunk(f"{name}data: {json.dumps(event)}\n\n".encode())
        x.reset()

    return play


def whole(path: str) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(WHOLE[path]).encode())

    return play


async def leave(gateway: Gateway, one: Upstream, path: str, body: dict[str, Any]) -> None:
    asking = asyncio.create_task(gateway.post(body, path=path))
    while not one.journal or not one.journal[0].sent:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    asking.cancel()


def plays(path: str) -> dict[str, Play]:
    """What the upstream does, by what becomes of the request."""
    return {
        "stream cut": stream_cut(path),
        "unary cut": cut(WHOLE[path], "short", 0.8),
        "left": cut(WHOLE[path], "silent", 0.8),
        "left unanswered": cut(WHOLE[path], "silent", 0.0),
        "whole without usage": whole(path),
    }


@pytest.mark.parametrize("kind", ASKED)
async def test_a_medium_in_a_prompt_is_charged_as_one_and_not_by_its_bytes(gateway: Gateway, one: Upstream, kind: str) -> None:
    path, body = ASKED[kind]
    for number, (how, play) in enumerate(plays(path).items()):
        one.default = play
        one.journal.clear()
        if how.startswith("left"):
            await leave(gateway, one, path, body)
        else:
            await gateway.post({**body, "stream": how == "stream cut"}, path=path)
        while len(rows := await gateway.all_rows()) == number:
            await asyncio.sleep(0.01)
        row = max(rows, key=lambda row: row.started_at_us)
        assert row.usage.source == "estimated", how
        assert row.usage.input_uncached == row.prompt_tokens_estimated, how
        assert MEDIUM_TOKENS <= row.usage.input_uncached < MEDIUM_TOKENS + 100, how
        assert row.cost_nusd == row.usage.input_uncached * 1_000 + (row.usage.output_visible or 0) * 10_000, how
