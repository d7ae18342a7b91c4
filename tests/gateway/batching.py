"""Batches as a client makes them: rows, their file, and the wait for an end."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from openai import AsyncOpenAI
from openai.types import Batch

from tests.gateway.conftest import KEY
from tests.gateway.upstream import Exchange, good

CONFIG = """
state: {{database: "{database}"}}
batch: {{concurrency: {concurrency}, lease_s: 2{more}}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}
  pair: {{targets: [{{provider: one, model: m1, price: free}}, {{provider: two, model: m2, price: free}}]}}
teams:
  search: {{keys: [{key}]{team}}}
  narrow: {{models: [solo], keys: [sk-narrow]}}
"""
COST_NUSD = 30_000  # of one good answer of `solo`: 20 tokens in, 5 out
ENDED = ("completed", "failed", "expired", "cancelled")


def config(database: str, one: str, two: str = "http://127.0.0.1:9/v1", concurrency: int = 16, more: str = "", team: str = "") -> str:
    return CONFIG.format(database=database, one=one, two=two, key=KEY, concurrency=concurrency, more=more, team=team)


class AtOnce:
    """An upstream's answers after `takes_s`. `most`: how many it was asked for at once."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self._running = self.most = 0

    async def __call__(self, x: Exchange) -> None:
        self._running += 1
        self.most = max(self.most, self._running)
        await asyncio.sleep(self._takes_s)
        self._running -= 1
        await good(x)


def chat(text: str, model: str = "solo", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **fields}


def row(custom_id: str, body: dict[str, Any] | None = None, url: str = "/v1/chat/completions") -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": chat(custom_id) if body is None else body}


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


async def made(sdk: AsyncOpenAI, rows: list[dict[str, Any]] | bytes, endpoint: str = "/v1/chat/completions", **fields: Any) -> Batch:
    """A batch of these rows."""
    data = rows if isinstance(rows, bytes) else jsonl(rows)
    file = await sdk.files.create(file=("rows.jsonl", data), purpose="batch")
    return await sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **fields)  # type: ignore[arg-type]


async def until(sdk: AsyncOpenAI, batch: Batch, holds: Callable[[Batch], bool], limit_s: float = 60.0) -> Batch:
    async with asyncio.timeout(limit_s):
        while not holds(batch):
            await asyncio.sleep(0.02)
            batch = await sdk.batches.retrieve(batch.id)
    return batch


async def ended(sdk: AsyncOpenAI, batch: Batch, limit_s: float = 60.0) -> Batch:
    return await until(sdk, batch, lambda each: each.status in ENDED, limit_s)


async def lines(sdk: AsyncOpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """A batch's file by its custom_ids, each of which stands there once."""
    if file_id is None:
        return {}
    found = [json.loads(line) for line in (await sdk.files.content(file_id)).text.splitlines()]
    by_id = {line["custom_id"]: line for line in found}
    assert len(by_id) == len(found)
    return by_id
