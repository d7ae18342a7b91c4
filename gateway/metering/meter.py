"""Where limits and budgets are kept: the port, and the meter of one process alone."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from config.settings import StateSettings
from contract.errors import LedgerUnavailable
from ledger.spent import charged, spent_nusd
from ledger.store import Ledger
from policy.meter import Meter, Unseeded
from policy.quota import Granted, Refused, Scope, Standing, Used, Want

FLUSH_S = 2.0
Found = TypeVar("Found")


class MeterPort(Protocol):
    """What admission needs. Whoever starts it stops it."""

    async def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused:
        """All or nothing over all scopes and dimensions. Raises StoreUnavailable, LedgerUnavailable."""

    def at_once(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused | None:
        """The same without waiting for anything. None: that cannot be; `reserve` must be asked."""

    def settle(self, granted: Granted, used: Used) -> None:
        """Once for each grant; more often does nothing. Never blocks, never raises."""

    async def standing(self, scope: Scope) -> Standing:
        """For reports and alerts. Raises StoreUnavailable, LedgerUnavailable."""

    def lost(self) -> bool:
        """Whether the store that processes share does not answer just now. Somebody looks in the background, a few times a second."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """What was settled is told before it returns."""


class Spent(Protocol):
    """What was spent so far, as the ledger knows it. Both raise LedgerUnavailable."""

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        """Nano-dollars that `scope` has spent since then, without what the requests `but` did."""

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        """What each request has been charged, for those that have rows."""


class LedgerSpent:
    """Rows that this process has not written yet are written first."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def since(self, scope: Scope, start_s: int, but: Sequence[str] = ()) -> int:
        return await asyncio.to_thread(self._read, lambda engine: spent_nusd(engine, scope.kind, scope.name, start_s, but))

    async def of(self, request_ids: Sequence[str]) -> dict[str, int]:
        return await asyncio.to_thread(self._read, lambda engine: charged(engine, request_ids))

    def _read(self, query: Callable[[Engine], Found]) -> Found:
        try:
            if self._ledger.flush(FLUSH_S):
                return query(self._ledger.engine)
        except SQLAlchemyError as exc:
            raise LedgerUnavailable("what was spent cannot be read just now") from exc
        raise LedgerUnavailable("what was spent cannot be written just now")


class MemoryMeter:
    """One process's own. `reserve` suspends only where a budget's window is new: what was spent in it is read from the ledger."""

    def __init__(self, spent: Spent, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._meter = Meter()
        self._spent = spent
        self._clock = clock
        self._wall = wall
        self._seeding: dict[Unseeded, asyncio.Task[int]] = {}

    def at_once(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused | None:
        answer = self._meter.reserve(id, scopes, want, self._clock(), self._wall())
        return None if isinstance(answer, Unseeded) else answer

    async def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused:
        while isinstance(answer := self._meter.reserve(id, scopes, want, self._clock(), self._wall()), Unseeded):
            await self._seed(answer)
        return answer

    def settle(self, granted: Granted, used: Used) -> None:
        drains = used.tokens > granted.want.tokens or not used.answered
        self._meter.settle(granted, used, self._clock() if drains else 0.0)

    async def standing(self, scope: Scope) -> Standing:
        while isinstance(answer := self._meter.standing(scope, self._clock(), self._wall()), Unseeded):
            await self._seed(answer)
        return answer

    def lost(self) -> bool:
        return False

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    async def _seed(self, missing: Unseeded) -> None:
        """Read once, whoever waits for it; one who leaves does not end it for the others."""
        task = self._seeding.get(missing)
        if task is None:
            task = self._seeding[missing] = asyncio.create_task(self._spent.since(missing.scope, missing.start_s))
            task.add_done_callback(partial(self._seeded, missing))
        self._meter.seed(missing, await asyncio.shield(task))

    def _seeded(self, missing: Unseeded, task: asyncio.Task[int]) -> None:
        del self._seeding[missing]
        if not task.cancelled():
            task.exception()  # whoever waits raises it; perhaps nobody does any more


def meter_of(state: StateSettings, ledger: Ledger, workers: int = 1) -> MeterPort:
    """One process's own, or that of all the processes which share a Redis. `workers`: of this gateway."""
    if state.redis is None:
        return MemoryMeter(LedgerSpent(ledger))
    from gateway.metering.redis_meter import RedisMeter  # redis-py takes a while to import, and one process alone does without

    meter = RedisMeter(state.redis.get_secret_value(), LedgerSpent(ledger), state.on_store_loss, deadline_s=state.redis_deadline_ms / 1000)
    meter.workers = workers
    return meter
