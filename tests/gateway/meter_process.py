"""One process of a gateway, as far as limits and budgets go: `python -m tests.gateway.meter_process REDIS LEDGER NAME TASK`.

It speaks lines: what it did goes to stdout, what it may go on with comes on stdin. Tasks:
  race N     N requests at once, each for the worst case of one; `admitted ID …`; then a line of `ID=NUSD …` says which of them end, and at
             what cost (`ID!` only writes its row); `done`; then it waits.
  load S R   for S seconds R requests a second to each of three teams, limited in requests, in tokens and in requests at once; then
             `counts JSON`: team -> when each admitted request began and ended, in seconds of the host's monotonic clock.
"""

import asyncio
import sys
import time

import msgspec

from gateway.metering.meter import LedgerSpent
from gateway.metering.redis_meter import RedisMeter
from ledger.store import Ledger
from policy.quota import Granted, Limits, Scope, Used, Want
from tests.gateway.metering import LEASE_S, levels
from tests.ledger.rows import row

WORST_NUSD = 1_000_000
ROOM = 37
TEAMS = {
    "requests": Scope("team", "requests", Limits(rpm=600)),
    "tokens": Scope("team", "tokens", Limits(tpm=24_000)),
    "slots": Scope("team", "slots", Limits(concurrency=4)),
}
BOUND, USED = 60, 40  # tokens that each reserves, and uses
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


async def load(meter: RedisMeter, name: str, seconds: float, each_per_s: float) -> None:
    admitted: dict[str, list[tuple[float, float]]] = {team: [] for team in TEAMS}
    running: set[asyncio.Task[None]] = set()

    async def one(team: str, number: int) -> None:
        answer = await meter.reserve(f"{name}-{team}-{number}", (TEAMS[team],), Want(BOUND, 0))
        if isinstance(answer, Granted):
            assert not answer.degraded
            began = time.monotonic()
            await asyncio.sleep(LASTS_S)
            admitted[team].append((began, time.monotonic()))
            meter.settle(answer, Used(USED, 0))

    await said()
    began, number = time.monotonic(), 0
    while (passed_s := time.monotonic() - began) < seconds:
        while number < passed_s * each_per_s:
            running.update(asyncio.create_task(one(team, number)) for team in TEAMS)
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*running)
    print("counts", msgspec.json.encode(admitted).decode(), flush=True)


async def main() -> None:
    redis, url, name, task, value, *more = sys.argv[1:]
    ledger = Ledger(url)
    lease_s = LEASE_S if task == "race" else 30.0
    meter = RedisMeter(redis, LedgerSpent(ledger), lease_s=lease_s, deadline_s=2.0)  # a busy machine is not a lost Redis here
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
