"""A batch that many workers ask over PostgreSQL, on one host and on two: whoever dies, each row has one result and is charged once."""

import asyncio
import contextlib
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
import redis as redis_client

from tests.gateway.redis_server import RedisServer
from tests.gateway.test_batches_killed import AUTH, CONCURRENCY, World, judge, submit
from tests.gateway.upstream import Exchange, Upstream, completion, silent
from tests.gateway.workers import Serving, children, eventually
from tests.postgres_server import PostgresServer


async def after(delay_s: float, x: Exchange) -> None:
    await asyncio.sleep(delay_s)
    await x.respond(200, json.dumps(completion(x.seen.body["messages"][-1]["content"])).encode())


@pytest.fixture
def mortal() -> Iterator[PostgresServer]:
    """Of this test alone."""
    server = PostgresServer().start()
    yield server
    server.end()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


def sharing(redis: RedisServer, text: str) -> str:
    """Longer leases than these tests have time for: who died is known without them."""
    return text.replace("state: {", f'state: {{redis: "{redis.url}", ').replace("lease_s: 2", "lease_s: 30")


class Deaths(NamedTuple):
    """`flushed`, `restarted`: after how many rows Redis is emptied and the database killed and started."""

    workers: int
    whole: int
    flushed: int
    restarted: int


async def all_listen(world: World, gateway: Serving) -> None:
    await eventually(lambda: len(gateway.pids()) == world.workers)


