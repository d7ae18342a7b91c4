"""What a batch does to live requests of the same targets, keys and teams: rows that fail, limits that both share."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.gateway.batching import AtOnce, chat, config, ended, lines, made, row, until
from tests.gateway.conftest import running
from tests.gateway.upstream import Exchange, Upstream, completion, status


async def some(x: Exchange) -> None:
    text = x.seen.body["messages"][-1]["content"]
    if "bad" in text:
        await status(500)(x)
    else:
        await x.respond(200, json.dumps(completion(text)).encode())


async def test_rows_that_always_fail_take_their_target_from_no_live_request(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = some
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url), tmp_path) as gateway:
        health = gateway.runtime.routes.exact["solo"].targets[0].health
        batch = await made(gateway.sdk, [row(f"{'bad' if n < 10 else 'good'} {n}") for n in range(40)])
        await until(gateway.sdk, batch, lambda _: health.of("search").state(asyncio.get_running_loop().time()) != "closed")
        for _ in range(20):
            assert (await gateway.post(chat("live"))).status_code == 200
            await asyncio.sleep(0.05)
        assert health.state(asyncio.get_running_loop().time()) == "closed"
        await gateway.sdk.batches.cancel(batch.id)
        batch = await ended(gateway.sdk, batch)
        assert all(line["response"]["body"]["choices"] for line in (await lines(gateway.sdk, batch.output_file_id)).values())
        assert health.running == 0


async def test_rows_keep_away_while_live_requests_must(one: Upstream, tmp_path: Path) -> None:
    """An outage that live requests met: rows wait for its end, and cost none of their attempts."""
    one.plays["m1"] = status(503)
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url), tmp_path) as gateway:
        health = gateway.runtime.routes.exact["solo"].targets[0].health
        while health.state(asyncio.get_running_loop().time()) == "closed":
            await gateway.post(chat("live"))
        asked = len(one.journal)
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(5)])
        await until(gateway.sdk, batch, lambda each: each.status == "in_progress")
        assert not health.of("search").available(asyncio.get_running_loop().time()) and len(one.journal) == asked
        one.plays["m1"] = some
        batch = await ended(gateway.sdk, batch)
        assert len(await lines(gateway.sdk, batch.output_file_id)) == 5 and batch.error_file_id is None


async def test_a_batch_leaves_half_of_its_team_s_limit_to_live_requests(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = some
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=", limits: {rpm: 60}", concurrency=4)
    async with running(text, tmp_path) as gateway:
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(100)])
        await until(gateway.sdk, batch, lambda each: each.request_counts is not None and each.request_counts.completed >= 25)
        for _ in range(15):
            assert (await gateway.post(chat("live"))).status_code == 200
        asked = len(one.journal)
        assert asked < 15 + 60 / 2 + 4 + 30, "no more than the half of the burst, and what came back meanwhile"
        await gateway.sdk.batches.cancel(batch.id)
        await ended(gateway.sdk, batch)


async def test_an_outage_costs_no_row_however_long_it_lasts(one: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else asks: the rows themselves try whether the target is well again, and each failure would count."""
    monkeypatch.setattr("policy.breaker.FIRST_OPEN_S", 0.05)
    monkeypatch.setattr("policy.breaker.MAX_OPEN_S", 0.1)
    monkeypatch.setattr("gateway.batches.row_retry.PROBE_S", 0.2)
    one.plays["m1"] = status(500)
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=", attempts: 5"), tmp_path) as gateway:
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(4)])
        async with asyncio.timeout(60):
            while len(one.journal) < 40:
                await asyncio.sleep(0.05)
        one.plays["m1"] = some
        batch = await ended(gateway.sdk, batch)
        assert len(await lines(gateway.sdk, batch.output_file_id)) == 4 and batch.error_file_id is None


async def test_one_team_s_rows_that_always_fail_do_not_stop_another_s(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = some
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url)
    async with running(text, tmp_path) as gateway:
        bad = await made(gateway.sdk, [row(f"bad {n}") for n in range(40)])
        health = gateway.runtime.routes.exact["solo"].targets[0].health
        await until(gateway.sdk, bad, lambda _: health.of("search").state(asyncio.get_running_loop().time()) != "closed")
        other = gateway.sdk.with_options(api_key="sk-narrow")
        good = await ended(other, await made(other, [row(f"good {n}") for n in range(40)]), 20)
        assert len(await lines(other, good.output_file_id)) == 40
        await gateway.sdk.batches.cancel(bad.id)
        await ended(gateway.sdk, bad)


async def test_rows_that_fail_tell_live_requests_nothing_of_the_target(one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = some
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, more=", attempts: 1"), tmp_path) as gateway:
        stats = gateway.runtime.routes.exact["solo"].targets[0].stats
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row("bad 1"), row("bad 2")]))
        assert batch.request_counts is not None and batch.request_counts.failed == 2 and not stats.failures


async def test_a_batch_leaves_half_of_the_places_to_live_requests(one: Upstream, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def held(x: Exchange) -> None:
        if "live" not in x.seen.body["messages"][-1]["content"]:
            await release.wait()
        await some(x)

    one.plays["m1"] = held
    text = config(f"sqlite:///{tmp_path}/turnout.db", one.base_url, team=", limits: {concurrency: 4}")
    async with running(text, tmp_path) as gateway:
        batch = await made(gateway.sdk, [row(f"r{n}") for n in range(6)])
        async with asyncio.timeout(30):
            while len(one.journal) < 2:
                await asyncio.sleep(0.02)
        answers = await asyncio.gather(*(gateway.post(chat("live")) for _ in range(2)))
        assert [each.status_code for each in answers] == [200, 200] and len(one.journal) == 4
        release.set()
        await ended(gateway.sdk, batch)


async def test_rows_of_many_megabytes_are_asked_a_few_at_a_time(one: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.batches.executor.MOST_BYTES", 3_000_000)
    one.plays["m1"] = answers = AtOnce(0.05)
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url), tmp_path) as gateway:
        sizes = [1_400_000, 1_400_000, 1_400_000, 4_000_000, 10, 10, 1_400_000]
        batch = await ended(gateway.sdk, await made(gateway.sdk, [row(f"r{n}", chat("x" * size)) for n, size in enumerate(sizes)]))
        assert len(await lines(gateway.sdk, batch.output_file_id)) == len(sizes) and 1 < answers.most <= 4
