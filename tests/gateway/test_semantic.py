"""Answers for questions that mean the same: the embedding is a request of the team's own, and what tells two questions apart is heeded."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.caching_world import COST, Gate, row_of, use
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Exchange, Upstream, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
policies: {{kept: {{cache: {{}}}}}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models:
  solo: {{policy: kept, targets: [{{provider: one, model: m1, price: {price}}}]}}
  plain: {{targets: [{{provider: one, model: m1, price: {price}}}]}}
  embed: {{policy: kept, targets: [{{provider: one, model: e1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}]}}
teams:
  search: {{keys: [sk-search], semantic_cache: {{embeddings: embed, threshold: 0.95{more}}}}}
  other: {{keys: [sk-other], semantic_cache: {{embeddings: embed, threshold: 0.95}}}}
  exact: {{keys: [sk-exact]}}
"""
PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 2, cache_read_usd_per_mtok: 0.5}"
ASKED = "How do I reset my password?"
ALIKE = "How can I reset the password I use?"


async def embeds(x: Exchange) -> None:
    """Whatever speaks of passwords lies close together, all else far away."""
    text = x.seen.body["input"]
    vector = [1.0, 0.01 * (len(text) % 7), 0.0] if "password" in text.casefold() else [0.0, 0.0, 1.0]
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    await x.respond(200, json.dumps({"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode())


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["e1"] = embeds
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, price=PRICE, more=""), tmp_path) as gateway:
        yield gateway


def body(question: str, **other: Any) -> dict[str, Any]:
    return {"model": "solo", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}], **other}


async def ask(gateway: Gateway, question: str, key: str = "sk-search", path: str = "/v1/chat/completions", **other: Any) -> Any:
    return await gateway.post(body(question, **other), key=key, path=path)


async def test_a_question_that_means_the_same_gets_the_kept_answer(gateway: Gateway) -> None:
    first, second = await ask(gateway, ASKED), await ask(gateway, ALIKE)
    assert (use(first), use(second)) == ("miss", "hit") and first.content == second.content
    row = await row_of(gateway, second)
    assert (row.cache, row.target, row.cost_nusd, row.saved_nusd) == ("semantic", "cache", 0, COST)


async def test_the_very_same_question_needs_no_embedding(gateway: Gateway, one: Upstream) -> None:
    await ask(gateway, ASKED)
    asked = len(one.journal)
    again = await ask(gateway, ASKED)
    assert (await row_of(gateway, again)).cache == "hit" and len(one.journal) == asked


async def test_an_embedding_is_a_request_of_the_team_s_own_with_its_price(gateway: Gateway) -> None:
    await ask(gateway, ASKED)
    (row,) = [row for row in await gateway.all_rows() if row.endpoint == "embeddings"]
    assert (row.team, row.route, row.status, row.cost_nusd, row.cache) == ("search", "embed", "ok", 9000, None)


DIFFERENT = [
    "How do I not reset my password?",
    "How do I reset my password 2 times?",
    "Why do I reset my password?",
    "How do I reset my password on Monday?",
    "How do I reset my GitHub password?",
    "How do I keep my password?",
    "Wie setze ich mein password zurück, und was ist das?",
    "What is the weather like?",
]


@pytest.mark.parametrize("question", DIFFERENT)
async def test_what_differs_in_meaning_is_asked_for_itself(gateway: Gateway, question: str) -> None:
    await ask(gateway, ASKED)
    assert use(await ask(gateway, question)) == "miss"


OTHERS: list[dict[str, Any]] = [
    {"temperature": 0.1},
    {"stream": True},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    {"messages": [{"role": "system", "content": "Be long."}, {"role": "user", "content": ALIKE}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": ALIKE}]},
    {"model": "plain"},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
async def test_only_what_is_otherwise_the_same_is_compared(gateway: Gateway, other: dict[str, Any]) -> None:
    await ask(gateway, ASKED)
    assert use(await ask(gateway, ALIKE, **other)) == "miss"


async def test_teams_do_not_share_and_a_team_that_did_not_ask_for_it_has_none(gateway: Gateway, one: Upstream) -> None:
    await ask(gateway, ASKED)
    assert use(await ask(gateway, ALIKE, key="sk-other")) == "miss"
    asked = len(one.journal)
    assert [use(await ask(gateway, question, key="sk-exact")) for question in (ASKED, ALIKE)] == ["miss", "miss"]
    assert len(one.journal) == asked + 2  # and nothing was embedded


async def test_a_team_needs_no_policy_that_keeps_answers(gateway: Gateway) -> None:
    assert [use(await ask(gateway, question, model="plain")) for question in (ASKED, ALIKE)] == ["miss", "hit"]


async def test_other_dialects_have_questions_too(gateway: Gateway) -> None:
    for path, text in (("/v1/responses", "input_text"), ("/v1/messages", "text")):
        uses = []
        for question in (ASKED, ALIKE):
            turns = [{"role": "user", "content": [{"type": text, "text": question}]}]
            asked: dict[str, Any] = (
                {"model": "solo", "input": turns} if path == "/v1/responses" else {"model": "solo", "max_tokens": 9, "messages": turns}
            )
            uses.append(use(await gateway.post(asked, key="sk-search", path=path)))
        assert uses == ["miss", "hit"]
    for question, told in ((ASKED, "miss"), (ALIKE, "hit")):
        assert use(await gateway.post({"model": "solo", "input": question}, key="sk-search", path="/v1/responses")) == told


async def test_without_an_embedding_a_question_is_like_no_other(gateway: Gateway, one: Upstream) -> None:
    one.plays["e1"] = status(500)
    assert [(await ask(gateway, question)).status_code for question in (ASKED, ALIKE)] == [200, 200]
    assert len([seen for seen in one.journal if seen.body["model"] == "m1"]) == 2


async def test_a_stream_is_given_as_a_stream(gateway: Gateway) -> None:
    first, second = await ask(gateway, ASKED, stream=True), await ask(gateway, ALIKE, stream=True)
    assert use(second) == "hit" and second.content == first.content and second.content.endswith(b"data: [DONE]\n\n")


async def test_it_has_its_time(one: Upstream, tmp_path: Path) -> None:
    one.plays["e1"] = embeds
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, price=PRICE, more=", ttl_s: 0.2"), tmp_path) as gateway:
        await ask(gateway, ASKED)
        told = ""
        while told != "miss":
            await asyncio.sleep(0.05)
            told = use(await ask(gateway, ALIKE + " " * len(told)))


async def test_an_embedding_is_reserved_before_it_is_asked_for(one: Upstream, tmp_path: Path) -> None:
    """The budget has room for one embedding at a time and not for two; the answers themselves cost nothing."""
    gate = Gate(embeds)
    one.plays["e1"] = gate
    more = "}, budget: {usd: 0.0001, window: day"
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, price="free", more=more), tmp_path) as gateway:
        first = asyncio.create_task(ask(gateway, ASKED))
        await gate.asked.wait()
        second = await ask(gateway, ALIKE)
        gate.open.set()
        assert [(answer.status_code, use(answer)) for answer in (await first, second)] == [(200, "miss"), (200, "miss")]
        third = await ask(gateway, "How do I change my password?")
        assert len([seen for seen in one.journal if seen.body["model"] == "e1"]) == 2, "what the first did not use is there again"
        assert third.status_code == 200
        row = await row_of(gateway, third)
        assert row.cost_nusd == 0
