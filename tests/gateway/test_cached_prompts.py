"""What providers keep of prompts: what it costs, to the nano-dollar and as genai-prices has it, and whose it is."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import get_snapshot

from tests.gateway import anthropic_upstream as up
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, chunk, completion

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  claude: {{kind: anthropic, base_url: "{one}", api_key: sk-upstream}}
  gpt: {{kind: openai, base_url: "{one}", api_key: sk-upstream}}
models:
  sonnet: {{targets: [{{provider: claude, model: claude-sonnet-4-5}}]}}
  gpt: {{targets: [{{provider: gpt, model: gpt-5}}]}}
teams:
  search: {{keys: [{key}]}}
  writers: {{keys: [sk-writers]}}
"""
ASK: list[Any] = [{"role": "user", "content": "Hello?"}]
SHORT, LONG, READ, FRESH, OUT = 1_234, 5_678, 90_001, 321, 45
MESSAGES_USAGE = {
    "input_tokens": FRESH,
    "cache_read_input_tokens": READ,
    "cache_creation_input_tokens": SHORT + LONG,
    "cache_creation": {"ephemeral_5m_input_tokens": SHORT, "ephemeral_1h_input_tokens": LONG},
    "output_tokens": OUT,
}
CHAT_USAGE = {
    "prompt_tokens": FRESH + READ,
    "completion_tokens": OUT,
    "total_tokens": FRESH + READ + OUT,
    "prompt_tokens_details": {"cached_tokens": READ},
}


def as_genai_prices_has_it(provider: str, model: str, **counts: int) -> int:
    _, info = get_snapshot().find_provider_model(model, None, provider, None)
    cost: Decimal = info.get_prices(datetime.now(UTC)).calc_price(TheirUsage(**counts))["total_price"]
    return int(cost * 1_000_000_000)


async def sonnet(x: Exchange) -> None:
    whole = {**up.message(up.text("Hello there")), "usage": MESSAGES_USAGE}
    if not x.seen.body.get("stream"):
        await x.respond(200, json.dumps(whole).encode())
        return
    events = up.events_of(whole)
    events[0]["message"]["usage"] = {**MESSAGES_USAGE, "output_tokens": 1}
    await x.start_stream()
    await x.raw_chunk(up.bytes_of(events))
    await x.end_stream()


async def gpt(x: Exchange) -> None:
    if not x.seen.body.get("stream"):
        await x.respond(200, json.dumps(completion(usage=CHAT_USAGE)).encode())
        return
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": "Hello"}))
    await x.event(chunk({}, finish="stop"))
    await x.event(chunk(None, usage=CHAT_USAGE))
    await x.event("[DONE]")
    await x.end_stream()


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> Any:
    one.plays |= {"claude-sonnet-4-5": sonnet, "gpt-5": gpt}
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


# 5-minute writes cost 1.25 times the input, 1-hour writes twice, reads a tenth (Anthropic: prompt caching, pricing)
CLAUDE_NUSD = FRESH * 3_000 + SHORT * 3_750 + LONG * 6_000 + READ * 300 + OUT * 15_000


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_s_cache_is_priced_by_what_was_written_for_how_long_and_what_was_read(gateway: Gateway, stream: bool) -> None:
    body = {"model": "sonnet", "max_tokens": 99, "messages": ASK, "stream": stream}
    answer = await gateway.post(body, path="/v1/messages")
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.usage.cache_write_5m, row.usage.cache_write_1h, row.usage.cache_read, row.usage.input_uncached) == (SHORT, LONG, READ, FRESH)
    assert row.cost_nusd == CLAUDE_NUSD
    in_genai_prices = {"input_tokens": FRESH + READ + SHORT + LONG, "output_tokens": OUT, "cache_read_tokens": READ}
    all_short = as_genai_prices_has_it("anthropic", "claude-sonnet-4-5", **in_genai_prices, cache_write_tokens=SHORT + LONG)
    assert row.cost_nusd - all_short == LONG * (6_000 - 3_750)


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_s_cache_costs_a_chat_client_the_same(gateway: Gateway, stream: bool) -> None:
    answer = await gateway.post({"model": "sonnet", "messages": ASK, "stream": stream})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.cost_nusd == CLAUDE_NUSD


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_s_cached_input_is_priced_as_cached(gateway: Gateway, stream: bool) -> None:
    answer = await gateway.post({"model": "gpt", "messages": ASK, "stream": stream})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    theirs = as_genai_prices_has_it("openai", "gpt-5", input_tokens=FRESH + READ, output_tokens=OUT, cache_read_tokens=READ)
    assert row.cost_nusd == theirs == FRESH * 1_250 + READ * 125 + OUT * 10_000


async def test_the_marks_of_what_is_to_be_cached_go_by_as_they_came(gateway: Gateway, one: Upstream) -> None:
    system: list[Any] = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as sdk:
        await sdk.messages.create(model="sonnet", max_tokens=9, system=system, messages=ASK)
    assert one.journal[0].body["system"] == system


async def test_white_space_in_a_tool_s_schema_makes_no_other_prompt_where_it_is_translated(gateway: Gateway, one: Upstream) -> None:
    schema = {"type": "object", "properties": {"where": {"type": "string"}}}
    asked = {"model": "sonnet", "messages": ASK, "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]}
    for indent in (None, 4):
        answer = await gateway.http.post("/v1/chat/completions", content=json.dumps(asked, indent=indent), headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200
    assert one.journal[0].raw == one.journal[1].raw


# --- whose it is ---------------------------------------------------------------------------------------------------------
async def keys_sent(gateway: Gateway, one: Upstream, *asked: tuple[str, str]) -> list[str]:
    for key, prompt_key in asked:
        answer = await gateway.post({"model": "gpt", "messages": ASK, "prompt_cache_key": prompt_key}, key=key)
        assert answer.status_code == 200
    return [seen.body["prompt_cache_key"] for seen in one.journal]


async def test_a_prompt_cache_key_is_its_team_s_own(gateway: Gateway, one: Upstream) -> None:
    first, again, other, theirs = await keys_sent(gateway, one, (KEY, "chat-7"), (KEY, "chat-7"), (KEY, "chat-8"), ("sk-writers", "chat-7"))
    assert first == again
    assert len({first, other, theirs}) == 3
    assert all(len(each) <= 64 and "chat" not in each for each in (first, other, theirs))


async def test_a_prompt_cache_key_of_a_team_that_is_alone_goes_by_as_it_came(one: Upstream, tmp_path: Path) -> None:
    one.plays["gpt-5"] = gpt
    text = CONFIG.format(folder=tmp_path, one=one.base_url, key=KEY).replace("  writers: {keys: [sk-writers]}\n", "")
    async with running(text, tmp_path) as gateway:
        assert await keys_sent(gateway, one, (KEY, "chat-7")) == ["chat-7"]
