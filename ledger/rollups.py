"""Roll-ups: what the rows of each minute, hour and day add up to, made from them by whoever finds a span stale; the same however often it is made.

Whoever writes rows notes their minutes in `stale_spans`, in the same transaction. `roll_up` makes such a minute anew from its rows, an hour from its
minutes, a day from its hours: late rows, re-runs and new prices need nothing else.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, Select, Table, case, cast, delete, func, insert, literal, select, update

from contract.scale import prompt_at
from ledger.histogram import Histograms, count, measured, merge, packed, unpacked
from ledger.row import ANSWERED, ENDED_WELL
from ledger.schema import (
    LATENCY_DIMENSIONS,
    USAGE_CLASSES,
    USAGE_DIMENSIONS,
    USAGE_MEASURES,
    attempts,
    latency_rollups,
    rollup_state,
    stale_spans,
    usage_rollups,
)
from ledger.summaries import summarise

MINUTE, HOUR, DAY = SPANS = (60, 3_600, 86_400)
US = 1_000_000
BATCH = 60  # spans made in one transaction
AT_ONCE = 500  # ids in one statement

_c = attempts.c
GIVEN_UP = (_c.status == "abandoned") & (_c.bytes_request > 0)
ENGINE_US = _c.engine_prefill_us + _c.engine_decode_us
_TOLD = _c.usage_source.is_not(None) | _c.status.in_(ANSWERED) | GIVEN_UP
UNPRICED = _c.cost_nusd.is_(None) & _c.engine_nusd.is_(None) & _TOLD  # as AttemptRow.priced


def _one(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return case((condition, 1), else_=0)


# What one row adds to each measure. A request is counted at its first row.
ROW: dict[str, ColumnElement[Any]] = {
    "rows": literal(1),
    "requests": _one(_c.attempt <= 1),
    "attempts": _one(_c.attempt > 0),
    "estimated": _one(func.coalesce(_c.usage_source, "") == "estimated"),
    "unpriced": _one(UNPRICED),
    **{name: _c[name] for name in USAGE_CLASSES},
    "cost_nusd": case((_c.billed == "team", _c.cost_nusd)),
    "absorbed_nusd": case((_c.billed == "gateway", _c.cost_nusd)),
    "saved_nusd": _c.saved_nusd,
    "engine_us": ENGINE_US,
    "engine_nusd": _c.engine_nusd,
    "slo_met": _one(_c.slo_met.is_(True)),
    "slo_missed": _one(_c.slo_met.is_(False)),
    "failed": _one(_c.status.not_in(ENDED_WELL)),
}
INPUTS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
OUTPUTS = ("output_visible", "reasoning", "audio_output", "image_output")
_TIMES = ("first_token_us", "end_us", "queue_us", "overhead_us")


def stale(starts_s: Iterable[int], span_s: int = MINUTE) -> list[dict[str, Any]]:
    """Entries that say so, to be added where the rows are changed."""
    return [{"id": uuid4().hex, "span_s": span_s, "start_s": start} for start in starts_s]


def minute_of(at_us: int) -> int:
    return at_us // (MINUTE * US) * MINUTE


def roll_up(engine: Engine, now_s: float, limit_s: float = 600.0) -> bool:
    """Makes what is stale and over by `now_s` (Unix time); False: not all within `limit_s`. Raises SQLAlchemyError; then the rest stays stale."""
    until = time.monotonic() + limit_s
    for span_s in SPANS:
        while _stale(engine, span_s, now_s):
            if time.monotonic() > until:
                return False
            with engine.begin() as connection:
                _make_some(connection, span_s, now_s)
    return True


def _stale(engine: Engine, span_s: int, now_s: float) -> bool:
    with engine.connect() as connection:
        return connection.execute(_found(span_s, now_s).limit(1)).first() is not None


def _found(span_s: int, now_s: float) -> Select[tuple[str, int]]:
    columns = stale_spans.c
    return select(columns.id, columns.start_s).where(columns.span_s == span_s, columns.start_s <= now_s - span_s)


def _make_some(connection: Connection, span_s: int, now_s: float) -> None:
    """In one transaction: whose turn it is has the roll-ups to itself, and sees every row whose entry it takes away."""
    connection.execute(update(rollup_state).values(turn=rollup_state.c.turn + 1))
    purged_s = connection.execute(select(rollup_state.c.purged_s)).scalar_one()
    starts: set[int] = set()
    ids = []
    for entry in connection.execute(_found(span_s, now_s).order_by(stale_spans.c.start_s)):
        if entry.start_s not in starts and len(starts) == BATCH:
            break
        starts.add(entry.start_s)
        ids.append(entry.id)
    kept = sorted(start for start in starts if start >= purged_s)  # the rows of the others are gone: what was made of them stays
    for low, high in _runs(kept, span_s):
        (_from_rows if span_s == MINUTE else _from_parts)(connection, span_s, low, high)
    if span_s != MINUTE:
        for low, high in _runs(sorted(starts), span_s):
            summarise(connection, span_s, low, high)
    if span_s != DAY:
        wider = SPANS[SPANS.index(span_s) + 1]
        if above := stale({start - start % wider for start in kept}, wider):
            connection.execute(insert(stale_spans), above)
    for at in range(0, len(ids), AT_ONCE):
        connection.execute(delete(stale_spans).where(stale_spans.c.id.in_(ids[at : at + AT_ONCE])))


def _runs(starts: Sequence[int], span_s: int) -> Iterable[tuple[int, int]]:
    """Spans that follow one another are made at once: (where the first begins, where the last ends)."""
    low = None
    for start in starts:
        if low is None:
            low = start
        if start + span_s not in starts:
            yield low, start + span_s
            low = None


def _sum(value: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.sum(value), BigInteger)


def _from_rows(connection: Connection, span_s: int, low: int, high: int) -> None:
    within = (_c.started_at_us >= low * US) & (_c.started_at_us < high * US)
    _insert_sums(connection, (span_s, low, high), attempts, within, _c.started_at_us // (span_s * US) * span_s, ROW)
    found: dict[tuple[Any, ...], Histograms] = {}
    for key, at_us, histograms in latencies(connection, within):
        at_s = at_us // US
        merge(found.setdefault((at_s - at_s % span_s, *key), {}), histograms)
    _insert_counts(connection, (span_s, low, high), found)


def _from_parts(connection: Connection, span_s: int, low: int, high: int) -> None:
    def within(table: Table) -> ColumnElement[bool]:
        part = SPANS[SPANS.index(span_s) - 1]
        return (table.c.span_s == part) & (table.c.start_s >= low) & (table.c.start_s < high)

    sums, counts = usage_rollups.c, latency_rollups.c
    start = sums.start_s - sums.start_s % span_s
    _insert_sums(connection, (span_s, low, high), usage_rollups, within(usage_rollups), start, {name: sums[name] for name in USAGE_MEASURES})
    found: dict[tuple[Any, ...], Histograms] = {}
    own = select(counts.start_s - counts.start_s % span_s, *(counts[name] for name in LATENCY_DIMENSIONS), counts.counts)
    for row in connection.execute(own.where(within(latency_rollups))):
        merge(found.setdefault(tuple(row[:-1]), {}), unpacked(row[-1]))
    _insert_counts(connection, (span_s, low, high), found)


def _anew(connection: Connection, table: Table, run: tuple[int, int, int]) -> None:
    span_s, low, high = run
    connection.execute(delete(table).where(table.c.span_s == span_s, table.c.start_s >= low, table.c.start_s < high))


def _insert_sums(
    connection: Connection,
    run: tuple[int, int, int],
    source: Table,
    within: ColumnElement[bool],
    start: ColumnElement[int],
    measures: Mapping[str, ColumnElement[Any]],
) -> None:
    _anew(connection, usage_rollups, run)
    by = [source.c[name] for name in USAGE_DIMENSIONS]
    sums = select(literal(run[0]), start.label("begins"), *by, *(_sum(measures[name]) for name in USAGE_MEASURES))
    sums = sums.where(within).group_by("begins", *by)  # by its name: PostgreSQL does not take two bound expressions for the same one
    connection.execute(insert(usage_rollups).from_select(["span_s", "start_s", *USAGE_DIMENSIONS, *USAGE_MEASURES], sums))


def _insert_counts(connection: Connection, run: tuple[int, int, int], found: dict[tuple[Any, ...], Histograms]) -> None:
    """By start and LATENCY_DIMENSIONS."""
    _anew(connection, latency_rollups, run)
    names = ("start_s", *LATENCY_DIMENSIONS)
    rows = [{"span_s": run[0], **dict(zip(names, key, strict=True)), "counts": packed(histograms)} for key, histograms in found.items()]
    if rows:
        connection.execute(insert(latency_rollups), rows)


def latencies(connection: Connection, within: ColumnElement[bool]) -> Iterable[tuple[tuple[Any, ...], int, Histograms]]:
    """(LATENCY_DIMENSIONS, when it began in microseconds, counts) of rows, attempt by attempt."""
    plain = ("started_at_us", "team", "model_asked", "target", "model_sent", "policy", "stream", "status", "prompt_tokens_estimated", *_TIMES)
    query = select(*(_c[name] for name in (*plain, *INPUTS, *OUTPUTS))).where(within)
    for row in connection.execute(query).mappings():
        prompt = _total(row, INPUTS)
        prompt = row["prompt_tokens_estimated"] if prompt is None else prompt
        times = {**{name: row[name] for name in _TIMES}, "output": _total(row, OUTPUTS)}
        histograms: Histograms = {}
        for metric, us in measured(times, row["stream"], row["status"] == "ok"):
            count(histograms, metric, us)
        if histograms:
            key = (*(row[name] for name in LATENCY_DIMENSIONS[:-1]), -1 if prompt is None else prompt_at(prompt))
            yield key, row["started_at_us"], histograms


def _total(row: Any, names: Sequence[str]) -> int | None:
    known = [row[name] for name in names if row[name] is not None]
    return sum(known) if known else None
