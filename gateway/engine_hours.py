"""What the engines that this process looks after did, minute by minute, for the ledger: up, busy, asleep, energy, and what an hour costs."""

import asyncio
import time
from collections.abc import Iterable
from time import monotonic

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ledger.engine_time import EngineTime, write
from ledger.prices import NUSD_PER_USD
from providers.local.admission import Admission
from providers.local.energy import energy_meter
from providers.local.spec import EngineSpec

EVERY_S = 60.0

log = structlog.get_logger("turnout.engine")


class EngineHours:
    """`engines`: each with its queue, which knows when it works. Whoever starts it stops it; what is left is written then."""

    def __init__(self, engines: Iterable[tuple[EngineSpec, Admission]], ledger: Engine) -> None:
        self._books = [_Book(spec, admission) for spec, admission in engines]
        self._ledger = ledger
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._books:
            self._task = asyncio.create_task(self._run(), name="engine hours")

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self._write()

    async def _write(self) -> None:
        rows = [row for book in self._books if (row := book.row()) is not None]
        if not rows:
            return
        try:
            await asyncio.to_thread(write, self._ledger, rows)
        except SQLAlchemyError as error:
            log.warning("engine_hours_not_written", rows=len(rows), error=str(getattr(error, "orig", error)))


class _Book:
    def __init__(self, spec: EngineSpec, admission: Admission) -> None:
        self._name = spec.name
        self._nusd_per_hour = None if spec.usd_per_hour is None else round(spec.usd_per_hour * NUSD_PER_USD)
        self._work = admission.work
        self._energy = energy_meter(spec.gpus) if spec.kind == "vllm" or spec.gpus is not None else lambda: None
        self._told = (0.0, 0.0, 0.0)
        self._told_energy = self._energy()

    def row(self) -> EngineTime | None:
        """What it did since the last one; None: it was neither up nor asleep."""
        self._work.at(monotonic())
        before, self._told = self._told, (self._work.up_s, self._work.busy_s, self._work.asleep_s)
        up_us, busy_us, asleep_us = (round((now - then) * 1e6) for now, then in zip(self._told, before, strict=True))
        used, self._told_energy = self._told_energy, self._energy()
        if not up_us and not asleep_us:
            return None
        energy = None if self._told_energy is None or used is None or self._told_energy < used else self._told_energy - used
        return EngineTime(self._name, time.time_ns() // 1000, up_us, busy_us, energy, self._nusd_per_hour, asleep_us)
