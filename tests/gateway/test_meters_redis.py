"""Limits and budgets over a real Redis: leases, orphans, and a Redis that is flushed, frozen, killed, read-only or another one."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from time import monotonic

import msgspec
import pytest
from redis.asyncio import Redis

from contract.errors import StoreUnavailable
from gateway.metering.meter import Spent
from gateway.metering.redis_meter import PREFIX, RedisMeter
from gateway.metering.redis_store import DEADLINE_S, SCRIPT
from policy.gcra import window_start
from policy.quota import Budget, Granted, Refused, Scope, Used, Want
from tests.gateway.metering import LEASE_S, WANT, Host, admitted, ended, levels, spent, stands_at, team, until

BUDGET = team(Budget(10_000, "month"))


@pytest.fixture
async def redis(host: Host) -> AsyncIterator[Redis]:
    client = Redis.from_url(host.redis.url)
    yield client
    await client.aclose()


async def crash(meter: RedisMeter) -> None:
    """It says nothing any more: what it had reserved is nobody's."""
    assert meter._task is not None
    meter._task.cancel()
    await meter.store.close()


async def lost(host: Host, meter: RedisMeter) -> None:
    """Redis is gone, and the meter knows."""
    host.redis.kill()
    answer = await meter.reserve("probe", (team(rpm=10**6),), Want(0, 0))
    if isinstance(answer, Granted):
        meter.settle(answer, Used(0, 0))
    assert meter.store.lost is not None


async def back(host: Host, meter: RedisMeter) -> None:
    host.redis.start()
    await until(lambda: meter.store.lost is None)


# --- leases ----------------------------------------------------------------------------------------------------------
async def test_a_reservation_outlives_its_lease_while_its_process_lives(host: Host) -> None:
    meter = await host.process()
    granted = admitted(await meter.reserve("a", (BUDGET,), WANT))
    await asyncio.sleep(2 * LEASE_S)
    assert await spent(meter, BUDGET) == (0, 1_000, 1)
    ended(host.books, meter, granted, 400)
    assert await spent(meter, BUDGET) == (400, 0, 0)


async def test_what_a_crash_leaves_is_settled_as_the_ledger_has_it(host: Host) -> None:
    gone, lives = await host.process(), await host.process()
    for id in ("with a row", "without"):
        admitted(await gone.reserve(id, (BUDGET,), WANT))
    host.books.charge("with a row", 700)
    assert await spent(lives, BUDGET) == (0, 2_000, 2)
    await crash(gone)
    await stands_at(lives, BUDGET, 700, 0, 0)
    assert await host.books.sum() == 700


async def test_a_slot_is_free_when_its_lease_has_ended(host: Host) -> None:
    gone, lives, scope = await host.process(), await host.process(), team(concurrency=1)
    admitted(await gone.reserve("a", (scope,), WANT))
    await crash(gone)
    assert isinstance(await lives.reserve("b", (scope,), WANT), Refused)
    await asyncio.sleep(LEASE_S * 1.1)
    admitted(await lives.reserve("b", (scope,), WANT))


async def test_a_settlement_that_comes_after_its_lease_is_counted_once(host: Host) -> None:
    """A process was held up for longer than a lease; another one has settled for it."""
    slow, lives = await host.process(), await host.process()
    granted = admitted(await slow.reserve("a", (BUDGET,), WANT))
    task = slow._task
    assert task is not None
    task.cancel()
    await stands_at(lives, BUDGET, 0, 0, 0)
    ended(host.books, slow, granted, 600)
    await stands_at(lives, BUDGET, 600, 0, 0)


