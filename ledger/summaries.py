"""Summaries: an hour's or a day's roll-ups told apart by fewer dimensions, so that a report of everybody adds up as few of them as it can."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Table, case, cast, delete, func, insert, literal, select

from ledger.histogram import Histograms, merge, packed, unpacked
from ledger.row import ENDED_WELL
from ledger.schema import (
    LATENCY_DIMENSIONS,
    USAGE_DIMENSIONS,
    USAGE_MEASURES,
    latency_rollups,
    latency_summaries,
    usage_rollups,
    usage_summaries,
)

# What is told apart, the fewest first: a report takes the first that has all it asks for. A place in these lists is kept in the tables.
USAGE_DETAILS: tuple[tuple[str, ...], ...] = (
    ("organisation", "team"),
    ("model_asked", "target", "model_sent", "policy", "status"),
    ("organisation", "team", "key_id"),
    ("organisation", "team", "model_asked", "target", "model_sent", "policy"),
)
LATENCY_DETAILS: tuple[tuple[str, ...], ...] = (
    ("target", "model_sent", "prompt"),
    ("model_asked", "policy", "prompt"),
    ("team", "prompt"),
    ("model_asked", "target", "model_sent", "policy", "prompt"),
)
NOTHING: dict[str, str | int] = {"prompt": -1}  # in place of a dimension that is not told; else ""


def detail_of(details: Sequence[Sequence[str]], asked: Iterable[str]) -> int | None:
    """Which summary tells these dimensions apart. None: only the roll-ups do."""
    wanted = set(asked)
    return next((at for at, told in enumerate(details) if wanted <= set(told)), None)


def failed(columns: Any) -> ColumnElement[int]:
    """How many of a roll-up's rows did not end well."""
    return case((columns.status.in_(ENDED_WELL), 0), else_=columns.rows)


def summarise(connection: Connection, span_s: int, low: int, high: int) -> None:
    """Makes those of an hour or a day, or of several that follow one another, from their roll-ups."""
    for detail, told in enumerate(USAGE_DETAILS):
        _anew(connection, usage_summaries, (detail, span_s, low, high))
        source = usage_rollups.c
        by = [source[name] for name in told]
        names = [source[name] if name in told else literal("") for name in USAGE_DIMENSIONS]
        measures = [*(source[name] for name in USAGE_MEASURES), failed(source)]
        sums = select(literal(detail), source.span_s, source.start_s, *names, *(cast(func.sum(each), BigInteger) for each in measures))
        sums = sums.where(source.span_s == span_s, source.start_s >= low, source.start_s < high).group_by(source.span_s, source.start_s, *by)
        columns = ["detail", "span_s", "start_s", *USAGE_DIMENSIONS, *USAGE_MEASURES, "failed"]
        connection.execute(insert(usage_summaries).from_select(columns, sums))
    _summarise_latencies(connection, span_s, low, high)


def _summarise_latencies(connection: Connection, span_s: int, low: int, high: int) -> None:
    columns = latency_rollups.c
    query = select(columns.start_s, *(columns[name] for name in LATENCY_DIMENSIONS), columns.counts)
    query = query.where(columns.span_s == span_s, columns.start_s >= low, columns.start_s < high)
    found: dict[tuple[Any, ...], Histograms] = {}
    for start_s, *key, counts in connection.execute(query):
        histograms, dimensions = unpacked(counts), dict(zip(LATENCY_DIMENSIONS, key, strict=True))
        for detail, told in enumerate(LATENCY_DETAILS):
            short = (dimensions[name] if name in told else NOTHING.get(name, "") for name in LATENCY_DIMENSIONS)
            merge(found.setdefault((detail, start_s, *short), {}), histograms)
    for detail in range(len(LATENCY_DETAILS)):
        _anew(connection, latency_summaries, (detail, span_s, low, high))
    names = ("detail", "start_s", *LATENCY_DIMENSIONS)
    rows = [{"span_s": span_s, **dict(zip(names, key, strict=True)), "counts": packed(histograms)} for key, histograms in found.items()]
    if rows:
        connection.execute(insert(latency_summaries), rows)


def _anew(connection: Connection, table: Table, run: tuple[int, int, int, int]) -> None:
    detail, span_s, low, high = run
    columns = table.c
    connection.execute(delete(table).where(columns.detail == detail, columns.span_s == span_s, columns.start_s >= low, columns.start_s < high))
