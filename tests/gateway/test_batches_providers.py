"""A batch that a provider's batch API runs: planned, submitted once, booked at its price, and what it leaves undone is done elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import update

from batch.schema import batches
from ledger.spent import spent_nusd
from tests.gateway.batching import chat, ended, lines, made, row, until
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, completion
from tests.providers.batch.openai_served import ServedOpenAI

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
batch: {{lease_s: 2, poll_s: 0.05}}
providers:
  away: {{kind: openai, base_url: "{away}", api_key: k{batch}}}
  live: {{kind: openai-compatible, base_url: "{live}", api_key: k}}
policies:
  home: {{residency: [eu]}}
models:
  both:
    targets:
      - {{provider: live, model: m2, price: {{input_usd_per_mtok: 3, output_usd_per_mtok: 6}}}}
      - {{provider: away, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}
teams:
  search: {{keys: [{key}]{team}}}
"""
HALF_NUSD = 15_000  # of 20 tokens in and 5 out at `away`, in a batch
LIVE_NUSD = 90_000  # the same at `live`
ROWS = 20


def config(folder: Path, away: ServedOpenAI, live: Upstream, batch: str = "", team: str = "") -> str:
    return CONFIG.format(folder=folder, away=f"{away.root}/v1", live=live.base_url, key=KEY, batch=batch, team=team)


async def echo(x: Exchange) -> None:
    await x.respond(200, json.dumps(completion(x.seen.body["messages"][-1]["content"])).encode())


@pytest.fixture
async def away() -> AsyncIterator[ServedOpenAI]:
    served = ServedOpenAI()
    await served.upstream.start()
    yield served
    await served.upstream.stop()