async def test_who_leaves_while_asking_leaves_nothing_reserved(host: Host) -> None:
    meter = await host.process()
    await spent(meter, BUDGET)
    tasks = [asyncio.create_task(meter.reserve(str(number), (BUDGET,), WANT)) for number in range(5)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await stands_at(meter, BUDGET, 0, 0, 0)


async def test_nothing_is_left_in_redis_of_what_has_ended(host: Host, redis: Redis) -> None:
    meter = await host.process()
    for number in range(20):
        ended(host.books, meter, admitted(await meter.reserve(str(number), (BUDGET,), Want(1, 10))), 5)
    await meter.stop()
    assert sorted(await redis.keys(f"{PREFIX}*")) == [f"{PREFIX}{name}".encode() for name in ("epoch", "s:team:red")]


# --- it forgets --------------------------------------------------------------------------------------------------------
async def test_after_a_flush_budgets_are_read_from_the_ledger_before_anybody_is_admitted(host: Host, redis: Redis) -> None:
    meter = await host.process()
    ended(host.books, meter, admitted(await meter.reserve("a", (BUDGET,), WANT)), 900)
    assert await spent(meter, BUDGET) == (900, 0, 0)
    await redis.flushall()
    refused = await meter.reserve("b", (team(Budget(1_800, "month")),), WANT)
    assert isinstance(refused, Refused) and refused.dimension == "budget"


async def test_after_a_flush_what_runs_is_reserved_again(host: Host, redis: Redis) -> None:
    one, other = await host.process(), await host.process()
    running = [admitted(await meter.reserve(name, (BUDGET,), WANT)) for name, meter in (("a", one), ("b", other))]
    await redis.flushall()
    await stands_at(one, BUDGET, 0, 2_000, 2)
    ended(host.books, one, running[0], 300)
    ended(host.books, other, running[1], 400)
    await stands_at(one, BUDGET, 700, 0, 0)


async def test_what_ends_just_after_a_flush_is_counted_once(host: Host, redis: Redis) -> None:
    meter = await host.process()
    running = [admitted(await meter.reserve(str(number), (BUDGET,), WANT)) for number in range(10)]
    await redis.flushall()
    for number, granted in enumerate(running):
        ended(host.books, meter, granted, 100 + number)
    await stands_at(meter, BUDGET, 1_045, 0, 0)


async def test_flushed_again_and_again_under_load_the_counter_is_the_ledger_in_the_end(host: Host, redis: Redis) -> None:
    meters = [await host.process() for _ in range(3)]
    scope = team(Budget(10**12, "month"))

    async def load(meter: RedisMeter, name: int) -> None:
        for number in range(60):
            answer = await meter.reserve(f"{name}-{number}", (scope,), WANT)
            await asyncio.sleep(0.004 * (number % 7))
            if isinstance(answer, Granted):
                ended(host.books, meter, answer, 100 + number)

    async def flush() -> None:
        for _ in range(4):
            await asyncio.sleep(0.2)
            await redis.flushall()

    await asyncio.gather(flush(), *(load(meter, 10 * index + worker) for index, meter in enumerate(meters) for worker in range(3)))
    await stands_at(meters[0], scope, await host.books.sum(), 0, 0)


async def test_a_request_that_has_rows_already_is_counted_once_when_it_ends(host: Host, redis: Redis) -> None:
    """Its first attempt was cut and is charged; a second one runs while the budget is read, before its process has told Redis of it again."""
    meter = await host.process()
    granted = admitted(await meter.reserve("a", (BUDGET,), WANT))
    host.books.charge("a", 300)
    await redis.flushall()
    await spent(meter, BUDGET)
    await stands_at(meter, BUDGET, 0, 1_000, 1)
    host.books.charge("a", 200, attempt=2)
    meter.settle(granted, Used(1, 500))
    await stands_at(meter, BUDGET, 500, 0, 0)


class Slow:
    """A ledger whose sum is told late: more was spent meanwhile."""

    def __init__(self, spent: Spent) -> None:
        self._spent = spent
        self.read, self.goes_on = asyncio.Event(), asyncio.Event()

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        total = await self._spent.since(scope, start_s, but)
        self.read.set()
        await self.goes_on.wait()
        return total

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return await self._spent.of(request_ids)


async def test_what_nobody_knew_of_while_the_ledger_was_read_has_it_read_again(host: Host, redis: Redis) -> None:
    other, slow = await host.process(lease_s=30.0), Slow(host.books.spent)
    granted = admitted(await other.reserve("a", (BUDGET,), WANT))
    reader = RedisMeter(host.redis.url, slow)
    await reader.start()
    other._task.cancel()  # type: ignore[union-attr] # it does not notice the flush
    await redis.flushall()
    reading = asyncio.create_task(spent(reader, BUDGET))
    await slow.read.wait()
    ended(host.books, other, granted, 400)
    other._send()
    await asyncio.gather(*other._sent)
    slow.goes_on.set()
    assert await reading == (400, 0, 0)
    await reader.stop()


async def test_a_redis_that_forgot_its_scripts_is_given_them_again(host: Host, redis: Redis) -> None:
    meter = await host.process()
    await redis.script_flush()
    assert not admitted(await meter.reserve("a", (BUDGET,), WANT)).degraded


async def test_another_run_of_redis_may_know_less_so_budgets_are_read_again(host: Host, redis: Redis) -> None:
    """A failover: the counters are there, but they are older than what was spent."""
    meter = await host.process()
    assert await spent(meter, BUDGET) == (0, 0, 0)
    old = await redis.hgetall(f"{PREFIX}s:team:red")
    ended(host.books, meter, admitted(await meter.reserve("a", (BUDGET,), WANT)), 900)
    epoch = await redis.get(f"{PREFIX}epoch")
    await spent(meter, BUDGET)
    host.redis.kill()  # and nobody asks before it is there again
    host.redis.start()
    async with Redis.from_url(host.redis.url) as again:
        await again.hset(f"{PREFIX}s:team:red", mapping=old)
        await again.set(f"{PREFIX}epoch", epoch)
    await stands_at(meter, BUDGET, 900, 0, 0)


# --- it is lost ----------------------------------------------------------------------------------------------------------
async def test_without_redis_each_process_admits_its_share_of_a_limit(host: Host) -> None:
    meters = [await host.process(lease_s=30.0) for _ in range(4)]
    await asyncio.gather(*(meter._look() for meter in meters))
    for meter in meters:
        await lost(host, meter)
    scope = team(rpm=40, tpm=10_000, concurrency=20)
    counts = []
    for meter in meters:
        answers = [await meter.reserve(str(number), (scope,), Want(10, 0)) for number in range(30)]
        assert all(answer.degraded for answer in answers if isinstance(answer, Granted))
        counts.append(sum(isinstance(answer, Granted) for answer in answers))
    assert counts == [5] * 4  # a quarter of 20 at once


async def test_without_redis_each_process_admits_its_share_of_what_was_left_of_a_budget(host: Host) -> None:
    meters = [await host.process(lease_s=30.0) for _ in range(2)]
    await asyncio.gather(*(meter._look() for meter in meters))
    ended(host.books, meters[0], admitted(await meters[0].reserve("a", (BUDGET,), Want(1, 4_000))), 4_000)
    for number, meter in enumerate(meters):
        ended(host.books, meter, admitted(await meter.reserve(f"b{number}", (BUDGET,), Want(1, 0))), 0)
        await spent(meter, BUDGET)
    for meter in meters:
        await lost(host, meter)
    for number, meter in enumerate(meters):
        answers = [await meter.reserve(f"c{number}-{each}", (BUDGET,), WANT) for each in range(8)]
        assert sum(isinstance(answer, Granted) for answer in answers) == 3  # half of the 6 that were left


async def test_a_request_larger_than_a_share_of_a_minutes_tokens_takes_it_whole(host: Host) -> None:
    meters = [await host.process() for _ in range(2)]
    await asyncio.gather(*(meter._look() for meter in meters))
    await lost(host, meters[0])
    scope = team(tpm=1_000)
    granted = admitted(await meters[0].reserve("a", (scope,), Want(900, 0)))
    refused = await meters[0].reserve("b", (scope,), Want(900, 0))
    assert isinstance(refused, Refused) and refused.retry_after_s is not None
    meters[0].settle(granted, Used(0, 0))
    admitted(await meters[0].reserve("b", (scope,), Want(900, 0)))


async def test_closed_admits_nobody_without_redis_and_open_everybody(host: Host) -> None:
    closed, opened = await host.process("closed"), await host.process("open")
    await lost(host, opened)
    with pytest.raises(StoreUnavailable):
        await closed.reserve("a", (BUDGET,), WANT)
    for number in range(20):
        assert admitted(await opened.reserve(str(number), (BUDGET,), WANT)).degraded


async def test_what_was_spent_without_redis_is_counted_when_it_is_back(host: Host) -> None:
    meter = await host.process()
    before = admitted(await meter.reserve("before", (BUDGET,), WANT))
    await lost(host, meter)
    across = admitted(await meter.reserve("across", (BUDGET,), WANT))
    within = admitted(await meter.reserve("within", (BUDGET,), WANT))
    ended(host.books, meter, within, 30)
    ended(host.books, meter, before, 200)
    await back(host, meter)
    await stands_at(meter, BUDGET, 230, 1_000, 1)
    ended(host.books, meter, across, 4)
    await stands_at(meter, BUDGET, 234, 0, 0)


async def test_a_redis_that_is_there_all_along_but_refuses_for_a_while_is_told_what_happened(host: Host) -> None:
    meter = await host.process()
    before = admitted(await meter.reserve("before", (BUDGET,), WANT))
    host.redis.freeze()
    ended(host.books, meter, before, 200)
    frozen = admitted(await meter.reserve("frozen", (BUDGET,), WANT))
    assert frozen.degraded
    ended(host.books, meter, frozen, 30)
    host.redis.thaw()
    await stands_at(meter, BUDGET, 230, 0, 0)


async def test_nobody_waits_for_a_frozen_redis_longer_than_its_deadline_and_later_ones_not_at_all(host: Host) -> None:
    meter = await host.process(deadline_s=DEADLINE_S)
    await meter.reserve("a", (BUDGET,), WANT)
    host.redis.freeze()
    began = monotonic()
    await asyncio.gather(*(meter.reserve(f"b{number}", (BUDGET,), Want(1, 1)) for number in range(50)))
    first, began = monotonic() - began, monotonic()
    for number in range(100):
        await meter.reserve(f"c{number}", (BUDGET,), Want(1, 1))
    assert first < 25 * DEADLINE_S and monotonic() - began < 50 * DEADLINE_S
    host.redis.thaw()
    await until(lambda: meter.store.lost is None, 5.0)


async def test_a_redis_that_takes_no_writes_is_lost_until_it_does(host: Host, redis: Redis) -> None:
    meter = await host.process()
    await redis.replicaof("127.0.0.1", "1")
    assert admitted(await meter.reserve("a", (BUDGET,), WANT)).degraded
    await redis.replicaof("NO", "ONE")
    await until(lambda: meter.store.lost is None, 5.0)
    assert not admitted(await meter.reserve("b", (BUDGET,), WANT)).degraded


async def test_a_redis_that_has_no_memory_left_is_lost_until_it_has(host: Host, redis: Redis) -> None:
    meter = await host.process()
    await redis.config_set("maxmemory", 1)
    assert admitted(await meter.reserve("a", (BUDGET,), WANT)).degraded
    await redis.config_set("maxmemory", 0)
    await until(lambda: meter.store.lost is None, 5.0)


async def test_a_process_that_starts_without_redis_takes_part_when_it_comes(host: Host) -> None:
    host.redis.kill()
    meter = await host.process()
    assert admitted(await meter.reserve("a", (BUDGET,), WANT)).degraded
    await back(host, meter)
    await stands_at(meter, BUDGET, 0, 1_000, 1)


async def test_a_process_that_is_held_up_does_not_blame_redis(host: Host) -> None:
    deadline_s = 4 * DEADLINE_S  # a busy machine keeps it
    meter = await host.process(deadline_s=deadline_s)
    await meter.reserve("a", (BUDGET,), WANT)
    task = asyncio.create_task(meter.reserve("b", (BUDGET,), WANT))
    await asyncio.sleep(0)
    until_ = monotonic() + 3 * deadline_s
    while monotonic() < until_:  # the loop does not run
        pass
    assert not admitted(await task).degraded


# --- one round trip, one arithmetic ------------------------------------------------------------------------------------------
async def test_a_request_is_one_step_and_what_was_settled_before_goes_with_the_next_one(host: Host, redis: Redis) -> None:
    meter = await host.process(lease_s=30.0)
    scopes = levels(10**9)
    await meter.reserve("warm", scopes, WANT)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    for number in range(10):
        meter.settle(admitted(await meter.reserve(str(number), scopes, WANT)), Used(1, 1))
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before <= 10 + 9 + 2  # each reservation, each settlement but the last; a look at whether it is there


@pytest.mark.parametrize("day", ["1970-01-01", "2000-02-29", "2024-12-31", "2026-03-01", "2027-01-04", "2100-03-01", "2399-12-31"])
async def test_the_script_knows_the_calendar_as_the_policy_does(day: str, redis: Redis) -> None:
    """The script's own function, with another time."""
    at = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + 12_345
    head, _, _ = SCRIPT.partition("local function drained")
    body = head.replace("redis.call('TIME')", "{ARGV[1], '0'}").replace("cmsgpack.unpack(ARGV[2])", "nil")
    for window in ("day", "week", "month", "total"):
        assert await redis.eval(f"{body} return window_start('{window}')", 1, "", str(at)) == window_start(window, at)  # type: ignore[arg-type]


def test_the_script_is_in_the_package() -> None:
    ignored = subprocess.run(["git", "check-ignore", "gateway/metering/lua/meter.lua"], capture_output=True, text=True).stdout
    assert "meter.lua" not in ignored
    assert SCRIPT.startswith("-- Limits and budgets") and msgspec.msgpack.decode(b"\x01") == 1
