"""What a cut answer cost: what its provider told before, and what came of it; flagged."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  claude: {{kind: anthropic, base_url: "{url}", api_key: k}}
  google: {{kind: gemini, base_url: "{url}", api_key: k}}
models:
  claude: {{targets: [{{provider: claude, model: claude-sonnet-4-5}}]}}
  google: {{targets: [{{provider: google, model: gemini-3-pro}}]}}
policies: {{}}
teams:
  search: {{keys: [{key}]}}
"""
WORDS = 60


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, url=one.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


async def named(x: Exchange, kind: str, **members: Any) -> None:
    await x.raw_chunk(f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode())


async def cut_message(x: Exchange) -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 8, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "usage": usage}
    await x.start_stream()
    await named(x, "message_start", message=message)
    await named(x, "content_block_start", index=0, content_block={"type": "text", "text": ""})
    for _ in range(WORDS):
        await named(x, "content_block_delta", index=0, delta={"type": "text_delta", "text": "several words here "})
    x.reset()


async def cut_candidate(x: Exchange) -> None:
    told = {"promptTokenCount": 1000, "candidatesTokenCount": 1600, "totalTokenCount": 2600}
    await x.start_stream()
    await x.event({"candidates": [{"content": {"role": "model", "parts": [{"text": "word " * 1600}]}}], "usageMetadata": told})
    x.reset()


ASKED = {"messages": [{"role": "user", "content": "Tell me."}], "max_tokens": 5000, "stream": True}


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_cut_message_keeps_its_input_and_counts_the_output_that_came(gateway: Gateway, one: Upstream, path: str) -> None:
    one.plays["claude-sonnet-4-5"] = cut_message
    answer = await gateway.post({"model": "claude", **ASKED}, path=path)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.source, row.usage.input_uncached, row.usage.cache_read) == ("cut", "estimated", 10, 8)
    assert 2 * WORDS <= row.usage.output_visible <= 6 * WORDS
    assert row.cost_nusd is not None and row.cost_nusd > 0


async def test_a_cut_answer_keeps_counts_that_its_provider_told_all_along(gateway: Gateway, one: Upstream) -> None:
    one.plays[""] = cut_candidate
    answer = await gateway.post({"model": "google", **ASKED})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.source, row.usage.input_uncached, row.usage.output_visible) == ("cut", "estimated", 1000, 1600)
