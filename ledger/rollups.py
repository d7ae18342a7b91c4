"""Roll-ups: what the rows of each minute, hour and day add up to, made from them by whoever finds a span stale; the same however often it is made.

Whoever writes rows notes their minutes in `stale_spans`, in the same transaction. `roll_up` makes such a minute anew from its rows, an hour from its
minutes, a day from its hours: late rows, re-runs and new prices need nothing else.

Spans are added up beside the ledger, holding nothing that others wait for, and then put in their place in a short transaction. What was added up
holds if nobody else has taken away the entries that called for it, and no rows were deleted meanwhile; else it is left, and made anew.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.schema import CreateTable, DropTable

from ledger import histogram, predictions
from ledger.adding import sum_of
from ledger.observed import INPUTS, OUTPUTS, Observed, nothing, observed, rolled_up
from ledger.row import ANSWERED, ENDED_WELL
from ledger.schema import (
    LATENCY_DIMENSIONS,
    USAGE_CLASSES,
    USAGE_DIMENSIONS,
    USAGE_MEASURES,
    attempts,
    latency_rollups,
    latency_summaries,
    rollup_state,
    stale_spans,
    usage_rollups,
    usage_summaries,
)
from ledger.summaries import LATENCY_DETAILS, USAGE_DETAILS, Seen, summarise_seen, summarise_usage

MINUTE, HOUR, DAY = SPANS = (60, 3_600, 86_400)
US = 1_000_000
SLICE_S = 0.5
MOST_SPANS = 60  # in one slice
MOST_ENTRIES = 5_000  # and so many of them, where a span has not more alone
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
    "unpriced_tokens": case((UNPRICED, sum((func.coalesce(_c[name], 0) for name in (*INPUTS, *OUTPUTS)), literal(0)))),
    "held_nusd": case(((_c.billed == "team") & _c.cost_nusd.is_(None), _c.held_nusd)),
    "failed": _one(_c.status.not_in(ENDED_WELL)),
}


def stale(starts_s: Iterable[int], span_s: int = MINUTE) -> list[dict[str, Any]]:
    """Entries that say so, to be added where the rows are changed."""
    return [{"id": uuid4().hex, "span_s": span_s, "start_s": start} for start in starts_s]


def minute_of(at_us: int) -> int:
    return at_us // (MINUTE * US) * MINUTE


def roll_up(engine: Engine, now_s: float, limit_s: float = 600.0) -> bool:
    """Makes what is stale and over by `now_s` (Unix time); False: not all within `limit_s`. Raises SQLAlchemyError; then the rest stays stale.

    In slices, each safe once it is made, of as many spans as take about SLICE_S.
    """
    until = time.monotonic() + limit_s
    for span_s in SPANS:
        spans = 1
        while found := _stale(engine, span_s, now_s, spans):
            if (began := time.monotonic()) > until:
                return False
            with engine.connect() as connection:
                Slice(connection, span_s, found).make()
            took_s = time.monotonic() - began
            spans = min(MOST_SPANS, spans * 2) if took_s < SLICE_S / 2 else max(1, spans // 2) if took_s > SLICE_S else spans
    return True


def _stale(engine: Engine, span_s: int, now_s: float, spans: int) -> dict[int, list[str]]:
    """Where the first of them begin, and the entries that say so."""
    columns, found = stale_spans.c, dict[int, list[str]]()
    within = (columns.span_s == span_s, columns.start_s <= now_s - span_s)
    first = select(columns.start_s).where(*within).distinct().order_by(columns.start_s).limit(spans)
    with engine.connect() as connection:
        starts = connection.execute(first).scalars().all()
        if starts:
            query = select(columns.start_s, columns.id).where(*within, columns.start_s.between(starts[0], starts[-1]))
            for entries, (start_s, id) in enumerate(connection.execute(query.order_by(columns.start_s))):
                if start_s not in found and entries > MOST_ENTRIES:
                    break
                found.setdefault(start_s, []).append(id)
    return found


# --- one slice ----------------------------------------------------------------------------------------------------------
_making = MetaData()


def _beside(table: Table) -> Table:
    """A table of the same shape that is this connection's alone: filled without a lock on the ledger's file."""
    return Table(f"{table.name}_made", _making, *(Column(each.name, each.type) for each in table.columns), prefixes=["TEMPORARY"])


_usage, _usage_summaries = _beside(usage_rollups), _beside(usage_summaries)


class Slice:
    """`entries`: those of each span, by where it begins."""

    def __init__(self, connection: Connection, span_s: int, entries: Mapping[int, Sequence[str]]) -> None:
        self._connection = connection
        self._span_s = span_s
        self._starts = sorted(entries)
        self._ids = [id for ids in entries.values() for id in ids]
        self._seen: Seen = {}

    def make(self) -> bool:
        """False: somebody else was at it, or rows were deleted; nothing was changed."""
        connection = self._connection
        purged_s = self._purged_s()  # after the entries were read: rows that are deleted later would be too late for them
        kept = [start for start in self._starts if start >= purged_s]
        for table in (_usage, _usage_summaries):
            connection.execute(DropTable(table, if_exists=True))
            connection.execute(CreateTable(table))
        for low, high in _runs(kept, self._span_s):
            (self._add_rows if self._span_s == MINUTE else self._add_parts)(low, high)
        if self._span_s != MINUTE:
            for low, high in _runs([start for start in self._starts if start < purged_s], self._span_s):
                self._add_as_it_is(low, high)
            summarise_usage(connection, _usage, _usage_summaries)
        told = self._told()
        connection.commit()
        with connection.begin() as transaction:
            connection.execute(update(rollup_state).values(turn=rollup_state.c.turn + 1))
            if self._purged_s() != purged_s or not self._entries_gone():
                transaction.rollback()
                return False
            self._put(kept, told)
            if self._span_s != DAY:
                wider = SPANS[SPANS.index(self._span_s) + 1]
                if above := stale({start - start % wider for start in kept}, wider):
                    connection.execute(insert(stale_spans), above)
        return True

    def _purged_s(self) -> int:
        return int(self._connection.execute(select(rollup_state.c.purged_s)).scalar_one())

    def _entries_gone(self) -> bool:
        """Takes them away; False: some are gone already."""
        gone = 0
        for at in range(0, len(self._ids), AT_ONCE):
            gone += self._connection.execute(delete(stale_spans).where(stale_spans.c.id.in_(self._ids[at : at + AT_ONCE]))).rowcount
        return gone == len(self._ids)

    # --- added up -------------------------------------------------------------------------------------------------------
    def _add_rows(self, low: int, high: int) -> None:
        span_s, connection = self._span_s, self._connection
        within = (_c.started_at_us >= low * US) & (_c.started_at_us < high * US)
        self._add_sums(attempts, within, _c.started_at_us // (span_s * US) * span_s, ROW)
        for dimensions, at_us, each in observed(connection, within):
            at_s = at_us // US
            self._seen.setdefault((at_s - at_s % span_s, *dimensions), nothing()).merge(each)

    def _add_parts(self, low: int, high: int) -> None:
        span_s, part, sums, counts = self._span_s, SPANS[SPANS.index(self._span_s) - 1], usage_rollups.c, latency_rollups.c
        start = sums.start_s - sums.start_s % span_s
        self._add_sums(usage_rollups, _spanned(usage_rollups, part, low, high), start, {name: sums[name] for name in USAGE_MEASURES})
        self._add_seen(counts.start_s - counts.start_s % span_s, _spanned(latency_rollups, part, low, high))

    def _add_as_it_is(self, low: int, high: int) -> None:
        """An hour or a day whose rows are gone."""
        within = _spanned(usage_rollups, self._span_s, low, high)
        self._connection.execute(insert(_usage).from_select(_names(_usage), select(usage_rollups).where(within)))
        self._add_seen(latency_rollups.c.start_s, _spanned(latency_rollups, self._span_s, low, high))

    def _add_sums(self, source: Table, within: ColumnElement[bool], start: ColumnElement[int], measures: Mapping[str, ColumnElement[Any]]) -> None:
        by = [source.c[name] for name in USAGE_DIMENSIONS]
        sums = select(literal(self._span_s), start.label("begins"), *by, *(sum_of(name, measures[name]) for name in USAGE_MEASURES))
        sums = sums.where(within).group_by("begins", *by)  # by its name: PostgreSQL does not take two bound expressions for the same one
        self._connection.execute(insert(_usage).from_select(["span_s", "start_s", *USAGE_DIMENSIONS, *USAGE_MEASURES], sums))

    def _add_seen(self, start: ColumnElement[int], within: ColumnElement[bool]) -> None:
        columns = latency_rollups.c
        query = select(start, *(columns[name] for name in LATENCY_DIMENSIONS), columns.counts, columns.predictions).where(within)
        for key, each in rolled_up(self._connection.execute(query)):
            self._seen.setdefault(key, nothing()).merge(each)

    def _told(self) -> dict[str, list[tuple[Any, ...]]]:
        """What was seen, as rows of its tables."""
        span_s = self._span_s
        told = {latency_rollups.name: [_as_row(span_s, key, each) for key, each in self._seen.items()]}
        if span_s != MINUTE:
            summaries = summarise_seen(self._seen).items()
            told[latency_summaries.name] = [(detail, *_as_row(span_s, key, each)) for detail, seen in summaries for key, each in seen.items()]
        return told

    # --- put in place -----------------------------------------------------------------------------------------------------
    def _put(self, kept: Sequence[int], told: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
        connection, span_s = self._connection, self._span_s
        starts = kept if span_s == MINUTE else self._starts  # of minutes whose rows are gone, what was made stays
        for low, high in _runs(starts, span_s):
            for table in (usage_rollups, latency_rollups):
                connection.execute(delete(table).where(_spanned(table, span_s, low, high)))
            for table, details in () if span_s == MINUTE else ((usage_summaries, USAGE_DETAILS), (latency_summaries, LATENCY_DETAILS)):
                connection.execute(delete(table).where(table.c.detail.in_(range(len(details))), _spanned(table, span_s, low, high)))
        connection.execute(insert(usage_rollups).from_select(_names(usage_rollups), select(_usage)))
        _insert(connection, latency_rollups, told[latency_rollups.name])
        if span_s != MINUTE:
            connection.execute(insert(usage_summaries).from_select(_names(usage_summaries), select(_usage_summaries)))
            _insert(connection, latency_summaries, told[latency_summaries.name])


def _runs(starts: Sequence[int], span_s: int) -> Iterable[tuple[int, int]]:
    """Spans that follow one another are made at once: (where the first begins, where the last ends). `starts`: in their order."""
    low = None
    for at, start in enumerate(starts):
        if low is None:
            low = start
        if at + 1 == len(starts) or starts[at + 1] != start + span_s:
            yield low, start + span_s
            low = None


def _spanned(table: Table, span_s: int, low: int, high: int) -> ColumnElement[bool]:
    return and_(table.c.span_s == span_s, table.c.start_s >= low, table.c.start_s < high)


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _as_row(span_s: int, key: tuple[Any, ...], each: Observed) -> tuple[Any, ...]:
    """`key`: the start and LATENCY_DIMENSIONS."""
    return span_s, *key, histogram.packed(each.latencies), predictions.packed(each.predictions)


def _insert(connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """`rows` have the table's columns in their order."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        from ledger import postgresql

        postgresql.insert(connection.connection.cursor(), table.name, _names(table), rows, missing=False)
        return
    places = ", ".join("?" * len(table.columns))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(_names(table))}) VALUES ({places})", list(rows))