def kill_all(gateway: Serving) -> None:
    """The parent and all its children, at once."""
    for pid in (gateway.process.pid, *children(gateway.process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def undisturbed(world: World, rows: int) -> float:
    async with world.serving() as gateway:
        await all_listen(world, gateway)
        began = time.monotonic()
        await submit(gateway.url, rows)
        await world.until(rows + 1, limit_s=400)
        return time.monotonic() - began


class Night:
    """A batch and all that befalls it, in an order that nobody chose. `in_hand`: rows that were leased when somebody was killed."""

    def __init__(self, world: World, rows: int, deaths: Deaths, postgres: PostgresServer, redis: RedisServer) -> None:
        self._world = world
        self._rows = rows
        self._postgres = postgres
        self._redis = redis
        self._fates = ["worker"] * deaths.workers + ["whole"] * deaths.whole
        random.shuffle(self._fates)
        self._others = {deaths.flushed: self._flush, deaths.restarted: self._restart}
        self.in_hand = 0

    async def passes(self) -> tuple[str, float]:
        """The batch's id, and the seconds from its submission to its end."""
        id, began, kill = "", 0.0, 0
        while True:
            async with self._world.serving() as gateway:
                if not id:
                    await all_listen(self._world, gateway)
                    began = time.monotonic()
                    id = await submit(gateway.url, self._rows)
                while kill < len(self._fates):
                    await self._world.until((kill + 1) * self._rows // (len(self._fates) + 1))
                    if other := self._others.get(kill):
                        await asyncio.to_thread(other)
                    kill += 1
                    if await self._kill(self._fates[kill - 1], gateway):
                        break
                else:
                    await self._world.until(self._rows + 1, limit_s=400)
                    took_s = time.monotonic() - began
                    await judge(self._world, gateway.url, id, self._rows, self.in_hand)
                    return id, took_s

    async def _kill(self, what: str, gateway: Serving) -> bool:
        """Whether the whole gateway is gone."""
        if what == "whole":
            kill_all(gateway)
            await gateway.process.wait()
            self.in_hand += (await self._world.until(0)).leased
            return True
        alive = await eventually(lambda: [pid for pid in gateway.pids().values() if pid in children(gateway.process.pid)])
        os.kill(random.choice(alive), signal.SIGKILL)
        self.in_hand += (await self._world.until(0)).leased
        return False

    def _flush(self) -> None:
        with redis_client.Redis.from_url(self._redis.url) as client:
            client.flushall()

    def _restart(self) -> None:
        self._postgres.kill()
        self._postgres.start()


async def through(tmp_path: Path, one: Upstream, postgres: PostgresServer, redis: RedisServer, rows: int, deaths: Deaths) -> float:
    folder = tmp_path / "night"
    folder.mkdir()
    world = World(folder, postgres.database(), one, 4, partial(sharing, redis))
    try:
        _, took_s = await Night(world, rows, deaths, postgres, redis).passes()
    finally:
        world.engine.dispose()
    return took_s


@pytest.mark.slow  # half a minute, and most of what `test_batches_killed.py` shows with one worker
async def test_workers_gateway_redis_and_database_die_under_a_batch(
    one: Upstream, tmp_path: Path, mortal: PostgresServer, redis: RedisServer
) -> None:
    one.default = partial(after, 0.02)
    await through(tmp_path, one, mortal, redis, 300, Deaths(workers=2, whole=1, flushed=1, restarted=2))


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_ten_thousand_rows_through_twenty_deaths_take_half_as_long_again_at_most(
    one: Upstream, tmp_path: Path, mortal: PostgresServer, redis: RedisServer
) -> None:
    one.default = partial(after, 0.1)
    quiet = tmp_path / "quiet"
    quiet.mkdir()
    world = World(quiet, mortal.database(), one, 4, partial(sharing, redis))
    quiet_s = await undisturbed(world, 10_000)
    world.engine.dispose()
    one.journal.clear()
    took_s = await through(tmp_path, one, mortal, redis, 10_000, Deaths(workers=15, whole=5, flushed=7, restarted=13))
    print(f"undisturbed {quiet_s:.1f} s, disturbed {took_s:.1f} s: {took_s / quiet_s:.2f} times as long")
    assert took_s <= 1.5 * quiet_s


class Hosts:
    """Two gateways with data folders of their own, over one PostgreSQL and one folder of files. Each tells its provider who it is by its key."""

    def __init__(self, tmp_path: Path, database: str, upstream: Upstream) -> None:
        self.worlds = []
        for name in ("left", "right"):
            folder = tmp_path / name
            folder.mkdir()
            self.worlds.append(World(folder, database, upstream, 1, partial(self._own, tmp_path / "files", name)))

    @staticmethod
    def _own(files: Path, name: str, text: str) -> str:
        return text.replace("lease_s: 2", f'lease_s: 2, folder: "{files}"').replace("api_key: k", f"api_key: {name}")

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Serving, Serving]]:
        left, right = self.worlds
        async with left.serving() as first, right.serving() as second:
            yield first, second

    def asked(self) -> Counter[str]:
        """How many rows' requests came from each."""
        return Counter(seen.head["authorization"].removeprefix("Bearer ") for seen in self.worlds[0].upstream.journal)

    def dispose(self) -> None:
        for world in self.worlds:
            world.engine.dispose()


async def test_two_hosts_share_a_batch_and_one_ends_it_when_the_other_dies(one: Upstream, tmp_path: Path, postgres: PostgresServer) -> None:
    one.default = partial(after, 0.03)
    hosts, rows = Hosts(tmp_path, postgres.database(), one), 300
    left, right = hosts.worlds
    async with hosts.serving() as (first, second):
        id = await submit(first.url, rows)
        await left.until(rows // 2)
        asked = hosts.asked()
        assert asked["left"] > rows // 10 and asked["right"] > rows // 10, "both ask"
        first.process.kill()
        await first.process.wait()
        in_hand = (await right.stands()).leased
        await right.until(rows + 1)
        async with left.serving():  # what it had begun stands in its own spool, and comes to the ledger with it
            await eventually(lambda: any(each.billed == "gateway" for each in left.ledger()))
        await judge(right, second.url, id, rows, in_hand)
        print(f"asked by each host: {dict(hosts.asked())}")
    hosts.dispose()


async def test_cancelling_stops_the_rows_of_every_worker_of_every_host_within_a_second(
    one: Upstream, tmp_path: Path, postgres: PostgresServer
) -> None:
    one.default = silent
    hosts = Hosts(tmp_path, postgres.database(), one)
    async with hosts.serving() as (first, second):
        id = await submit(first.url, 200)
        await eventually(lambda: len(one.journal) == 2 * CONCURRENCY)
        asked = list(one.journal)
        began = time.monotonic()
        async with httpx2.AsyncClient(base_url=second.url, headers=AUTH, timeout=30, trust_env=False) as http:
            assert (await http.post(f"/v1/batches/{id}/cancel")).status_code == 200
        await asyncio.gather(*(seen.gone.wait() for seen in asked))
        took_s = time.monotonic() - began
        print(f"{len(asked)} requests of two hosts closed {took_s:.2f} s after the cancel began")
        assert took_s < 1.0 and len(one.journal) == len(asked)
        stands = await hosts.worlds[0].until(1, "cancelled")
        assert stands.status == "cancelled" and stands.leased == 0
    hosts.dispose()
