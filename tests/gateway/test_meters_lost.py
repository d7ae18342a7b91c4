"""A Redis that is killed, frozen or slow delays nobody from a second after it began, and the ledger is asked little when it is back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from gateway.metering.meter import Spent
from gateway.metering.redis_meter import RedisMeter
from gateway.metering.redis_store import DEADLINE_S
from policy.quota import Budget, Granted, Scope, Used, Want
from tests.gateway.metering import Host, stands_at, team, until

SCOPE = team(Budget(10**9, "month"), rpm=10**6)
MORE_MS = 25.0


class SlowRedis:
    """Stands before a Redis and passes on each piece `delay_s` late. Whoever opens it closes it."""

    def __init__(self, behind: Path, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.delay_s = 0.0
        self._behind, self._socket = behind, socket
        self._pipes: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def close(self) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_unix_connection(self._behind)
        for source, sink in ((reader, behind[1]), (behind[0], writer)):
            pipe = asyncio.create_task(self._pass_on(source, sink))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await source.read(1 << 16):
                await asyncio.sleep(self.delay_s)
                sink.write(piece)
        sink.close()


@pytest.fixture
async def slow(host: Host) -> AsyncIterator[SlowRedis]:
    slow = SlowRedis(host.redis.socket, host.folder / "slow.sock")
    await slow.open()
    yield slow
    await slow.close()


async def load(meter: RedisMeter, name: str, seconds: float) -> list[tuple[float, float]]:
    """When each request asked, and for how many milliseconds; each also ends and is charged nothing."""
    began, taken, running = monotonic(), [], set()

    async def one(id: str) -> None:
        at = monotonic()
        answer = await meter.reserve(id, (SCOPE,), Want(10, 10))
        taken.append((at - began, (monotonic() - at) * 1000))
        assert isinstance(answer, Granted)
        meter.settle(answer, Used(10, 0))

    while monotonic() - began < seconds:
        running.add(task := asyncio.create_task(one(f"{name}-{len(taken)}-{monotonic()}")))
        task.add_done_callback(running.discard)
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    return taken


def p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


async def undisturbed_and_later(meter: RedisMeter, lose: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """p99 in milliseconds before, and from a second after Redis was lost."""
    before = p99([ms for _, ms in await load(meter, "before", 0.3)])
    await lose()
    after = [ms for at, ms in await load(meter, "after", 1.7) if at >= 1.0]
    return before, p99(after)


async def test_a_killed_redis_delays_nobody_a_second_later(host: Host) -> None:
    async def kill() -> None:
        host.redis.kill()

    before, after = await undisturbed_and_later(await host.process(deadline_s=DEADLINE_S), kill)
    assert after <= before + MORE_MS


async def test_a_frozen_redis_delays_nobody_a_second_later(host: Host) -> None:
    async def freeze() -> None:
        host.redis.freeze()

    meter = await host.process(deadline_s=DEADLINE_S)
    before, after = await undisturbed_and_later(meter, freeze)
    host.redis.thaw()
    assert after <= before + MORE_MS
    await until(lambda: meter.store.lost is None, 5.0)


async def test_a_redis_that_answers_late_but_in_time_is_left_alone_until_it_is_fast_again(host: Host, slow: SlowRedis) -> None:
    async def slow_down() -> None:
        slow.delay_s = 0.018  # each way

    meter = RedisMeter(slow.url, host.books.spent)
    await meter.start()
    before, after = await undisturbed_and_later(meter, slow_down)
    assert meter.store.lost is not None and after <= before + MORE_MS
    slow.delay_s = 0.0
    await until(lambda: meter.store.lost is None, 5.0)
    await stands_at(meter, SCOPE, 0, 0, 0)
    await meter.stop()


async def test_a_worker_that_never_met_redis_keeps_to_its_share_of_its_gateways_workers(host: Host) -> None:
    host.redis.kill()
    scope = team(Budget(80, "total"), rpm=40)
    meters = [await host.process() for _ in range(4)]
    granted = 0
    for meter in meters:
        meter.workers = 4
        answers = [await meter.reserve(f"r{granted}-{number}", (scope,), Want(0, 10)) for number in range(10)]
        refused = [answer for answer in answers if not isinstance(answer, Granted)]
        granted += len(answers) - len(refused)
        assert refused and all(answer.degraded for answer in refused)
    assert granted == 8  # of 80 nano-dollars


class Counted:
    """Counts how often the ledger is summed up."""

    def __init__(self, spent: Spent) -> None:
        self._spent = spent
        self.reads = 0

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        self.reads += 1
        return await self._spent.since(scope, start_s, but)

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return await self._spent.of(request_ids)


async def test_a_redis_that_comes_back_empty_makes_the_ledger_be_read_once_for_all_processes(host: Host) -> None:
    counted = Counted(host.books.spent)
    meters = [RedisMeter(host.redis.url, counted) for _ in range(3)]
    for meter in meters:
        await meter.start()
        await stands_at(meter, SCOPE, 0, 0, 0)
    host.redis.kill()
    for meter in meters:
        await until(lambda meter=meter: meter.store.lost is not None)  # type: ignore[misc]
    host.redis.start()
    for meter in meters:
        await until(lambda meter=meter: meter.store.lost is None)  # type: ignore[misc]
    before = counted.reads
    await asyncio.gather(*(meter.reserve(f"{name}-{number}", (SCOPE,), Want(1, 1)) for name, meter in enumerate(meters) for number in range(50)))
    assert counted.reads - before == 1
    for meter in meters:
        await meter.stop()
