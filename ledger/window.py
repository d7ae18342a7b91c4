"""What part of the ledger a report is of: a time, a filter, groups; and which roll-ups and rows together hold exactly that."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, case, or_
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from ledger.rollups import DAY, HOUR, MINUTE, SPANS, US
from ledger.schema import LATENCY_DIMENSIONS, attempts

Columns = ReadOnlyColumnCollection[str, ColumnElement[Any]]  # of rows or of roll-ups: both have the same names
FOR_EVER_US = 1 << 62
TIMES = {"minute": MINUTE, "hour": HOUR, "day": DAY}
NAMES = {"organisation": "organisation", "team": "team", "key": "key_id", "model": "model_asked", "provider": "target", "policy": "policy"}
NAMES |= {"model_sent": "model_sent", "status": "status"}
GROUPS = (*NAMES, "target", *TIMES)


class Window(msgspec.Struct, frozen=True):
    """Attempts that began from `from_us` up to `to_us` (Unix time), of those that `filters` leaves: group -> the only value, or all of them."""

    from_us: int
    to_us: int
    filters: Mapping[str, str | tuple[str, ...]] = {}


def label(columns: Columns) -> ColumnElement[str]:
    """A target as it is shown elsewhere: provider/model; an engine, whose model bears its own name, alone."""
    alone = or_(columns.target == columns.model_sent, columns.model_sent == "")
    return case((alone, columns.target), else_=columns.target + "/" + columns.model_sent)


def label_of(provider: str, model_sent: str) -> str:
    """The same of one target."""
    return provider if model_sent in (provider, "") else f"{provider}/{model_sent}"


def group_of(name: str, columns: Columns) -> ColumnElement[Any]:
    """Raises KeyError for a group that does not exist."""
    if name == "target":
        return label(columns)
    if name in TIMES:
        at_s = columns.started_at_us // US if "started_at_us" in columns else columns.start_s
        return at_s - at_s % TIMES[name]
    return columns[NAMES[name]]


def told_by(groups: Sequence[str]) -> Callable[[Sequence[Any], int], tuple[Any, ...]]:
    """What `group_of` says of a roll-up, said of a row: by its LATENCY_DIMENSIONS and when it began, in microseconds."""
    at = {name: place for place, name in enumerate(LATENCY_DIMENSIONS)}

    def told(name: str, dimensions: Sequence[Any], at_us: int) -> Any:
        if name in TIMES:
            return at_us // US // TIMES[name] * TIMES[name]
        if name != "target":
            return dimensions[at[NAMES.get(name, name)]]
        return label_of(dimensions[at["target"]], dimensions[at["model_sent"]])

    return lambda dimensions, at_us: tuple(told(name, dimensions, at_us) for name in groups)


def matching(window: Window, columns: Columns) -> list[ColumnElement[bool]]:
    groups = ((group_of(name, columns), value) for name, value in window.filters.items())
    return [group.in_(value) if isinstance(value, tuple) else group == value for group, value in groups]


def coarsest(groups: Iterable[str]) -> int:
    """The longest span whose roll-ups can be told apart by these groups."""
    return min((TIMES[name] for name in groups if name in TIMES), default=DAY)


def parts(window: Window, now_s: float, most_span_s: int) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]]]:
    """(span_s, from_s, to_s) of the roll-ups to add up, and (from_us, to_us) of the rows to add: the minute that is not over, and ragged ends."""
    start = -(-window.from_us // (MINUTE * US)) * MINUTE
    end = min(window.to_us // (MINUTE * US), int(now_s) // MINUTE) * MINUTE
    if end <= start:
        return [], [(window.from_us, window.to_us)] if window.from_us < window.to_us else []
    ragged = [(window.from_us, start * US), (end * US, window.to_us)]
    return list(_spans(start, end, [span for span in reversed(SPANS) if span <= most_span_s])), [each for each in ragged if each[0] < each[1]]


def _spans(start: int, end: int, spans: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    if start >= end:
        return
    span, *finer = spans
    low, high = -(-start // span) * span, end // span * span
    if low >= high:
        if finer:
            yield from _spans(start, end, finer)
        return
    yield from _spans(start, low, finer or spans) if start < low else ()
    yield span, low, high
    yield from _spans(high, end, finer or spans) if high < end else ()


def sources(
    chosen: Iterable[tuple[int, int, int]], rollups: Table, summaries: Table, detail: int | None
) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """For each (span_s, from_s, to_s) the table that tells it, and its part: a statement of its own each, since an OR of them keeps SQLite from
    looking them up. `detail`: of the summary that tells enough of an hour or a day; None: none does."""
    for span, low, high in chosen:
        table = rollups if detail is None or span == MINUTE else summaries
        columns = table.c
        one = () if table is rollups else (columns.detail == detail,)
        yield table, and_(*one, columns.span_s == span, columns.start_s >= low, columns.start_s < high)


def dimensions_of(names: Iterable[str]) -> set[str]:
    """The columns that these groups or filters are told by."""
    told = {name: (NAMES.get(name, name),) for name in NAMES} | {"target": ("target", "model_sent"), "prompt": ("prompt",)}
    return {column for name in names if name not in TIMES for column in told[name]}


def raw(chosen: Iterable[tuple[int, int]]) -> list[ColumnElement[bool]]:
    """The part of `attempts` of each (from_us, to_us)."""
    at = attempts.c.started_at_us
    return [and_(at >= low, at < high) for low, high in chosen]


def iso_s(at_s: int) -> str:
    """A moment of Unix time as it is written in reports: UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
