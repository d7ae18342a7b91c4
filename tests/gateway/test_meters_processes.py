"""Limits and budgets of four processes that share a Redis and a ledger: the numbers that the gateway promises, with crashes and wrong clocks."""

import asyncio
import os
import random
import sys
from pathlib import Path

import msgspec

from tests.gateway.meter_process import ROOM, TEAMS, USED, WORST_NUSD
from tests.gateway.metering import Host, levels, stands_at

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
PROCESSES = 4


class Process:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hears(self, line: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        await self._process.stdin.drain()

    async def says(self, what: str) -> list[str]:
        """The words of its next line of this kind."""
        assert self._process.stdout is not None
        async with asyncio.timeout(40):
            while (words := (await self._process.stdout.readline()).decode().split()) and words[0] != what:
                pass
        assert words, "it ended"
        return words[1:]

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


async def started(host: Host, number: int, *task: object, skew_s: float = 0.0) -> Process:
    skew = {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{skew_s:+}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"} if skew_s and FAKETIME else {}
    arguments = [sys.executable, "-m", "tests.gateway.meter_process", host.redis.url, f"sqlite:///{host.folder}/turnout.db", f"p{number}"]
    process = await asyncio.create_subprocess_exec(
        *arguments, *map(str, task), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env={**os.environ, **skew}
    )
    return Process(process)


async def test_500_at_once_in_four_processes_with_room_for_37_and_kill_9(host: Host) -> None:
    """Exactly 37 are admitted, nothing is overspent, and when the leases of the dead have ended the counter is the ledger."""
    dice = random.Random(37)
    processes = [await started(host, number, "race", 500 // PROCESSES) for number in range(PROCESSES)]
    try:
        for process in processes:
            await process.says("ready")
        await asyncio.gather(*(process.hears() for process in processes))
        admitted = [await process.says("admitted") for process in processes]
        assert sum(map(len, admitted)) == ROOM
        meter = await host.process()
        for ids, process in zip(admitted, processes, strict=True):
            ends = [f"{id}={dice.randint(0, WORST_NUSD)}" for id in ids if dice.random() < 0.5]
            written = [f"{id}!={dice.randint(0, WORST_NUSD)}" for id in ids if not any(end.startswith(f"{id}=") for end in ends)]
            await process.hears(" ".join([*ends, *(each for each in written if dice.random() < 0.5)]))
            await process.says("done")
        for process in processes:
            await process.kill()
        total = await host.books.sum()
        assert 0 < total <= ROOM * WORST_NUSD
        for scope in levels(ROOM * WORST_NUSD):
            await stands_at(meter, scope, total, 0, 0)
    finally:
        for process in processes:
            await process.kill()


def most_at_once(spans: list[tuple[float, float]]) -> int:
    running = most = 0
    for _, change in sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans]):
        running += change
        most = max(most, running)
    return most


async def test_limits_far_beyond_the_load_with_clocks_half_a_minute_off(host: Host) -> None:
    """Nothing is admitted beyond the limit and one minute's worth, and at most a hundredth less."""
    seconds, each_per_s = 4.0, 60.0
    processes = [await started(host, number, "load", seconds, each_per_s, skew_s=skew) for number, skew in enumerate((30, -30, 0, 15))]
    try:
        clocks = [float((await process.says("ready"))[0]) for process in processes]
        assert FAKETIME is None or max(clocks) - min(clocks) > 50
        await asyncio.gather(*(process.hears() for process in processes))
        counts = [msgspec.json.decode((await process.says("counts"))[0], type=dict[str, list[tuple[float, float]]]) for process in processes]
    finally:
        for process in processes:
            await process.kill()
    spans = {team: sorted(span for count in counts for span in count[team]) for team in TEAMS}
    for team, limit, units in (("requests", TEAMS["requests"].limits.rpm, 1), ("tokens", TEAMS["tokens"].limits.tpm, USED)):
        assert limit is not None
        lasted_s = spans[team][-1][0] - spans[team][0][0]
        assert 0.99 * (limit + limit * lasted_s / 60) <= len(spans[team]) * units <= limit + limit * (lasted_s + 0.1) / 60
    assert most_at_once(spans["slots"]) == TEAMS["slots"].limits.concurrency
