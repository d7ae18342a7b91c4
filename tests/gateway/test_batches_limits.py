"""Rows of batches obey their team's limits and budgets, and a budget of their own; what has no room waits."""

import asyncio
from pathlib import Path

from sqlalchemy import func, select

from batch.schema import batch_rows
from tests.gateway.batching import COST_NUSD, AtOnce, chat, config, ended, lines, made, row, until
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Upstream


async def test_rows_wait_for_room_under_their_team_s_limit_and_none_is_lost(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = answers = AtOnce(0.01)
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=", limits: {concurrency: 2, max_wait_s: 5}")
    async with running(text, tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"r{n}") for n in range(30)]))
        assert len(await lines(gateway.sdk, batch.output_file_id)) == 30
    assert answers.most <= 2


def refused(gateway: Gateway) -> int:
    """Rows that had no room, and wait for some."""
    with gateway.runtime.ledger.engine.connect() as connection:
        return connection.execute(select(func.count()).where(batch_rows.c.not_before_us > 0)).scalar_one()


async def test_a_budget_of_its_own_holds_a_batch_and_leaves_live_requests_alone(one: Upstream, tmp_path: Path) -> None:
    room = 5 * COST_NUSD / 1e9
    own = f", budget: {{usd: 1, window: total}}, batch_budget: {{usd: {room}, window: total}}"
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=own, concurrency=1), tmp_path) as gateway:
        batch = await made(gateway.sdk, [row(f"r{n}", chat("hi", max_tokens=5)) for n in range(20)])
        await until(gateway.sdk, batch, lambda each: each.request_counts is not None and each.request_counts.completed >= 1)
        assert (await gateway.post(chat("live", max_tokens=5))).status_code == 200
        async with asyncio.timeout(30):
            while not refused(gateway):
                await asyncio.sleep(0.02)
        batch = await gateway.sdk.batches.retrieve(batch.id)
        assert batch.status == "in_progress"
        spent = sum(each.cost_nusd or 0 for each in await gateway.all_rows() if each.endpoint.startswith("batch."))
        assert COST_NUSD <= spent <= 5 * COST_NUSD
        await gateway.sdk.batches.cancel(batch.id)
        assert (await ended(gateway.sdk, batch)).status == "cancelled"
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=own.replace(str(room), str(room * 10)), concurrency=1)
    async with running(text, tmp_path) as gateway:
        assert (await ended(gateway.sdk, await made(gateway.sdk, [row("a", chat("hi", max_tokens=5))]))).status == "completed"


async def test_a_request_that_never_fits_its_team_s_limit_is_an_error_of_its_row(one: Upstream, tmp_path: Path) -> None:
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=", limits: {tpm: 1000}")
    async with running(text, tmp_path) as gateway:
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row("a", chat("x" * 9000, max_tokens=5)), row("b", chat("y", max_tokens=5))]))
        assert set(await lines(gateway.sdk, batch.output_file_id)) == {"b"}
        (line,) = (await lines(gateway.sdk, batch.error_file_id)).values()
        assert line["response"]["body"]["error"]["code"] == "request_too_large_for_limit"
