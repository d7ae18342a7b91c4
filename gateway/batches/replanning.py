"""Which batches are planned anew: when rows of theirs came back, when what could do them has changed, and when their live rows fall behind.

Only rows that nobody has begun move to another way.
"""

import asyncio
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from time import monotonic, time

import msgspec
import structlog
from sqlalchemy import Engine

from batch import jobs
from batch.states import Batch
from config.settings import Settings
from gateway.batches.kept_plan import KeptPlan, kept_plan
from gateway.routes import Target
from gateway.runtime import Runtime
from policy.batch_late import falls_behind
from policy.outages import Outages, Standing

CHOOSES_BY = {"models", "providers", "policies", "engines", "teams", "batch"}  # sections of the configuration
UNTRIED = 4.0  # polls until a target that was out is counted on again, though nobody has asked it
SPARES = 20.0  # times as long as a plan took to make, at least, until the next one

log = structlog.get_logger("turnout.batches")


class Capacity(msgspec.Struct, frozen=True):
    """What a plan reckons with beside the ledger. `unready`: targets that are out; `config`: a digest of what the configuration says."""

    unready: tuple[str, ...]
    config: str


def digest_of(settings: Settings) -> str:
    return blake2b(settings.model_dump_json(include=CHOOSES_BY).encode(), digest_size=8).hexdigest()


class Replanning:
    """Driven by the leader's looks. `every_s`: between two of them."""

    def __init__(self, runtime: Runtime, engine: Engine, every_s: float) -> None:
        self._runtime = runtime
        self._engine = engine
        self._every_s = every_s
        self._outages = Outages(every_s, UNTRIED * every_s)
        self._config = digest_of(runtime.settings)
        self._again: set[str] = set()
        self._reckoned: dict[str, Capacity] = {}  # what was last looked at for each batch
        self._rests_until: dict[str, float] = {}

    def again(self, id: str) -> None:
        """Rows of it came back."""
        self._again.add(id)

    def is_due(self, batch: Batch) -> bool:
        return batch.status == "in_progress" and (batch.plan is None or batch.id in self._again)

    def begins(self, id: str) -> bool:
        """It is about to be planned; whether that is anew."""
        again = id in self._again
        self._again.discard(id)
        return again

    def ended(self, id: str, took_s: float) -> None:
        self._rests_until[id] = monotonic() + max(self._every_s, SPARES * took_s)

    def capacity(self, models: Iterable[str]) -> Capacity:
        """As it stands for these models."""
        found = [self._runtime.routes.find(model) for model in models]
        labels = {target.label for route in found if route is not None for target in route.targets}
        return Capacity(tuple(sorted(labels & self._outages.out)), self._config)

    async def look(self, active: Mapping[str, Batch]) -> None:
        now = monotonic()
        self._outages.look({target.label: self._standing(target, now) for route in self._runtime.routes.known for target in route.targets}, now)
        for known in (self._reckoned, self._rests_until):
            for id in known.keys() - active.keys():
                del known[id]
        for batch in active.values():
            if batch.status == "in_progress" and batch.plan is not None and now >= self._rests_until.get(batch.id, now):
                await self._look_at(batch, kept_plan(batch.plan))

    async def _look_at(self, batch: Batch, kept: KeptPlan) -> None:
        capacity = self.capacity({share.model for share in kept.shares})
        changed = capacity != self._reckoned.get(batch.id, Capacity(tuple(kept.unready), kept.config))
        live, elapsed_s = kept.live_rows, time() - kept.made_at
        if not changed and (kept.live_ends_at is None or not live):
            return
        waiting = await asyncio.to_thread(jobs.count_waiting, self._engine, batch.id)
        behind = kept.live_ends_at is not None and falls_behind(live, waiting, elapsed_s, kept.live_ends_at - kept.made_at)
        self._reckoned[batch.id] = capacity
        if waiting and (changed or behind):
            why = "what could do its rows has changed" if changed else "its live rows are behind"
            log.info("a batch is planned anew", batch=batch.id, why=why, rows=waiting, unready=capacity.unready)
            self._again.add(batch.id)

    def _standing(self, target: Target, now: float) -> Standing:
        engine = self._runtime.engines.get(target.backend.name)
        if engine is not None and engine.state in ("failed", "stopped"):
            return "unwell"
        state = target.health.state_for_batches(now)
        return "well" if state == "closed" else "untried" if state == "half_open" else "unwell"
