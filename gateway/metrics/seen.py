"""What is so at the moment of a look: what runs, which breakers are open, how budgets, ledger and engines stand. Nothing of it is kept."""

import asyncio
import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import get_args

from config.settings import Settings
from contract.errors import LedgerUnavailable, StoreUnavailable
from gateway.metering.meter import MeterPort
from gateway.metrics.snapshot import Labels, Snapshot
from gateway.routes import RouteTable
from gateway.scopes import scopes_of
from ledger.store import Ledger
from policy.quota import Scope
from providers.local.port import Supervisor
from providers.local.status import EngineState
from providers.port import Backend
from providers.reading import Reading

BUDGETS_S = 1.0  # how long a look waits for how the budgets stand
STATM = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
READINGS = {
    "turnout_engine_requests_running": "running",
    "turnout_engine_requests_waiting": "waiting",
    "turnout_engine_kv_cache_usage_ratio": "kv_used",
    "turnout_engine_prefix_hit_ratio": "prefix_hits",
    "turnout_engine_tokens_per_second": "tokens_per_s",
    "turnout_engine_prompt_tokens_per_second": "prompt_tokens_per_s",
}

Value = tuple[str, Labels, float]


def process_seen(routes: RouteTable, ledger: Ledger) -> Snapshot:
    """What is of this process alone, and adds up over several."""
    return _snapshot([*_targets(routes), *_ledger(ledger), *_process()])


def _targets(routes: RouteTable) -> Iterator[Value]:
    now = monotonic()
    found = {(target.backend.name, id(target.health)): target.health for route in routes.known for target in route.targets}
    running: dict[str, int] = {}
    for (name, _), health in found.items():
        running[name] = running.get(name, 0) + health.running
    for name, count in running.items():
        yield "turnout_attempts_in_flight", (name,), count
    for route in routes.all:  # a pattern's names are their clients' own: `*` stands for them
        for target in route.targets:
            yield "turnout_target_breaker_open", (target.backend.name, target.model), not target.health.breaker.available(now)


def _ledger(ledger: Ledger) -> Iterator[Value]:
    yield "turnout_ledger_pending_rows", (), ledger.pending
    yield "turnout_ledger_dropped_rows_total", (), ledger.dropped
    yield "turnout_ledger_failing", (), ledger.last_error is not None


def _process() -> Iterator[Value]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield "turnout_processes", (), 1
    yield "turnout_cpu_seconds_total", (), used.ru_utime + used.ru_stime
    with suppress(OSError):  # not Linux
        yield "turnout_resident_memory_bytes", (), int(STATM.read_text().split()[1]) * PAGE_BYTES


class Shared:
    """What any process of a gateway knows for all. `redis_error`: of what is shared; it is called at each look."""

    def __init__(self, settings: Settings, meter: MeterPort, engines: Mapping[str, Supervisor], backends: Iterable[Backend]) -> None:
        self._meter = meter
        self._engines = engines
        self._backends = tuple(backends)
        self._redis = settings.state.redis is not None
        scopes = {scope.id: scope for team in settings.teams for scope in scopes_of(settings, team, "")}
        self._scopes = [scope for scope in scopes.values() if scope.budgets and scope.kind != "key"]

    async def seen(self) -> Snapshot:
        """Budgets whose standing cannot be had in time are left out."""
        values = [("turnout_build_info", (version("turnout"),), 1.0), *self._engines_now(), *(await self._budgets())]
        if self._redis:
            values.append(("turnout_redis_up", (), not self._meter.lost()))
        return _snapshot(values)

    async def _budgets(self) -> list[Value]:
        found: list[Value] = []
        with suppress(StoreUnavailable, LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(BUDGETS_S):
                for scope in self._scopes:
                    found += await self._standing(scope)
        return found

    async def _standing(self, scope: Scope) -> list[Value]:
        found: list[Value] = []
        for each in (await self._meter.standing(scope)).budgets:
            labels = (scope.kind, scope.name, each.budget.window)
            found.append(("turnout_budget_limit_usd", labels, each.budget.nusd))
            found.append(("turnout_budget_spent_usd", labels, each.spent_nusd))
            found.append(("turnout_budget_reserved_usd", labels, each.reserved_nusd))
        return found

    def _engines_now(self) -> Iterator[Value]:
        for backend in self._backends:
            engine = self._engines.get(backend.name)
            if engine is not None:
                for state in get_args(EngineState):
                    yield "turnout_engine_state", (backend.name, state), engine.state == state
                yield "turnout_engine_restarts_total", (backend.name,), max(0, engine.generation - 1)
                yield "turnout_engine_wait_seconds", (backend.name,), backend.wait_s()
            reading = backend.reading()
            if reading is not None:
                yield from _told(backend.name, reading)


def _told(engine: str, reading: Reading) -> Iterator[Value]:
    for metric, field in READINGS.items():
        value = getattr(reading, field)
        if value is not None:
            yield metric, (engine,), value


def _snapshot(values: Iterable[Value]) -> Snapshot:
    found: dict[str, dict[Labels, float]] = {}
    for name, labels, value in values:
        found.setdefault(name, {})[labels] = float(value)
    return Snapshot({name: list(told.items()) for name, told in found.items()})
