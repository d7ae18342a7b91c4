"""What processes learn of their targets is shared by a real Redis, counted once, and nothing waits for a Redis that is slow or gone."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest
from redis.asyncio import Redis

from gateway.sharing import PREFIX, Sharing
from policy.stats import TargetStats
from tests.gateway.redis_server import RedisServer

ONE = ("openai", "gpt")
EVERY_S = 0.02


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="turnout-redis-") as folder:
        server = RedisServer(Path(folder)).start()
        yield server
        server.kill()


class Process:
    """What one process of a gateway knows, and its part in the sharing."""

    def __init__(self, url: str, *targets: tuple[str, str]) -> None:
        self.stats = {key: TargetStats() for key in targets or (ONE,)}
        self.sharing = Sharing(url, lambda: self.stats, every_s=EVERY_S)

    def sees(self, ttft_s: float, times: int = 1, target: tuple[str, str] = ONE) -> None:
        for _ in range(times):
            self.stats[target].observe(
                monotonic(),
                streamed=True,
                prompt_tokens=100,
                load=0,
                ttft_s=ttft_s,
                total_s=ttft_s + 1,
                output_tokens=10,
                input_tokens=100,
                cached_tokens=0,
            )

    def samples(self, target: tuple[str, str] = ONE) -> float:
        return self.stats[target].forecast(monotonic(), streamed=True, prompt_tokens=100, load=0).samples


@contextlib.asynccontextmanager
async def sharing(*processes: Process) -> AsyncIterator[None]:
    for process in processes:
        await process.sharing.start()
    try:
        yield
    finally:
        for process in processes:
            await process.sharing.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


async def rounds(process: Process, redis: RedisServer, count: int) -> None:
    """Until a process has published so many times."""
    async with contextlib.aclosing(Redis.from_url(redis.url)) as client:
        for _ in range(count):
            await client.delete(*(await client.keys(f"{PREFIX}[0-9a-f]*") or ["none"]))
            async with asyncio.timeout(20):
                while not await client.keys(f"{PREFIX}[0-9a-f]*"):
                    await asyncio.sleep(0.005)
    assert process.sharing.error is None


async def test_a_process_forecasts_from_what_the_others_saw(redis: RedisServer) -> None:
    busy, idle = Process(redis.url), Process(redis.url)
    busy.sees(0.25, times=10)
    async with sharing(busy, idle):
        await until(lambda: idle.samples() > 9.9)
    forecast = idle.stats[ONE].forecast(monotonic(), streamed=True, prompt_tokens=100, load=0)
    assert forecast.ttft_mean_s == pytest.approx(0.25)


async def test_what_was_shared_is_counted_once_however_often_it_is(redis: RedisServer) -> None:
    first, second, third = (Process(redis.url) for _ in range(3))
    for process in (first, second, third):
        process.sees(0.25, times=10)
    async with sharing(first, second, third):
        await until(lambda: all(p.samples() > 29.5 for p in (first, second, third)))
        await rounds(first, redis, 5)
        await until(lambda: all(p.samples() > 29.5 for p in (first, second, third)))
        assert max(p.samples() for p in (first, second, third)) < 30.01


async def test_targets_that_a_process_does_not_have_are_passed_over(redis: RedisServer) -> None:
    busy, other = Process(redis.url, ONE, ("openai", "made-up")), Process(redis.url)
    busy.sees(0.25, times=5)
    busy.sees(0.25, times=5, target=("openai", "made-up"))
    async with sharing(busy, other):
        await until(lambda: other.samples() > 4.9)
    assert list(other.stats) == [ONE]


async def test_sharing_goes_on_after_redis_was_killed_and_came_back(redis: RedisServer) -> None:
    busy, idle = Process(redis.url), Process(redis.url)
    busy.sees(0.25, times=5)
    async with sharing(busy, idle):
        await until(lambda: idle.samples() > 4.9)
        redis.kill()
        await until(lambda: idle.sharing.error is not None and busy.sharing.error is not None)
        assert idle.samples() > 4.8  # what was learnt stays
        redis.start()
        busy.sees(0.25, times=5)
        await until(lambda: idle.samples() > 9.8 and idle.sharing.error is None)


async def test_a_redis_that_hangs_costs_one_short_try(redis: RedisServer) -> None:
    process = Process(redis.url)
    process.sees(0.25)
    redis.freeze()
    try:
        began = monotonic()
        with pytest.raises(TimeoutError):
            await process.sharing.exchange()
        assert monotonic() - began < 5
    finally:
        redis.thaw()
        await process.sharing.stop()


async def test_sharing_goes_on_after_a_hang(redis: RedisServer) -> None:
    busy, idle = Process(redis.url), Process(redis.url)
    busy.sees(0.25, times=5)
    async with sharing(busy, idle):
        await until(lambda: idle.samples() > 4.9)
        redis.freeze()
        await until(lambda: idle.sharing.error == "TimeoutError")
        redis.thaw()
        busy.sees(0.25, times=5)
        await until(lambda: idle.samples() > 9.8)


async def test_a_gateway_starts_and_stops_without_its_redis(redis: RedisServer) -> None:
    redis.kill()
    process = Process(redis.url)
    began = monotonic()
    async with sharing(process):
        assert monotonic() - began < 5
        await until(lambda: process.sharing.error is not None)
    assert monotonic() - began < 10


async def test_stopping_waits_for_no_redis_that_hangs(redis: RedisServer) -> None:
    process = Process(redis.url)
    await process.sharing.start()
    redis.freeze()
    try:
        began = monotonic()
        await process.sharing.stop()
        assert monotonic() - began < 5
    finally:
        redis.thaw()


async def test_sharing_ends_at_whatever_moment_it_is_stopped(redis: RedisServer) -> None:
    """The client loses a cancellation that comes while it reads an answer: about one in three."""
    for step in range(40):
        sharing = Sharing(redis.url, dict, every_s=0.001)
        await sharing.start()
        await asyncio.sleep(step / 2000)
        async with asyncio.timeout(5):
            await sharing.stop()


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"[]", b"\x91\x93\xa6openai\xa3gpt\xc4\x01\xc1"])
async def test_junk_under_a_key_of_ours_hides_nobody_else(redis: RedisServer, junk: bytes) -> None:
    busy, idle = Process(redis.url), Process(redis.url)
    busy.sees(0.25, times=5)
    async with contextlib.aclosing(Redis.from_url(redis.url)) as client:
        await client.set(f"{PREFIX}0", junk)
        await client.sadd(f"{PREFIX}members", "0")
    async with sharing(busy, idle):
        await until(lambda: idle.samples() > 4.9)
    assert idle.samples() < 5.01


async def test_a_stopped_process_leaves_no_key_and_the_others_forget_its_name(redis: RedisServer) -> None:
    first, second = Process(redis.url), Process(redis.url)
    first.sees(0.25)
    async with contextlib.aclosing(Redis.from_url(redis.url)) as client:
        async with sharing(second):
            async with sharing(first):
                await until(lambda: second.samples() > 0.9)
            async with asyncio.timeout(20):
                while await client.scard(f"{PREFIX}members") > 1:
                    await asyncio.sleep(0.01)
            assert len(await client.keys(f"{PREFIX}*")) == 2  # its own and the members
        assert await client.keys(f"{PREFIX}*") == [f"{PREFIX}members".encode()]


async def test_what_a_crashed_process_shared_expires(redis: RedisServer) -> None:
    process = Process(redis.url)
    process.sees(0.25)
    await process.sharing.exchange()
    async with contextlib.aclosing(Redis.from_url(redis.url)) as client:
        async with asyncio.timeout(20):
            while await client.keys(f"{PREFIX}[0-9a-f]*"):
                await asyncio.sleep(0.01)
    await process.sharing.stop()
