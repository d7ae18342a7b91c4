"""One process of a gateway, as far as limits and budgets go: `python -m tests.gateway.meter_process REDIS LEDGER NAME TASK`.

It speaks lines: what it did goes to stdout, what it may go on with comes on stdin. Tasks:
  race N     N requests at once, each for the worst case of one; `admitted ID …`; then a line of `ID=NUSD …` says which of them end, and at
             what cost (`ID!` only writes its row); `done`; then it waits.
  load S     for S seconds as many requests as can be, at rpm, tpm and concurrency; `counts ADMITTED REFUSED MOST_AT_ONCE BEGAN ENDED`.
"""

import asyncio
import sys
import time
from collections import Counter

from gateway.meters import LedgerSpent
from gateway.redis_meter import RedisMeter
from ledger.store import Ledger
from policy.quota import Granted, Limits, Scope, Used, Want
from tests.gateway.metering import LEASE_S, levels
from tests.ledger.rows import row

WORST_NUSD = 1_000_000
ROOM = 37
LOAD = Limits(rpm=600, tpm=30_000, concurrency=40)
BOUND = 60  # tokens reserved by each request of the load
USED = 40  # tokens that it uses
LASTS_S = 0.05


async def said() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def race(meter: RedisMeter, ledger: Ledger, name: str, count: int) -> None:
    scopes = levels(ROOM * WORST_NUSD)
    await said()
    answers = await asyncio.gather(*(meter.reserve(f"{name}-{number}", scopes, Want(0, WORST_NUSD)) for number in range(count)))
    granted = {answer.id: answer for answer in answers if isinstance(answer, Granted)}
    assert not any(answer.degraded for answer in granted.values())
    print("admitted", *granted, flush=True)
    for word in (await said()).split():
        id, _, nusd = word.replace("!", "").partition("=")
        ledger.append(row(id, started_at_us=time.time_ns() // 1000, organisation="acme", key_id="k", cost_nusd=int(nusd)))
        if "!" not in word:
            meter.settle(granted[id], Used(0, int(nusd)))
    ledger.flush()
    print("done", flush=True)
    await said()


async def load(meter: RedisMeter, name: str, seconds: float, offered_per_s: float) -> None:
    scope = Scope("team", "red", LOAD)
    await said()
    counts: Counter[str] = Counter()
    began, running = time.monotonic(), set()

    async def one(number: int) -> None:
        answer = await meter.reserve(f"{name}-{number}", (scope,), Want(BOUND, 0))
        if not isinstance(answer, Granted):
            counts[answer.dimension] += 1
            return
        counts["admitted" if not answer.degraded else "degraded"] += 1
        await asyncio.sleep(LASTS_S)
        meter.settle(answer, Used(USED, 0))

    number = 0
    while (passed_s := time.monotonic() - began) < seconds:
        while number < passed_s * offered_per_s:
            running.add(task := asyncio.create_task(one(number)))
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    print("counts", counts["admitted"], number, counts["degraded"], time.monotonic() - began, flush=True)


async def main() -> None:
    redis, url, name, task, value, *more = sys.argv[1:]
    ledger = Ledger(url)
    meter = RedisMeter(redis, LedgerSpent(ledger), lease_s=LEASE_S if task == "race" else 30.0)
    await meter.start()
    print("ready", time.time(), flush=True)
    if task == "race":
        await race(meter, ledger, name, int(value))
    else:
        await load(meter, name, float(value), float(more[0]))
    await meter.stop()
    ledger.close()


if __name__ == "__main__":
    asyncio.run(main())
