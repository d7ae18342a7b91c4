"""Kept answers that several gateways share by a real Redis, and what a lost Redis costs: misses, and never a failure."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from cache.port import Entry
from cache.redis import LEASE_MS, LEASES, PREFIX, REST_S, RedisStore
from tests.gateway.caching_world import ASKED, COST, STREAMED, Gate, row_of, until, use, world
from tests.gateway.conftest import Gateway
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Upstream, good, status

Worlds = Callable[..., Any]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


@pytest.fixture
async def another(one: Upstream, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    """Starts one more gateway on the same Redis; each has a memory and a ledger of its own."""
    async with AsyncExitStack() as stack:

        async def start(**settings: str) -> Gateway:
            folder = tmp_path_factory.mktemp("world")
            return await stack.enter_async_context(world(folder, one, state=f', redis: "{redis.url}", redis_deadline_ms: 5000', **settings))

        yield start


@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "stream"])
async def test_an_answer_that_one_gateway_keeps_another_gives(another: Worlds, one: Upstream, body: dict[str, Any]) -> None:
    a, b = await another(), await another()
    first = await a.post(body)
    answer = await b.post(body)
    assert (use(first), use(answer)) == ("miss", "hit")
    assert answer.content == first.content and len(one.journal) == 1
    row = await row_of(b, answer)
    assert (row.cache, row.cost_nusd, row.saved_nusd) == ("hit", 0, COST)


async def test_it_lies_there_for_its_time_and_no_longer(another: Worlds, redis: RedisServer) -> None:
    gateway = await another(cache="ttl_s: 60")
    await gateway.post(ASKED)
    async with Redis.from_url(redis.url) as client:
        (key,) = await client.keys(PREFIX + b"*")
        assert 50_000 < await client.pttl(key) <= 60_000


async def test_another_policy_does_not_get_it(another: Worlds, one: Upstream) -> None:
    first = await another()
    await first.post(ASKED)
    for change in ({"policy": ", objective: fastest"}, {"cache": "ttl_s: 60"}, {"policy": ", drop_unsupported: true"}):
        changed = await another(**change)
        assert use(await changed.post(ASKED)) == "miss"
    assert use(await (await another()).post(ASKED)) == "hit"
    assert len(one.journal) == 4


async def test_teams_do_not_share_it(another: Worlds, one: Upstream) -> None:
    a, b = await another(), await another()
    assert use(await a.post(ASKED)) == "miss"
    assert use(await b.post(ASKED, key="sk-other")) == "miss"
    assert use(await b.post(ASKED, key="sk-search-2")) == "hit"


async def test_what_must_not_be_kept_is_not_kept_there(another: Worlds, one: Upstream, redis: RedisServer) -> None:
    one.plays["m1"] = status(500)
    gateway = await another()
    answer = await gateway.post(ASKED)
    assert answer.status_code == 502, answer.text
    async with Redis.from_url(redis.url) as client:
        assert await client.keys("turnout:cache:*") == []  # no answer, and no lease that would hold others back


async def test_a_herd_over_two_gateways_shares_one_upstream(another: Worlds, one: Upstream) -> None:
    gate = Gate()
    one.plays["m1"] = gate
    gateways = [await another(), await another()]
    tasks = [asyncio.create_task(gateway.post(ASKED)) for gateway in gateways for _ in range(5)]
    await until(lambda: all(len(g.runtime.caches.flights) == 1 for g in gateways))  # type: ignore[union-attr]
    await gate.asked.wait()
    gate.open.set()
    answers = await asyncio.gather(*tasks)
    assert len(one.journal) == 1 and len({each.content for each in answers}) == 1
    assert sorted({use(each) for each in answers}) == ["hit", "join", "miss"]


async def test_when_the_gateway_that_leads_fails_the_other_asks(another: Worlds, one: Upstream) -> None:
    gate = Gate(status(502))
    one.plays["m1"] = [gate, good]
    a, b = await another(), await another()
    first = asyncio.create_task(a.post(ASKED))
    await gate.asked.wait()
    second = asyncio.create_task(b.post(ASKED))
    await until(lambda: len(b.runtime.caches.flights) == 1)  # type: ignore[union-attr]
    gate.open.set()
    assert (await first).status_code == 502
    assert use(await second) == "miss" and len(one.journal) == 2


async def test_another_gateway_waits_for_an_answer_as_long_as_somebody_makes_it(another: Worlds, one: Upstream) -> None:
    """Longer than a lease lasts that nobody renews."""
    gate = Gate()
    one.plays["m1"] = [gate, good]
    a, b = await another(), await another()
    first = asyncio.create_task(a.post(ASKED))
    await gate.asked.wait()
    second = asyncio.create_task(b.post(ASKED))
    await asyncio.sleep(2 * LEASE_MS / 1000)
    gate.open.set()
    assert (use(await first), use(await second)) == ("miss", "hit") and len(one.journal) == 1


async def test_a_lease_whose_holder_died_ends_soon(another: Worlds, one: Upstream, redis: RedisServer) -> None:
    gateway = await another()
    await gateway.post(ASKED)
    async with Redis.from_url(redis.url) as client:
        (name,) = await client.keys(PREFIX + b"*")
        await client.delete(name)
        await client.set(LEASES + name.removeprefix(PREFIX), b"of a process that is no more", px=LEASE_MS)
    another_one = await another()
    assert use(await asyncio.wait_for(another_one.post(ASKED), 10)) == "miss"


async def test_the_first_request_after_redis_was_restarted_finds_what_is_there(another: Worlds, one: Upstream, redis: RedisServer) -> None:
    """Its connections are of the Redis before."""
    a, b = await another(), await another()
    for gateway, seed in ((a, 1), (b, 2)):
        await gateway.post(ASKED | {"seed": seed})
    redis.kill()
    redis.start()
    assert [use(await a.post(ASKED)), use(await b.post(ASKED))] == ["miss", "hit"]


@pytest.mark.parametrize("loss", [RedisServer.kill, RedisServer.freeze], ids=["killed", "frozen"])
async def test_a_lost_redis_is_only_a_miss(another: Worlds, one: Upstream, redis: RedisServer, loss: Callable[[RedisServer], None]) -> None:
    a, b = await another(), await another()
    await a.post(ASKED)
    loss(redis)
    try:
        answers = [await b.post(ASKED | {"seed": number}) for number in range(10)]
        assert [(each.status_code, use(each)) for each in answers] == [(200, "miss")] * 10
        assert use(await a.post(ASKED)) == "hit"  # its own memory has it still
        assert use(await b.post(ASKED | {"seed": 3})) == "hit"
    finally:
        if loss is RedisServer.freeze:
            redis.thaw()
    assert len(one.journal) == 11


async def test_a_redis_that_is_back_is_used_again(another: Worlds, one: Upstream, redis: RedisServer) -> None:
    a, b = await another(), await another()
    redis.kill()
    assert use(await a.post(ASKED)) == "miss"
    redis.start()
    seeds = iter(range(1, 10_000))
    shared = False
    while not shared:
        body = ASKED | {"seed": next(seeds)}
        await a.post(body)
        shared = use(await b.post(body)) == "hit"
        await asyncio.sleep(0.02)


async def test_a_redis_that_is_known_to_be_lost_is_tried_by_no_request(redis: RedisServer) -> None:
    """Once it has failed; however long ago that was."""
    known = asyncio.Event()
    entry = Entry(owner="search", request_id="r", target="one/m1", headers=(), body=b"{}", cuts=(), made_at=0.0, cost_nusd=None)
    async with aclosing(RedisStore(redis.url, known.is_set)) as store:
        await store.put(b"key", entry, 60)
        redis.freeze()
        assert await store.get(b"key") is None
        redis.thaw()
        known.set()
        await asyncio.sleep(1.1 * REST_S)
        assert await store.get(b"key") is None
        known.clear()
        while await store.get(b"key") is None:  # a busy machine may miss the deadline
            await asyncio.sleep(0.05)
            await store.put(b"key", entry, 60)


async def test_what_is_no_answer_of_ours_is_a_miss(another: Worlds, one: Upstream, redis: RedisServer) -> None:
    a, b = await another(), await another()
    await a.post(ASKED)
    async with Redis.from_url(redis.url) as client:
        (key,) = await client.keys(PREFIX + b"*")
        await client.set(key, b"znonsense", keepttl=True)
    assert use(await b.post(ASKED)) == "miss"
    assert len(one.journal) == 2
