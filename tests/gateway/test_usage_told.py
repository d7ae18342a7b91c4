"""What a provider tells of an answer's usage is believed only as far as it can be; the rest is estimated, and the row says so."""

import json
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, chunk, completion

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models: {{m: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}}}
teams: {{red: {{keys: [{key}]}}}}
"""
WORDS = "hello " * 40
ASKED = {"model": "m", "messages": [{"role": "user", "content": WORDS}]}
READ = len(json.dumps(ASKED, separators=(",", ":"))) // 4


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize(
    "told",
    [None, {}, {"prompt_tokens": -5, "completion_tokens": 3}, {"prompt_tokens": 2**63, "completion_tokens": 3}, {"completion_tokens": 3}],
    ids=["none", "empty", "negative", "absurd", "half"],
)
async def test_usage_that_is_not_told_or_cannot_be_is_estimated(one: Upstream, tmp_path: Any, told: dict[str, int] | None, stream: bool) -> None:
    async def play(x: Exchange) -> None:
        if not stream:
            await x.respond(200, json.dumps({**completion(WORDS), "usage": told}).encode())
            return
        await x.start_stream()
        await x.event(chunk({"content": WORDS}))
        await x.event(chunk({}, finish="stop"))
        await x.event(chunk(None, usage=told) if told is not None else "[DONE]")
        if told is not None:
            await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = play
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY), tmp_path) as gateway:
        row = await asked(gateway, stream)
    assert row.usage.source == "estimated" and row.usage.output_visible is not None
    assert abs(row.usage.input_uncached - READ) <= 10
    assert row.usage.output_visible == 3 if told else row.usage.output_visible >= len(WORDS) // 4
    assert row.cost_nusd == row.usage.input_uncached * 1_000 + row.usage.output_visible * 2_000


async def asked(gateway: Gateway, stream: bool) -> Any:
    answer = await gateway.post({**ASKED, "stream": stream})
    assert answer.status_code == 200
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    if not stream:
        assert answer.headers["x-turnout-cost-usd"] == f"{row.cost_nusd / 1e9:.9f}"
    return row
