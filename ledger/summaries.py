"""Summaries: an hour's or a day's roll-ups told apart by fewer dimensions, so that a report of everybody adds up as few of them as it can."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, insert, literal, select

from ledger.adding import sum_of
from ledger.observed import Observed, nothing
from ledger.row import ENDED_WELL
from ledger.schema import LATENCY_DIMENSIONS, USAGE_DIMENSIONS, USAGE_MEASURES

# What is told apart: a report takes the shortest that has all it asks for. A place in these lists is kept in the tables, so they only grow.
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
    ("target", "model_sent"),
    ("team",),
    ("model_asked", "policy"),
)
NOTHING: dict[str, str | int] = {"prompt": -1}  # in place of a dimension that is not told; else ""
Seen = dict[tuple[Any, ...], Observed]  # by start and LATENCY_DIMENSIONS


def detail_of(details: Sequence[Sequence[str]], asked: Iterable[str]) -> int | None:
    """Which summary tells these dimensions apart. None: only the roll-ups do."""
    wanted = set(asked)
    return min((at for at, told in enumerate(details) if wanted <= set(told)), key=lambda at: len(details[at]), default=None)


def failed(columns: Any) -> ColumnElement[int]:
    """How many of a roll-up's rows did not end well."""
    return case((columns.status.in_(ENDED_WELL), 0), else_=columns.rows)


def summarise_usage(connection: Connection, rollups: Table, summaries: Table) -> None:
    """Of all roll-ups in a table, into another."""
    source = rollups.c
    measures = [*(sum_of(name, source[name]) for name in USAGE_MEASURES), sum_of("failed", failed(source))]
    columns = ["detail", "span_s", "start_s", *USAGE_DIMENSIONS, *USAGE_MEASURES, "failed"]
    for detail, told in enumerate(USAGE_DETAILS):
        names = [source[name] if name in told else literal("") for name in USAGE_DIMENSIONS]
        sums = select(literal(detail), source.span_s, source.start_s, *names, *measures)
        sums = sums.group_by(source.span_s, source.start_s, *(source[name] for name in told))
        connection.execute(insert(summaries).from_select(columns, sums))


def summarise_seen(seen: Seen) -> Mapping[int, Seen]:
    """By detail: each from the shortest other that tells enough, so that what is told most finely is gone through as seldom as can be."""
    found: dict[int, Seen] = {}
    for detail in sorted(range(len(LATENCY_DETAILS)), key=lambda at: -len(LATENCY_DETAILS[at])):
        told = LATENCY_DETAILS[detail]
        known = [at for at in found if set(told) <= set(LATENCY_DETAILS[at])]
        source = found[min(known, key=lambda at: len(LATENCY_DETAILS[at]))] if known else seen
        kept = [name in told for name in LATENCY_DIMENSIONS]
        blank = [NOTHING.get(name, "") for name in LATENCY_DIMENSIONS]
        mine = found[detail] = {}
        for (start_s, *dimensions), each in source.items():
            key = (start_s, *(value if keep else none for value, keep, none in zip(dimensions, kept, blank, strict=True)))
            mine.setdefault(key, nothing()).merge(each)
    return found
