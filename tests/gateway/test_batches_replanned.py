"""A batch is planned anew for rows that nobody has begun: when a target goes out of service or comes back, when the configuration changes, and when
live rows fall behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from batch.schema import batches
from tests.gateway.batching import chat, ended, made, row, until
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_batches_providers import answers_of, rows
from tests.gateway.test_batches_split import CONFIG, DAY_S, PAIR, measured, slowly
from tests.gateway.upstream import Exchange, Upstream, completion, silent, status
from tests.providers.batch.openai_served import ServedOpenAI
from tests.providers.batch.served import Route

ENGINE = """
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512}}}}
"""


class Whole(ServedOpenAI):
    """Answers live calls too."""

    def routes(self) -> list[Route]:
        return [*super().routes(), ("POST", "/v1/chat/completions", self.chat)]

    async def chat(self, x: Exchange, _: str) -> None:
        await self.json(x, completion(f"live {x.seen.body['messages'][-1]['content']}"))


@pytest.fixture
async def away() -> AsyncIterator[Whole]:
    served = Whole()
    await served.upstream.start()
    yield served
    await served.upstream.stop()


def config(folder: Path, away: ServedOpenAI, live: Upstream, concurrency: int = 2) -> str:
    return CONFIG.format(folder=folder, away=f"{away.root}/v1", live=live.base_url, key=KEY, concurrency=concurrency)


def plan_of(batch: Any) -> dict[str, Any]:
    plan: dict[str, Any] = (batch.model_extra or {})["turnout"]["plan"]
    return plan


def planned_for(batch: Any) -> set[tuple[str, str]]:
    plan = (batch.model_extra or {})["turnout"]["plan"]
    return set() if plan is None else {(share["target"], share["how"]) for share in plan["shares"]}


async def test_rows_of_a_target_that_goes_out_of_service_are_left_to_a_job(away: Whole, two: Upstream, tmp_path: Path) -> None:
    two.default = slowly
    async with running(config(tmp_path, away, two), tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "live", "m2", 1.0)
        batch = await made(gateway.sdk, rows(100))
        await until(gateway.sdk, batch, lambda each: each.request_counts.completed > 2)
        assert not away.jobs
        two.default = status(503)
        batch = await ended(gateway.sdk, batch)
        assert batch.status == "completed" and planned_for(batch) == {("away/m1", "provider_batch")} and plan_of(batch)["unready"] == ["live/m2"]
        (job,) = away.jobs.values()
        answers = await answers_of(gateway, batch)
        assert set(answers) == {f"q{n}" for n in range(100)}
        assert 20 < len(job.rows) <= plan_of(batch)["rows"], "a row that was begun while the plan was made is none of the job's"
        assert sum(text.startswith("answer to") for text in answers.values()) == len(job.rows), "what was begun stayed where it was"


async def test_rows_go_to_a_target_that_came_back(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    one.default, two.default = slowly, status(503)
    async with running(PAIR.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        for target, model in (("one", "m1"), ("two", "m2")):
            await asyncio.to_thread(measured, gateway.runtime.ledger, target, model, 1.0)
        batch = await made(gateway.sdk, rows(200))
        batch = await until(gateway.sdk, batch, lambda each: planned_for(each) == {("one/m1", "realtime")})
        asked, two.default = len(two.journal), slowly
        batch = await until(gateway.sdk, batch, lambda each: planned_for(each) == {("two/m2", "realtime")})
        batch = await ended(gateway.sdk, batch)
        assert batch.request_counts.completed == 200 and len(two.journal) > asked + 10


async def test_rows_of_an_engine_that_is_gone_are_planned_for_others(away: Whole, two: Upstream, tmp_path: Path) -> None:
    text = config(tmp_path, away, two, 1).replace("    targets:", "    targets:\n      - {engine: cpu}") + ENGINE.format()
    async with running(text, tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "cpu", "cpu", 1.0)
        batch = await made(gateway.sdk, [row(f"q{n}", chat(f"q{n}", "both", max_tokens=8)) for n in range(40)])
        batch = await until(gateway.sdk, batch, lambda each: each.request_counts.completed > 1)
        assert planned_for(batch) == {("cpu", "engine")} and not two.journal
        await gateway.runtime.engines["cpu"].stop()
        batch = await ended(gateway.sdk, batch)
        assert plan_of(batch)["unready"] == ["cpu"] and ("cpu", "engine") not in planned_for(batch)
        assert len(await answers_of(gateway, batch)) == 40


async def test_another_price_is_another_plan_after_a_restart(away: Whole, two: Upstream, tmp_path: Path) -> None:
    two.default = silent
    text = config(tmp_path, away, two)
    async with running(text, tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "live", "m2", 1.0)
        batch = await made(gateway.sdk, rows(40))
        batch = await until(gateway.sdk, batch, lambda each: planned_for(each) == {("live/m2", "realtime")})
    async with running(text + "server: {port: 9}\n", tmp_path) as gateway:
        before = plan_of(batch)
        await asyncio.sleep(0.5)
        assert plan_of(await gateway.sdk.batches.retrieve(batch.id)) == before, "nothing that a plan goes by has changed"
    async with running(text.replace("0.3", "30").replace("0.6", "60"), tmp_path) as gateway:
        batch = await until(gateway.sdk, batch, lambda each: planned_for(each) == {("away/m1", "provider_batch")})
        await gateway.sdk.batches.cancel(batch.id)
        await ended(gateway.sdk, batch)


async def test_live_rows_that_fall_behind_are_planned_anew_by_what_was_measured_since(away: Whole, two: Upstream, tmp_path: Path) -> None:
    two.default = silent
    async with running(config(tmp_path, away, two), tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "live", "m2", 100.0)
        batch = await made(gateway.sdk, rows(40))
        batch = await until(gateway.sdk, batch, lambda each: planned_for(each) == {("live/m2", "realtime")})
        await asyncio.to_thread(measured, gateway.runtime.ledger, "live", "m2", DAY_S / 2)
        await asyncio.to_thread(an_hour_ago, gateway, batch.id)
        batch = await until(gateway.sdk, batch, lambda each: ("away/m1", "provider_batch") in planned_for(each))
        await gateway.sdk.batches.cancel(batch.id)
        await ended(gateway.sdk, batch)


def an_hour_ago(gateway: Gateway, id: str) -> None:
    """The plan was made then, and what it expected was due half an hour ago."""
    with gateway.runtime.ledger.engine.begin() as connection:
        plan = json.loads(connection.execute(select(batches.c.plan)).scalar_one())
        plan["made_at"] -= 3600
        plan["shares"] = [share | {"ends_at": plan["made_at"] + 1800} for share in plan["shares"]]
        connection.execute(update(batches).where(batches.c.id == id).values(plan=json.dumps(plan)))
