"""What a unary answer cost whose upstream cut it, or whose client did not wait for its end: what is known of it, flagged."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.cutting import CANDIDATE, COMPLETION, MESSAGE, RESPONSE, VECTORS, WORDS, cut, left_in_the_middle
from tests.gateway.upstream import Upstream, completion, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai, base_url: "{one}", api_key: k, timeouts: {{idle_s: 0.5}}}}
  claude: {{kind: anthropic, base_url: "{one}", api_key: k}}
  google: {{kind: gemini, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  chat: {{targets: [{{provider: one, model: up-chat, price: {price}}}], policy: once}}
  pair: {{targets: [{{provider: one, model: up-chat, price: {price}}}, {{provider: two, model: m2, price: free}}]}}
  claude: {{targets: [{{provider: claude, model: claude-sonnet-4-5, price: {price}}}], policy: once}}
  google: {{targets: [{{provider: google, model: gemini-3-pro, price: {price}}}], policy: once}}
  images: {{targets: [{{provider: one, model: up-image, price: {price}}}], policy: once}}
policies:
  once: {{retry: {{max_attempts: 1}}}}
teams:
  search: {{keys: [{key}], budget: {{usd: 10, window: day}}}}
"""
PRICE = "{input_usd_per_mtok: 10, output_usd_per_mtok: 100, service_tiers: {priority: 2}}"
PROMPT = "Tell me. " * 20
CHAT = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 500}
ASKED: dict[str, tuple[str, dict[str, Any], Any]] = {
    "chat": ("/v1/chat/completions", {"model": "chat", **CHAT}, completion(WORDS)),
    "messages": ("/v1/messages", {"model": "claude", **CHAT}, MESSAGE),
    "chat at Anthropic": ("/v1/chat/completions", {"model": "claude", **CHAT}, MESSAGE),
    "chat at Gemini": ("/v1/chat/completions", {"model": "google", **CHAT}, CANDIDATE),
    "responses": ("/v1/responses", {"model": "chat", "input": PROMPT, "max_output_tokens": 500, "store": False}, RESPONSE),
    "completions": ("/v1/completions", {"model": "chat", "prompt": PROMPT, "max_tokens": 500}, COMPLETION),
    "embeddings": ("/v1/embeddings", {"model": "chat", "input": PROMPT}, VECTORS),
}
NO_OUTPUT = {"embeddings"}


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, price=PRICE), tmp_path) as gateway:
        yield gateway


async def report(gateway: Gateway, name: str) -> Any:
    """Its only line."""
    await asyncio.to_thread(gateway.runtime.ledger.flush)
    answer = await gateway.http.get(f"/v1/reports/{name}?since=1h&group_by=status", headers={"authorization": f"Bearer {KEY}"})
    (line,) = answer.json()["data"]
    return line


@pytest.mark.parametrize("how", ["short", "chunked", "reset", "closed", "silent"])
@pytest.mark.parametrize("kind", ["chat", "embeddings"])
async def test_however_a_unary_answer_is_cut_its_row_is_an_estimate_that_costs(gateway: Gateway, one: Upstream, kind: str, how: str) -> None:
    path, body, told = ASKED[kind]
    one.default = cut(told, how)
    answer = await gateway.post(body, path=path)
    assert answer.status_code in (502, 504)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.billed, row.usage.source, row.http_status) == ("failed", "gateway", "estimated", 200)
    assert 40 <= row.usage.input_uncached <= 90 and row.bytes_upstream > 0
    assert row.cost_nusd is not None and row.cost_nusd >= 400_000
    assert (await report(gateway, "usage"))["estimated"] == 1
    cost = await report(gateway, "cost")
    assert (cost["unpriced"], cost["cost_usd"]) == (0, None) and float(cost["absorbed_usd"]) > 0


@pytest.mark.parametrize("kind", ASKED)
async def test_what_came_of_a_cut_unary_answer_is_counted(gateway: Gateway, one: Upstream, kind: str) -> None:
    path, body, told = ASKED[kind]
    one.default = cut(told, "short", 0.8)
    answer = await gateway.post(body, path=path)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.usage.source == "estimated" and 40 <= row.usage.input_uncached <= 90
    if kind in NO_OUTPUT:
        assert row.usage.output_visible is None
    else:
        assert 150 <= row.usage.output_visible <= 300


async def test_a_cut_unary_answer_keeps_usage_and_tier_that_were_told_before(gateway: Gateway, one: Upstream) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 400, "total_tokens": 407}
    one.default = cut(completion(WORDS, usage=usage, service_tier="priority", more="x" * 400), "short", 0.9)
    answer = await gateway.post({"model": "chat", **CHAT})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.usage.input_uncached, row.usage.output_visible, row.usage.service_tier) == (7, 400, "priority")
    assert (row.usage.source, row.cost_nusd) == ("estimated", 2 * (7 * 10_000 + 400 * 100_000))


async def test_a_cut_unary_answer_is_of_the_tier_that_was_asked_for(gateway: Gateway, one: Upstream) -> None:
    one.default = cut(completion(WORDS), "short", 0.5)
    answer = await gateway.post({"model": "chat", "service_tier": "priority", **CHAT})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.usage.source, row.usage.service_tier) == ("estimated", "priority")


async def test_a_cut_attempt_is_booked_beside_the_one_that_answers(gateway: Gateway, one: Upstream) -> None:
    one.default = cut(completion(WORDS), "short")
    answer = await gateway.post({"model": "pair", **CHAT})
    assert answer.status_code == 200
    lost, kept = await gateway.rows(answer.headers["x-request-id"])
    assert (lost.status, lost.usage.source, lost.billed, kept.status, kept.usage.source) == ("failed", "estimated", "gateway", "ok", "provider")
    assert lost.cost_nusd > 0


async def test_a_unary_answer_whose_client_leaves_in_its_middle_is_charged_what_came(gateway: Gateway, one: Upstream) -> None:
    one.default = cut(completion(WORDS), "silent", 0.8)
    row = await left_in_the_middle(gateway, one, "/v1/chat/completions", {"model": "chat", **CHAT})
    assert (row.status, row.billed, row.usage.source) == ("client_closed", "team", "estimated")
    assert 150 <= row.usage.output_visible <= 300 and row.cost_nusd > 150 * 100_000


async def test_what_is_no_text_has_no_known_cost_and_is_listed_when_it_is_cut(gateway: Gateway, one: Upstream) -> None:
    one.default = cut({"created": 1, "data": [{"b64_json": "A" * 4000}]}, "short")
    answer = await gateway.post({"model": "images", "prompt": "a cat"}, path="/v1/images/generations")
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.source, row.usage.input_uncached, row.cost_nusd) == ("failed", "estimated", None, None)
    assert (await report(gateway, "cost"))["unpriced"] == 1


async def test_what_is_no_text_keeps_its_reservation_where_its_client_leaves(gateway: Gateway, one: Upstream) -> None:
    one.default = cut({"created": 1, "data": [{"b64_json": "A" * 4000}]}, "silent")
    row = await left_in_the_middle(gateway, one, "/v1/images/generations", {"model": "images", "prompt": "a cat"})
    assert (row.status, row.billed, row.cost_nusd) == ("client_closed", "team", None)
    assert row.held_nusd > 0


async def test_an_error_is_no_answer_and_says_nothing_of_a_cost(gateway: Gateway, one: Upstream) -> None:
    one.default = status(500)
    answer = await gateway.post({"model": "chat", **CHAT})
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage, row.cost_nusd) == ("failed", None, None)
    assert (await report(gateway, "cost"))["unpriced"] == 0
