"""What this process counted since its start, fed where a ledger row is made and where a request ends: on the request path, so it only adds.

A row finds its cell by what its labels are made of; what the metrics are is worked out when somebody looks.
"""

from bisect import bisect_left
from collections.abc import Iterator
from time import time
from typing import TypeVar

from contract.usage import Usage
from gateway.metrics.families import BETWEEN_TOKENS, FAMILIES, OVERHEAD, SECONDS
from gateway.metrics.snapshot import Buckets, Exemplar, Labels, Snapshot
from ledger.row import ENDED_WELL, AttemptRow

TOKEN_TYPES = (
    *("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "output_visible", "reasoning", "audio_output"),
    *("image_input", "image_output"),
)
K = TypeVar("K")
NO_STATUS = "none"  # the client left before it was answered


class Histogram:
    """The last request of each bucket stays its exemplar."""

    __slots__ = ("bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, request_id: str, at: float) -> None:
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.exemplars[index] = (request_id, value, at)
        self.total += value

    @property
    def buckets(self) -> Buckets:
        return Buckets(list(self.counts), self.total, list(self.exemplars))


class _Cell:
    """Of rows with the same labels. Money in nano-dollars, time in microseconds."""

    __slots__ = ("cost", "decode", "engine_cost", "overhead", "prefill", "rows", "saved", "times", "tokens", "unpriced")

    def __init__(self, times: "_Times", overhead: "Histogram") -> None:
        self.times = times  # which more cells have
        self.overhead = overhead
        self.rows = 0
        self.tokens: list[int | None] | None = None  # None: nobody told any
        self.cost: int | None = None
        self.unpriced = 0
        self.engine_cost: int | None = None
        self.saved: int | None = None
        self.prefill = self.decode = 0

    def use(self, usage: Usage) -> None:
        """In the order of TOKEN_TYPES; one after another, for a loop would cost a request a microsecond."""
        known = self.tokens
        if known is None:
            known = self.tokens = [None] * len(TOKEN_TYPES)
        if (count := usage.input_uncached) is not None:
            known[0] = (known[0] or 0) + count
        if (count := usage.cache_read) is not None:
            known[1] = (known[1] or 0) + count
        if (count := usage.cache_write_5m) is not None:
            known[2] = (known[2] or 0) + count
        if (count := usage.cache_write_1h) is not None:
            known[3] = (known[3] or 0) + count
        if (count := usage.audio_input) is not None:
            known[4] = (known[4] or 0) + count
        if (count := usage.output_visible) is not None:
            known[5] = (known[5] or 0) + count
        if (count := usage.reasoning) is not None:
            known[6] = (known[6] or 0) + count
        if (count := usage.audio_output) is not None:
            known[7] = (known[7] or 0) + count
        if (count := usage.image_input) is not None:
            known[8] = (known[8] or 0) + count
        if (count := usage.image_output) is not None:
            known[9] = (known[9] or 0) + count


class _Times:
    """Of one endpoint, model and target."""

    __slots__ = ("between", "first", "whole")

    def __init__(self) -> None:
        self.first = Histogram(SECONDS)
        self.between = Histogram(BETWEEN_TOKENS)
        self.whole = Histogram(SECONDS)


class _Requests:
    """Of requests with the same labels. `durations`: of more of them."""

    __slots__ = ("count", "durations")

    def __init__(self, durations: Histogram) -> None:
        self.count = 0
        self.durations = durations


class Counts:
    """For one event loop. Observers: nothing here fails a request."""

    def __init__(self) -> None:
        self.changes = 0
        self._cells: dict[tuple[str, ...], _Cell] = {}
        self._times: dict[tuple[str, str, str], _Times] = {}
        self._errors: dict[Labels, int] = {}
        self._overhead: dict[str, Histogram] = {}
        self._queues: dict[str, Histogram] = {}
        self._requests: dict[tuple[Labels, bool], _Requests] = {}  # by their labels, and whether they were streamed
        self._durations: dict[tuple[str, str, bool], Histogram] = {}
        self._cache: dict[Labels, int] = {}
        self._slo: dict[tuple[str, str, bool], int] = {}

    # --- what is counted -------------------------------------------------------------------------------------------------
    def row(self, row: AttemptRow, first_s: float | None = None, queued: bool = False) -> None:
        """A row, as the ledger gets it. `first_s`: from the request's head to the first output of a stream that its client is given.

        `queued`: it waited for an engine of ours.
        """
        status, target = row.status, row.target
        key = (row.endpoint, row.route, target, row.policy, row.team, status, row.billed)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._cell(row)
        cell.rows += 1
        if row.usage is not None:
            cell.use(row.usage)
        if row.cost_nusd is not None:
            cell.cost = (cell.cost or 0) + row.cost_nusd
        elif row.priced and row.engine_nusd is None:
            cell.unpriced += 1
        if row.saved_nusd is not None:
            cell.saved = (cell.saved or 0) + row.saved_nusd
        if row.engine_prefill_us is not None:
            self._engine(cell, row)
        if row.error_code is not None and status not in ENDED_WELL:
            self._errors[target, row.error_code] = self._errors.get((target, row.error_code), 0) + 1
        if row.attempt <= 1 and row.cache is not None:
            found = (row.route, row.team, row.cache)
            self._cache[found] = self._cache.get(found, 0) + 1
        if row.slo_met is not None:
            kept = (row.route, row.policy, row.slo_met)
            self._slo[kept] = self._slo.get(kept, 0) + 1
        if status == "ok" or first_s is not None:
            _time(cell, row, first_s)
        if queued and row.queue_us is not None:
            _histogram(self._queues, target, SECONDS).observe(row.queue_us / 1e6, row.request_id, row.started_at_us / 1e6)

    def _cell(self, row: AttemptRow) -> _Cell:
        place = (row.endpoint, row.route, row.target)
        times = self._times.get(place)
        if times is None:
            times = self._times[place] = _Times()
        return _Cell(times, _histogram(self._overhead, row.endpoint, OVERHEAD))

    def _engine(self, cell: _Cell, row: AttemptRow) -> None:
        cell.prefill += row.engine_prefill_us or 0
        cell.decode += row.engine_decode_us or 0
        if row.engine_nusd is not None:
            cell.engine_cost = (cell.engine_cost or 0) + row.engine_nusd

    def request(self, labels: Labels, stream: bool, took_s: float, request_id: str) -> None:
        """A request's end, however it ended. `labels`: of `turnout_requests_total`."""
        self.changes += 1
        requests = self._requests.get((labels, stream))
        if requests is None:
            requests = self._requests[labels, stream] = _Requests(_histogram(self._durations, (labels[0], labels[1], stream), SECONDS))
        requests.count += 1
        requests.durations.observe(took_s, request_id, time())

    # --- what is told ----------------------------------------------------------------------------------------------------
    def snapshot(self) -> Snapshot:
        """All that was counted."""
        values: dict[str, dict[Labels, float]] = {name: {} for name, family in FAMILIES.items() if family.kind == "counter"}

        def add(name: str, labels: Labels, value: float | None) -> None:
            if value is not None:
                values[name][labels] = values[name].get(labels, 0) + value

        for (endpoint, model, target, policy, team, status, billed), cell in self._cells.items():
            add("turnout_attempts_total", (endpoint, model, target, policy, team, status), cell.rows)
            of_target = (model, target, team)
            for kind, count in zip(TOKEN_TYPES, cell.tokens or (), strict=False):
                add("turnout_tokens_total", (*of_target, kind), count)
            add("turnout_cost_usd_total", (*of_target, billed), cell.cost)
            add("turnout_unpriced_attempts_total", (model, target), cell.unpriced or None)
            add("turnout_engine_cost_usd_total", of_target, cell.engine_cost)
            add("turnout_cache_saved_usd_total", (model, team), cell.saved)
            add("turnout_engine_busy_seconds_total", (target, "prefill"), cell.prefill or None)
            add("turnout_engine_busy_seconds_total", (target, "decode"), cell.decode or None)
        values["turnout_attempt_errors_total"] = dict(self._errors)
        for (labels, _), requests in self._requests.items():
            add("turnout_requests_total", labels, requests.count)
        values["turnout_cache_requests_total"] = dict(self._cache)
        values["turnout_slo_requests_total"] = {(model, policy, _word(met)): count for (model, policy, met), count in self._slo.items()}
        histograms: dict[str, list[tuple[Labels, Buckets]]] = {}
        for name, labels, histogram in self._histograms():
            if any(histogram.counts):
                histograms.setdefault(name, []).append((labels, histogram.buckets))
        return Snapshot({name: list(told.items()) for name, told in values.items() if told}, histograms)

    def _histograms(self) -> Iterator[tuple[str, Labels, Histogram]]:
        for (endpoint, model, stream), histogram in self._durations.items():
            yield "turnout_request_duration_seconds", (endpoint, model, _word(stream)), histogram
        between: dict[tuple[str, str], Histogram] = {}
        for (endpoint, model, target), times in self._times.items():
            yield "turnout_time_to_first_token_seconds", (endpoint, model, target), times.first
            yield "turnout_attempt_duration_seconds", (endpoint, model, target), times.whole
            _merge(_histogram(between, (model, target), BETWEEN_TOKENS), times.between)
        for of_target, histogram in between.items():
            yield "turnout_inter_token_latency_seconds", of_target, histogram
        for target, histogram in self._queues.items():
            yield "turnout_engine_queue_seconds", (target,), histogram
        for endpoint, histogram in self._overhead.items():
            yield "turnout_gateway_overhead_seconds", (endpoint,), histogram


def _time(cell: _Cell, row: AttemptRow, first_s: float | None) -> None:
    times, at, request_id = cell.times, row.started_at_us / 1e6, row.request_id
    if first_s is not None:
        times.first.observe(first_s, request_id, at)
    if row.overhead_us is not None:
        cell.overhead.observe(row.overhead_us / 1e6, request_id, at)
    end_us = row.end_us
    if row.status != "ok" or end_us is None:
        return
    times.whole.observe(end_us / 1e6, request_id, at)
    tokens = None if row.usage is None or not row.stream else row.usage.output_total
    if tokens is not None and tokens > 1 and row.first_token_us is not None:
        times.between.observe((end_us - row.first_token_us) / (tokens - 1) / 1e6, request_id, at)


def _histogram(known: dict[K, Histogram], key: K, bounds: tuple[float, ...]) -> Histogram:
    found = known.get(key)
    if found is None:
        found = known[key] = Histogram(bounds)
    return found


def _merge(into: Histogram, other: Histogram) -> None:
    into.counts = [a + b for a, b in zip(into.counts, other.counts, strict=True)]
    into.exemplars = [b or a for a, b in zip(into.exemplars, other.exemplars, strict=True)]
    into.total += other.total


def _word(value: bool) -> str:
    return "true" if value else "false"