@pytest.fixture
async def gateway(away: ServedOpenAI, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    two.default = echo
    async with running(config(tmp_path, away, two), tmp_path) as gateway:
        yield gateway


def rows(count: int = ROWS) -> list[dict[str, Any]]:
    return [row(f"q{n}", chat(f"q{n}", "both")) for n in range(count)]


def id_of(number: int) -> str:
    """The id under which the row `q<number>` travels."""
    return f"r{number + 1:010d}"


async def answers_of(gateway: Gateway, batch: Any) -> dict[str, str]:
    found = await lines(gateway.sdk, batch.output_file_id)
    return {id: line["response"]["body"]["choices"][0]["message"]["content"] for id, line in found.items()}


async def charged(gateway: Gateway) -> list[tuple[str, int]]:
    return sorted((each.target, each.cost_nusd) for each in await gateway.all_rows() if each.billed == "team" and each.cost_nusd)


async def test_a_provider_s_job_answers_every_row_at_half_the_price(gateway: Gateway, away: ServedOpenAI, two: Upstream) -> None:
    batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
    assert batch.status == "completed" and batch.error_file_id is None
    assert await answers_of(gateway, batch) == {f"q{n}": f"answer to q{n}" for n in range(ROWS)}
    assert len(away.jobs) == 1 and not two.journal
    assert await charged(gateway) == [("away", HALF_NUSD)] * ROWS
    told = (batch.model_extra or {})["turnout"]
    assert told["cost_usd"] == pytest.approx(ROWS * HALF_NUSD / 1e9) and told["targets"] == {"away": ROWS}
    (share,) = told["plan"]["shares"]
    assert (share["target"], share["how"], share["rows"], told["plan"]["in_time"]) == ("away/m1", "provider_batch", ROWS, True)
    async with asyncio.timeout(10):  # what the provider keeps of an ended job goes, once the batch has ended
        while away.files:
            await asyncio.sleep(0.02)


async def test_rows_that_the_job_left_undone_are_done_elsewhere(gateway: Gateway, away: ServedOpenAI, two: Upstream) -> None:
    away.fates = {id_of(0): "expired", id_of(1): "missing", id_of(2): "overloaded", id_of(3): "cancelled", id_of(4): "refused"}
    batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
    assert batch.status == "completed"
    answers = await answers_of(gateway, batch)
    assert {id for id, text in answers.items() if text == id} == {"q0", "q1", "q2", "q3"}, "asked live"
    assert set(await lines(gateway.sdk, batch.error_file_id)) == {"q4"}
    assert await charged(gateway) == [("away", HALF_NUSD)] * (ROWS - 5) + [("live", LIVE_NUSD)] * 4
    assert sorted(seen.body["messages"][-1]["content"] for seen in two.journal) == ["q0", "q1", "q2", "q3"]


@pytest.mark.parametrize("ending", ["expired", "failed", "cancelled"])
async def test_a_job_that_ends_badly_costs_no_row(gateway: Gateway, away: ServedOpenAI, ending: Any) -> None:
    away.ending, away.done = ending, 7
    batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
    done = 0 if ending == "failed" else 7
    assert batch.status == "completed" and set(await answers_of(gateway, batch)) == {f"q{n}" for n in range(ROWS)}
    assert await charged(gateway) == [("away", HALF_NUSD)] * done + [("live", LIVE_NUSD)] * (ROWS - done)


async def test_polls_that_fail_and_downloads_that_are_cut_change_nothing(gateway: Gateway, away: ServedOpenAI) -> None:
    away.faults, away.cuts = [(500, {}), (503, {}), (429, {"retry-after": "0"})], 2
    batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
    assert batch.status == "completed" and await charged(gateway) == [("away", HALF_NUSD)] * ROWS


async def test_a_submission_whose_answer_was_lost_is_found_and_not_sent_again(gateway: Gateway, away: ServedOpenAI) -> None:
    away.lost_replies = 1
    batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
    assert batch.status == "completed" and len(away.jobs) == 1 and await charged(gateway) == [("away", HALF_NUSD)] * ROWS


@pytest.mark.parametrize("status", [401, 403])
async def test_a_job_whose_first_key_is_refused_goes_on_with_the_next(away: ServedOpenAI, two: Upstream, tmp_path: Path, status: int) -> None:
    away.refused = {"k": status}
    text = config(tmp_path, away, two).replace("api_key: k}", "api_keys: [k, k2]}", 1)
    async with running(text, tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
        assert batch.status == "completed" and len(away.jobs) == 1 and await charged(gateway) == [("away", HALF_NUSD)] * ROWS
    keys = [seen.head["authorization"] for seen in away.upstream.journal]
    assert keys[0] == "Bearer k" and set(keys[1:]) == {"Bearer k2"}


async def test_cancelling_stops_the_job_at_once_and_books_what_it_did(gateway: Gateway, away: ServedOpenAI, two: Upstream) -> None:
    away.WAY = ("validating", *["running"] * 1000)  # type: ignore[misc]
    away.done = 3
    batch = await made(gateway.sdk, rows())
    async with asyncio.timeout(20):
        while not away.jobs:
            await asyncio.sleep(0.01)
    (job,) = away.jobs.values()
    await gateway.sdk.batches.cancel(batch.id)
    began = monotonic()
    async with asyncio.timeout(5):
        while not job.cancelling:
            await asyncio.sleep(0.01)
    assert monotonic() - began < 1
    batch = await ended(gateway.sdk, batch)
    assert batch.status == "cancelled" and len(await answers_of(gateway, batch)) == 3 and not two.journal
    assert await charged(gateway) == [("away", HALF_NUSD)] * 3


async def test_a_late_job_is_stopped_and_its_rows_are_asked_live(gateway: Gateway, away: ServedOpenAI, two: Upstream) -> None:
    away.WAY = ("validating", *["running"] * 100_000)  # type: ignore[misc]
    away.done = 5
    batch = await made(gateway.sdk, rows())
    await until(gateway.sdk, batch, lambda _: bool(away.jobs))
    assert not two.journal
    with gateway.runtime.ledger.engine.begin() as connection:  # so near is the deadline now
        connection.execute(update(batches).values(expires_at_us=batches.c.made_at_us + 600_000_000))
    batch = await ended(gateway.sdk, batch)
    assert batch.status == "completed" and set(await answers_of(gateway, batch)) == {f"q{n}" for n in range(ROWS)}
    assert await charged(gateway) == [("away", HALF_NUSD)] * 5 + [("live", LIVE_NUSD)] * (ROWS - 5)


@pytest.mark.parametrize("batch", [", batch: {use: false}", ", batch: {turnaround_h: 100}"], ids=["switched off", "too slow for the deadline"])
async def test_rows_are_asked_live_where_the_batch_api_may_not_have_them(away: ServedOpenAI, two: Upstream, tmp_path: Path, batch: str) -> None:
    two.default = echo
    async with running(config(tmp_path, away, two, batch), tmp_path) as gateway:
        done = await ended(gateway.sdk, await made(gateway.sdk, rows()))
        assert done.status == "completed" and not away.jobs and len(two.journal) == ROWS
        assert {share["how"] for share in (done.model_extra or {})["turnout"]["plan"]["shares"]} == {"realtime"}


async def test_a_job_that_the_batch_budget_has_no_room_for_is_not_submitted(away: ServedOpenAI, two: Upstream, tmp_path: Path) -> None:
    two.default = echo
    async with running(config(tmp_path, away, two, team=", batch_budget: {usd: 0.1}"), tmp_path) as gateway:
        dear = [row(f"q{n}", chat(f"q{n}", "both", max_tokens=10_000)) for n in range(ROWS)]  # each may cost $0.02 there, and half in a batch
        batch = await made(gateway.sdk, dear)
        await until(gateway.sdk, batch, lambda _: bool(two.journal))
        assert not away.jobs
        await gateway.sdk.batches.cancel(batch.id)
        await ended(gateway.sdk, batch)


class Prioritised(ServedOpenAI):
    """Answers in a service tier that nobody gave a price."""

    def answer(self, job: Any, row: Any) -> Any:
        return {**super().answer(job, row), "service_tier": "priority"}


async def test_a_job_s_rows_without_a_known_cost_are_charged_what_they_may_cost_there(two: Upstream, tmp_path: Path) -> None:
    two.default, served = echo, Prioritised()
    await served.upstream.start()
    async with running(config(tmp_path, served, two, team=", batch_budget: {usd: 5}"), tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, rows()))
        found = [each for each in await gateway.all_rows() if each.target == "away"]
        assert batch.status == "completed" and len(found) == ROWS and {each.cost_nusd for each in found} == {None}
        assert all((each.held_nusd or 0) > HALF_NUSD for each in found)
        spent = await asyncio.to_thread(spent_nusd, gateway.runtime.ledger.engine, "batch", "search", 0)
        assert spent == sum(each.held_nusd or 0 for each in found)
    await served.upstream.stop()


async def test_a_key_of_another_policy_keeps_its_rows_from_the_provider(away: ServedOpenAI, two: Upstream, tmp_path: Path) -> None:
    two.default = echo
    text = config(tmp_path, away, two, team=", policy: home").replace("kind: openai-compatible,", "kind: openai-compatible, region: eu,")
    async with running(text, tmp_path) as gateway:
        done = await ended(gateway.sdk, await made(gateway.sdk, rows()))
        assert done.status == "completed" and not away.upstream.journal and len(two.journal) == ROWS
