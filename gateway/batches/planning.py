"""Where a batch's rows are to run: planned once it is accepted, and again for rows that come back. What goes to providers' jobs is decided here;
the other rows are asked as live calls, each first at the target that it is planned for, then where its policy has it. Blocks."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from batch import jobs
from batch.checking import body_of
from batch.jobs import Job
from batch.states import Batch, Leased
from contract.errors import TurnoutError
from contract.usage import BYTES_PER_TOKEN
from gateway.batches.kept_plan import KeptPlan, KeptShare, kept_share
from gateway.batches.rendering import window_s
from gateway.batches.replanning import Replanning
from gateway.batches.upkeep import US, now_us
from gateway.batches.ways import Sized, ways_of
from gateway.runtime import Runtime
from policy.batch_plan import Way, plan
from providers.batch.table import limits_of
from providers.local.weights import WeightsNotFound
from providers.registry import PROVIDER_KINDS

SAMPLE = 200  # rows that are read of a batch that no provider's job may have
GROWS, MORE = 1.25, 256  # a row's bytes in a provider's file, by its bytes in ours
AS_LONG = 0.95  # of its window that must be left for a job that takes all of it


class _Body(msgspec.Struct):
    """Of a row: what the plan goes by."""

    model: str = ""
    max_completion_tokens: Any = None
    max_tokens: Any = None
    max_output_tokens: Any = None


class _Kind(msgspec.Struct):
    """A batch's rows for one model: those that were read, and how many they stand for. `size`: bytes of those that were read."""

    rows: list[Leased] = msgspec.field(default_factory=list)
    count: int = 0
    size: int = 0
    longest: int = 0
    limited: bool = True


_decode = msgspec.json.Decoder(_Body).decode


