"""Kept answers and limits: a hit counts as a request, costs nothing, and tells its own state of the limits; an embedding counts with its question."""

import asyncio
from pathlib import Path
from typing import Any

from ledger.spent import spent_nusd
from tests.gateway.caching_world import ASKED, COST, PRICE, Gate, under_way, until, use
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_semantic import embeds
from tests.gateway.upstream import Upstream

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
policies: {{kept: {{cache: {{}}}}}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models:
  solo: {{policy: kept, targets: [{{provider: one, model: m1, price: {price}}}]}}
  embed: {{targets: [{{provider: one, model: e1, price: {price}}}]}}
teams: {{search: {{keys: [{key}], {team}}}}}
"""
BODY = ASKED | {"max_tokens": 10}


def serving(one: Upstream, folder: Path, team: str) -> Any:
    return running(CONFIG.format(folder=folder, one=one.base_url, price=PRICE, key=KEY, team=team), folder)


async def spent(gateway: Gateway) -> int:
    await gateway.all_rows()
    return spent_nusd(gateway.runtime.ledger.engine, "team", "search", 0)


async def test_a_hit_counts_as_a_request_and_uses_no_tokens(one: Upstream, tmp_path: Path) -> None:
    async with serving(one, tmp_path, "limits: {rpm: 10, tpm: 100000}") as gateway:
        answers = [await gateway.post(BODY) for _ in range(12)]
    assert [use(each) for each in answers[:10]] == ["miss"] + ["hit"] * 9
    assert [each.status_code for each in answers[10:]] == [429, 429] and len(one.journal) == 1
    left = [int(each.headers["x-ratelimit-remaining-requests"]) for each in answers[:10]]
    assert left == sorted(left, reverse=True) and len(set(left)) == 10
    assert len(answers[5].headers.get_list("x-ratelimit-remaining-requests")) == 1


async def test_hits_cost_nothing_of_a_budget(one: Upstream, tmp_path: Path) -> None:
    """There is room for a few answers at their worst case; kept ones are given as often as they are asked for."""
    async with serving(one, tmp_path, "budget: {usd: 0.0005}") as gateway:
        answers = [await gateway.post(BODY) for _ in range(60)]
        assert [each.status_code for each in answers] == [200] * 60 and await spent(gateway) == COST


async def test_a_kept_answer_is_given_to_who_has_spent_all_else(one: Upstream, tmp_path: Path) -> None:
    async with serving(one, tmp_path, "limits: {tpm: 100000}, budget: {usd: 0.0002}") as gateway:
        kept = [use(await gateway.post(BODY)) for _ in range(3)]
        while (answer := await gateway.post(BODY | {"seed": len(one.journal)})).status_code == 200:
            assert len(one.journal) < 100
        assert answer.status_code == 402
        kept += [use(await gateway.post(BODY)) for _ in range(3)]
    assert kept == ["miss"] + ["hit"] * 5


async def test_what_a_budget_left_to_choose_from_is_not_kept_for_who_has_more(one: Upstream, tmp_path: Path) -> None:
    dear = "{provider: one, model: dear, price: {input_usd_per_mtok: 1000, output_usd_per_mtok: 2000}}"
    text = CONFIG.replace("targets: [{{provider: one, model: m1", "targets: [DEAR, {{provider: one, model: m1").format(
        folder=tmp_path, one=one.base_url, price=PRICE, key=KEY, team="budget: {usd: 0.001}"
    )
    async with running(text.replace("DEAR", dear), tmp_path) as gateway:
        answers = [await gateway.post(BODY) for _ in range(2)]
    assert [(use(each), each.headers["x-turnout-target"]) for each in answers] == [("miss", "one/m1")] * 2


async def test_an_answer_that_goes_on_without_its_leader_is_paid_by_it_once(one: Upstream, tmp_path: Path) -> None:
    gate = Gate()
    one.plays["m1"] = gate
    async with serving(one, tmp_path, "limits: {concurrency: 2}, budget: {usd: 1}") as gateway:
        leader = asyncio.create_task(gateway.post(BODY))
        await gate.asked.wait()
        follower = asyncio.create_task(gateway.post(BODY))
        await until(under_way(gateway, 2))
        leader.cancel()
        await until(under_way(gateway, 1))
        assert (await gateway.post(BODY | {"seed": 1})).status_code == 429  # the leader's place is taken while its upstream runs
        gate.open.set()
        assert use(await follower) == "join"
        assert await spent(gateway) == COST
        assert [(await gateway.post(BODY)).status_code for _ in range(4)] == [200] * 4  # and every place is free again


async def test_an_embedding_counts_with_its_question(one: Upstream, tmp_path: Path) -> None:
    one.plays["e1"] = embeds
    async with serving(one, tmp_path, "limits: {tpm: 600}, semantic_cache: {embeddings: embed}") as gateway:
        before = await gateway.post(BODY)
        after = await gateway.post(BODY)
    full = int(before.headers["x-ratelimit-limit-tokens"])
    used = full - int(after.headers["x-ratelimit-remaining-tokens"])
    assert 25 < used <= 9 + 25  # the embedding's tokens, and the answer's, less what has come back meanwhile
