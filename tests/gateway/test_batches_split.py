"""A batch over several ways at once: a provider's job and live rows, or several live targets; each row once, at the price of the way it went."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import time
from typing import Any

import httpx2
import pytest

from contract.usage import Usage
from ledger.store import Ledger
from tests.gateway.batching import ended, jsonl, made
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_batches_killed import AUTH, World
from tests.gateway.test_batches_providers import HALF_NUSD, answers_of, away, charged, echo, id_of, rows
from tests.gateway.test_batches_providers_killed import Halting
from tests.gateway.upstream import Exchange, Upstream, status
from tests.ledger.rows import row as ledger_row
from tests.providers.batch.openai_served import ServedOpenAI

__all__ = ["away"]

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
batch: {{lease_s: 2, poll_s: 0.05, concurrency: {concurrency}}}
providers:
  away: {{kind: openai, base_url: "{away}", api_key: k}}
  live: {{kind: openai-compatible, base_url: "{live}", api_key: k}}
models:
  both:
    targets:
      - {{provider: live, model: m2, price: {{input_usd_per_mtok: 0.3, output_usd_per_mtok: 0.6}}}}
      - {{provider: away, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}
teams:
  search: {{keys: [{key}]}}
"""
PAIR = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
batch: {{concurrency: 2, poll_s: 0.05}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
models:
  both:
    targets:
      - {{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}
      - {{provider: two, model: m2, price: {{input_usd_per_mtok: 0.3, output_usd_per_mtok: 0.6}}}}
teams:
  search: {{keys: [{key}]}}
"""
CHEAP_NUSD = 9_000  # of 20 tokens in and 5 out at the cheaper one, live
DAY_S = 86_400.0


def measured(ledger: Ledger, target: str, model: str, seconds: float) -> None:
    """What the ledger says of a target that has answered ten such requests, each in so long."""
    began = int((time() - seconds) * 1e6)
    for number in range(10):
        took = {"started_at_us": began, "end_us": int(seconds * 1e6), "usage": Usage(input_uncached=20, output_visible=5)}
        ledger.append(ledger_row(f"req_{target}_{seconds:.0f}_{number}", target=target, model_sent=model, route="both", model_asked="both", **took))
    assert ledger.flush()


def split(told: dict[str, Any]) -> dict[str, int]:
    """Of a plan: how many rows each target has."""
    return {share["target"]: share["rows"] for share in told["plan"]["shares"]}


async def test_what_the_cheap_live_target_cannot_do_in_time_goes_into_a_job(away: ServedOpenAI, two: Upstream, tmp_path: Path) -> None:
    two.default = echo
    text = CONFIG.format(folder=tmp_path, away=f"{away.root}/v1", live=two.base_url, key=KEY, concurrency=2)
    async with running(text, tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "live", "m2", DAY_S / 4)  # two at once: eight a day
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows(20)))
        told = (batch.model_extra or {})["turnout"]
        assert split(told) == {"live/m2": 8, "away/m1": 12} and told["plan"]["in_time"]
        assert batch.status == "completed" and batch.error_file_id is None
        assert await answers_of(gateway, batch) == {f"q{n}": f"q{n}" if n < 8 else f"answer to q{n}" for n in range(20)}
        (job,) = away.jobs.values()
        assert sorted(line["custom_id"] for line in job.rows) == [id_of(n) for n in range(8, 20)] and len(two.journal) == 8
        assert await charged(gateway) == [("away", HALF_NUSD)] * 12 + [("live", CHEAP_NUSD)] * 8
        assert told["cost_usd"] == pytest.approx((12 * HALF_NUSD + 8 * CHEAP_NUSD) / 1e9) and told["targets"] == {"away": 12, "live": 8}


async def slowly(x: Exchange) -> None:
    await asyncio.sleep(0.02)
    await echo(x)


@pytest.fixture
async def halting() -> AsyncIterator[Halting]:
    served = Halting()
    await served.upstream.start()
    yield served
    await served.upstream.stop()


async def test_a_split_batch_through_kills_has_each_row_once_at_its_own_price(halting: Halting, two: Upstream, tmp_path: Path) -> None:
    """Killed while live rows are under way and the job was just made, and among the job's results."""
    count, live, two.default = 280, 80, slowly
    world = World(tmp_path, f"sqlite:///{tmp_path}/turnout.db", two, 1)
    text = CONFIG.format(folder=tmp_path, away=f"{halting.root}/v1", live=two.base_url, key=KEY, concurrency=8)
    (tmp_path / "turnout.yaml").write_text("server: {port: 0}\n" + text)
    ledger = Ledger(f"sqlite:///{tmp_path}/turnout.db")
    measured(ledger, "live", "m2", 8 * DAY_S / live)
    ledger.close()
    id = ""
    for moment, done in (("create", 10), ("download", 180)):
        halting.halts_at, halting.halted = moment, asyncio.Event()
        async with world.serving() as gateway:
            id = id or await submitted(gateway.url, count)
            async with asyncio.timeout(40):
                await halting.halted.wait()
            await world.until(done)
            gateway.process.kill()
            await gateway.process.wait()
    async with world.serving() as gateway:
        stands = await world.until(count + 1)
        assert (stands.status, stands.succeeded) == ("completed", count)
        async with httpx2.AsyncClient(base_url=gateway.url, headers=AUTH, timeout=60, trust_env=False) as http:
            batch = (await http.get(f"/v1/batches/{id}")).json()
            output = (await http.get(f"/v1/files/{batch['output_file_id']}/content")).text
    assert split(batch["turnout"]) == {"live/m2": live, "away/m1": count - live} and len(halting.jobs) == 1
    lines = [json.loads(line) for line in output.splitlines()]
    answers = {line["custom_id"]: line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}
    assert len(lines) == count and answers == {f"q{n}": f"q{n}" if n < live else f"answer to q{n}" for n in range(count)}
    found = await asyncio.to_thread(world.ledger)
    paid = {each.request_id: each.cost_nusd for each in found if each.billed == "team" and each.error_code is None and each.cost_nusd}
    assert sorted(paid.values()) == [CHEAP_NUSD] * live + [HALF_NUSD] * (count - live)
    assert {line["response"]["request_id"] for line in lines} == set(paid)
    assert batch["turnout"]["cost_usd"] == pytest.approx(sum(paid.values()) / 1e9)
    assert len(two.journal) - live <= batch["turnout"]["repeated_rows"] <= 2 * 16, "rows in hand at the kills alone were asked twice"
    world.engine.dispose()


async def submitted(url: str, count: int) -> str:
    async with httpx2.AsyncClient(base_url=url, headers=AUTH, timeout=60, trust_env=False) as http:
        file = await http.post("/v1/files", files={"file": ("rows.jsonl", jsonl(rows(count)))}, data={"purpose": "batch"})
        new = {"input_file_id": file.json()["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        id: str = (await http.post("/v1/batches", json=new)).json()["id"]
        return id


# --- the targets of live rows ---------------------------------------------------------------------------------------------------
async def decided(gateway: Gateway, line: dict[str, Any]) -> dict[str, Any]:
    answer = await gateway.http.get(f"/v1/decisions/{line['response']['request_id']}", headers=AUTH)
    decision: dict[str, Any] = answer.json()["decision"]
    return decision


async def output(gateway: Gateway, batch: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await gateway.sdk.files.content(batch.output_file_id)).text.splitlines()]


async def test_live_rows_are_asked_where_the_plan_has_them_and_their_decision_says_so(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    """The policy's order has the dear one first, as live requests find it; the plan has the cheap one, which does it in time."""
    one.default = two.default = echo
    async with running(PAIR.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        for target, model in (("one", "m1"), ("two", "m2")):
            await asyncio.to_thread(measured, gateway.runtime.ledger, target, model, 1.0)
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows(10)))
        assert split((batch.model_extra or {})["turnout"]) == {"two/m2": 10} and not one.journal and len(two.journal) == 10
        for line in await output(gateway, batch):
            decision = await decided(gateway, line)
            assert (decision["chosen"], decision["why"]) == ("two/m2", "planned by its batch")
            assert [(each["target"], each["verdict"]) for each in decision["candidates"]] == [("two/m2", "chosen"), ("one/m1", "fallback")]
        live = await gateway.post({"model": "both", "messages": [{"role": "user", "content": "hi"}]})
        assert live.headers["x-turnout-target"] == "one/m1"


async def test_rows_are_dealt_to_live_targets_as_the_plan_divides_them(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    one.default = two.default = echo
    async with running(PAIR.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        await asyncio.to_thread(measured, gateway.runtime.ledger, "one", "m1", 1.0)
        await asyncio.to_thread(measured, gateway.runtime.ledger, "two", "m2", DAY_S / 20)  # two at once: 39 a day beside the others
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows(100)))
        assert split((batch.model_extra or {})["turnout"]) == {"two/m2": 39, "one/m1": 61}
        assert abs(len(two.journal) - 39) <= 2 and len(one.journal) + len(two.journal) == 100
        early = [int(seen.body["messages"][-1]["content"][1:]) for seen in two.journal][:10]
        assert max(early) < 50, "both advance together"


async def test_where_the_planned_target_fails_the_policy_has_the_next(one: Upstream, two: Upstream, tmp_path: Path) -> None:
    one.default, two.default = echo, status(503)
    async with running(PAIR.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        for target, model in (("one", "m1"), ("two", "m2")):
            await asyncio.to_thread(measured, gateway.runtime.ledger, target, model, 1.0)
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows(30)))
        assert batch.status == "completed" and batch.error_file_id is None and len(one.journal) == 30
        decisions = [await decided(gateway, line) for line in await output(gateway, batch)]
        assert {decision["chosen"] for decision in decisions} == {"two/m2", "one/m1"}
        gone = [each["rule"] for decision in decisions for each in decision["candidates"] if each["verdict"] == "removed"]
        assert set(gone) == {"not ready: its breaker is open after failures"}