class Planning:
    """`file`: the path of a batch's rows."""

    def __init__(self, runtime: Runtime, engine: Any, replanning: Replanning, concurrency: int) -> None:
        self._runtime = runtime
        self._engine = engine
        self._replanning = replanning
        self._concurrency = concurrency
        self.ways: dict[tuple[str, str], list[Way]] = {}  # (batch, model) -> the ways that there were when it was planned

    def plan(self, batch: Batch, file: str) -> int:
        """Plans the rows that wait and are nobody's, and leaves them to jobs; how many. What had a job already gets none at the same place.

        Where none waits a plan that there is stays.
        """
        waiting = jobs.waiting(self._engine, batch.id)
        if not waiting and batch.plan is not None:
            jobs.planned(self._engine, batch.id, batch.plan, {})
            return 0
        tried = jobs.tried(self._engine, batch.id)
        now = now_us()
        whole_s = window_s(batch.window)
        left_s = max(0.0, (batch.expires_at_us - now) / US)
        deadline_s = whole_s if left_s >= AS_LONG * whole_s else left_s
        shares: list[KeptShare] = []
        given: dict[Job, list[int]] = {}
        in_time: bool | None = True
        kinds = self._kinds(batch, waiting, file)
        capacity = self._replanning.capacity(kinds)
        for model, kind in kinds.items():
            sized = _sized(batch, model, kind)
            ways = self._ways(batch, sized, tried, capacity.unready)
            chosen = plan(sized.rows, deadline_s, _in_time(ways, deadline_s))
            if not chosen.in_time:  # live rows whose speed nobody knows may be in time
                in_time = None if chosen.unplaced and in_time is not False else False
            shares += [kept_share(model, share, now // US) for share in chosen.shares]
            if chosen.unplaced:
                shares.append(KeptShare(model, None, "realtime", chosen.unplaced, None, None))
            end = len(kind.rows)
            for share in chosen.shares:
                if share.way.kind == "provider_batch":
                    some = kind.rows[max(0, end - share.rows) : end]
                    end -= len(some)
                    given |= self._jobs(batch, share.way, some, now)
        kept = KeptPlan(made_at=now // US, rows=len(waiting), in_time=in_time, shares=shares, unready=[*capacity.unready], config=capacity.config)
        jobs.planned(self._engine, batch.id, msgspec.json.encode(kept).decode(), given)
        return sum(map(len, given.values()))

    def _kinds(self, batch: Batch, waiting: Sequence[Leased], file: str) -> dict[str, _Kind]:
        """By model. Where no provider has batches that may be used a sample says what the others are like."""
        kinds: dict[str, _Kind] = defaultdict(_Kind)
        some = waiting if self._any_jobs() else waiting[:: max(1, len(waiting) // SAMPLE)]
        for row, body in _bodies(batch, some, file):
            kind = kinds[body.model]
            limits = [each for each in (body.max_completion_tokens, body.max_tokens, body.max_output_tokens) if isinstance(each, int)]
            kind.rows.append(row)
            kind.size += row.size
            kind.longest = max(kind.longest, *limits, 0)
            kind.limited = kind.limited and bool(limits)
        for kind in kinds.values():
            kind.count = len(kind.rows) * len(waiting) // len(some)
        return kinds

    def _any_jobs(self) -> bool:
        return any(
            provider.batch.use and limits_of(PROVIDER_KINDS[provider.kind]) is not None for provider in self._runtime.settings.providers.values()
        )

    def _ways(self, batch: Batch, sized: Sized, tried: set[tuple[str, str]], unready: Sequence[str]) -> list[Way]:
        settings = self._runtime.settings
        team = batch.team if batch.team in settings.teams else None
        try:
            ways = ways_of(settings, team, sized, self._concurrency, self._runtime.ledger.engine, unready)
        except (TurnoutError, WeightsNotFound):
            ways = []  # the rows will hear why, each as a live call would
        self.ways[batch.id, sized.model] = ways
        return [way for way in ways if way.kind != "provider_batch" or tuple(way.target.split("/", 1)) not in tried]

    def _jobs(self, batch: Batch, way: Way, rows: Sequence[Leased], now: int) -> dict[Job, list[int]]:
        """The rows in as many jobs as the provider's limits make of them. A last one with fewer than its minimum is none."""
        provider, _, model = way.target.partition("/")
        limits = limits_of(PROVIDER_KINDS[self._runtime.settings.providers[provider].kind])
        assert limits is not None
        made: dict[Job, list[int]] = {}
        for some in _fitting(rows, limits.rows, limits.size):
            if len(some) < limits.min_rows:
                continue
            key = blake2b(f"{batch.id}:{provider}:{model}:{some[0].line}:{now}".encode(), digest_size=12).hexdigest()
            job = Job(id=key, batch_id=batch.id, provider=provider, model=model, rows=len(some), made_at_us=now)
            made[job] = [row.line for row in some]
        return made


def _in_time(ways: Sequence[Way], deadline_s: float) -> list[Way]:
    """Without jobs that are not counted on to end in time, where rows can be asked live: then they are done sooner, if not in time."""
    live = any(way.kind != "provider_batch" and not way.barred for way in ways)
    return [way for way in ways if way.kind != "provider_batch" or not live or way.start_s <= deadline_s]


def _bodies(batch: Batch, rows: Sequence[Leased], file: str) -> Iterator[tuple[Leased, _Body]]:
    at = os.open(file, os.O_RDONLY)
    try:
        for row in rows:
            yield row, _decode(body_of(batch.dialect, os.pread(at, row.size, row.at)))
    finally:
        os.close(at)


def _sized(batch: Batch, model: str, kind: _Kind) -> Sized:
    return Sized(
        model=model,
        endpoint=batch.endpoint,
        rows=kind.count,
        prompt_tokens=max(1, kind.size // len(kind.rows) // BYTES_PER_TOKEN),
        max_tokens=kind.longest if kind.limited else None,
    )


def _fitting(rows: Sequence[Leased], most_rows: int, most_bytes: int) -> Iterator[list[Leased]]:
    some: list[Leased] = []
    size = 0
    for row in rows:
        more = int(row.size * GROWS) + MORE
        if some and (len(some) == most_rows or size + more > most_bytes):
            yield some
            some, size = [], 0
        some.append(row)
        size += more
    if some:
        yield some
