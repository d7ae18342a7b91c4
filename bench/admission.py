"""What admission costs a request: its key, its limits and its budget at three levels; in memory, and over a Redis where one is installed.

The median and the best of rounds of one request at a time, reserved and settled; and of Redis what 64 requests at once cost each. Without a
server, a route or a body: `bench/compare.py` measures those.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from gateway.auth import KeyTable, Principal  # noqa: E402
from gateway.metering.meter import MemoryMeter, MeterPort  # noqa: E402
from gateway.metering.redis_meter import RedisMeter  # noqa: E402
from policy.quota import Budget, Granted, Limits, Scope, Used, Want  # noqa: E402
from tests.gateway.redis_server import RedisServer  # noqa: E402

GOAL_US = 60.0
ROUNDS, EACH, AT_ONCE = 40, 250, 64
KEY = "sk-turnout-" + "k" * 43
LIMITS = Limits(rpm=10**9, tpm=10**12, concurrency=10**6)
SCOPES = tuple(Scope(kind, "bench", LIMITS, (Budget(10**15, "month"),)) for kind in ("organisation", "team", "key"))
KEYS = KeyTable([(KEY, Principal("bench", "k", scopes=SCOPES))])
HEADERS = [(b"host", b"127.0.0.1"), (b"authorization", b"Bearer " + KEY.encode())]
WANT, USED = Want(1_000, 5_000_000), Used(300, 900_000)


class NothingSpent:
    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        return 0

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return {}


async def admit(meter: MeterPort, id: str) -> None:
    granted = await meter.reserve(id, KEYS.principal(HEADERS).scopes, WANT)
    assert isinstance(granted, Granted) and not granted.degraded
    meter.settle(granted, USED)


async def one_by_one(meter: MeterPort, name: str, each: int) -> None:
    times = []
    for turn in range(ROUNDS):
        began = perf_counter()
        for number in range(each):
            await admit(meter, f"{name}-{turn}-{number}")
        times.append((perf_counter() - began) / each * 1e6)
    print(f"{name:<44} {median(times):7.1f} us   best {min(times):7.1f} us")


async def at_once(meter: MeterPort, name: str) -> None:
    times = []
    for turn in range(ROUNDS):
        began = perf_counter()
        await asyncio.gather(*(admit(meter, f"{name}-{turn}-{number}") for number in range(AT_ONCE)))
        times.append((perf_counter() - began) / AT_ONCE * 1e6)
    print(f"{name:<44} {median(times):7.1f} us   best {min(times):7.1f} us")


async def main() -> None:
    print(f"key, limits and budget of organisation, team and key; goal in memory {GOAL_US:.1f} us\n")
    await one_by_one(MemoryMeter(NothingSpent()), "in memory", EACH)
    if shutil.which("redis-server") is None:
        print("redis-server is not installed")
        return
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder:
        redis = RedisServer(Path(folder)).start()
        meter = RedisMeter(redis.url, NothingSpent(), deadline_s=5.0)
        await meter.start()
        try:
            await admit(meter, "warm")
            await one_by_one(meter, "over Redis, one at a time", EACH // 10)
            await at_once(meter, f"over Redis, {AT_ONCE} at once, each")
        finally:
            await meter.stop()
            redis.kill()


if __name__ == "__main__":
    asyncio.run(main())
