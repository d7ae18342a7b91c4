"""Sums of money in SQL that no row can make fail. A sum of 64 bits that overflows is an error of SQLite's and PostgreSQL's, for whoever asks."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, case, cast, func

MOST_ADDED_NUSD = 1 << 61  # some 2.3 billion dollars: a sum beyond it is told as that
_PART = 1 << 31


def added_nusd(values: ColumnElement[Any]) -> ColumnElement[int]:
    """The sum of nano-dollars, 0 or more each; of nothing NULL. In two parts, each of numbers that are small enough."""
    high, low = func.sum(values // _PART), func.sum(values % _PART)
    return cast(case((high >= MOST_ADDED_NUSD // _PART, MOST_ADDED_NUSD), else_=high * _PART + low), BigInteger)


def sum_of(measure: str, values: ColumnElement[Any]) -> ColumnElement[int]:
    """Of one of the measures of reports and roll-ups, by its name."""
    return added_nusd(values) if measure.endswith("_nusd") else cast(func.sum(values), BigInteger)
