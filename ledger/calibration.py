"""What was predicted against what came: coverage of the 95th percentiles, and the errors of seconds, tokens and cost. SQL sums, Python divides."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, case, func, or_, select

from ledger.schema import attempts
from ledger.window import FOR_EVER_US, label

_ROW = attempts.c
GROUPS: dict[str, ColumnElement[str]] = {"target": label(_ROW), "model": _ROW.model_asked}
_OUTPUT = _ROW.output_visible + func.coalesce(_ROW.reasoning, 0) + func.coalesce(_ROW.audio_output, 0)


class Coverage(msgspec.Struct, frozen=True):
    """`within_p95`: the share of `n` attempts that were no later than their own predicted 95th percentile. 0.95 is right; more: too careful."""

    n: int
    within_p95: float | None


class Error(msgspec.Struct, frozen=True):
    """Means over `n` whole answers. `absolute_share`: the mean absolute error as a share of the mean that came; `bias_share`: the same of
    predicted less actual, above 0 where too much was predicted. None: there was nothing to divide by."""

    n: int
    predicted: float | None
    actual: float | None
    absolute_share: float | None
    bias_share: float | None


class Calibration(msgspec.Struct, frozen=True):
    """One group. `attempts`: those of which anything was predicted."""

    group: str
    attempts: int
    ttft: Coverage
    end: Coverage
    end_ms: Error
    output_tokens: Error
    cost_usd: Error


def calibration(engine: Engine, since_us: int, by: str, team: str | None = None, to_us: int = FOR_EVER_US) -> list[Calibration]:
    """Of the attempts from `since_us` up to `to_us` (Unix time), the largest group first. Raises KeyError for an unknown `by` (see GROUPS).

    The first token is compared for streamed answers, where it can be seen. An attempt that was abandoned, or whose client left, counts as
    later than its 95th percentile when that had passed by then, and else not at all. Errors are of whole answers; those of tokens and cost,
    where the provider told its usage.
    """
    group, told = GROUPS[by], _ROW.usage_source == "provider"
    sums = [
        *_coverage(_ROW.predicted_ttft_us, _ROW.first_token_us, and_(_ROW.stream, _ROW.first_token_us.is_not(None)), _ROW.stream),
        *_coverage(_ROW.predicted_end_p95_us, _ROW.end_us, _ROW.status == "ok", _ROW.status != "ok"),
        *_error(_ROW.predicted_end_us, _ROW.end_us),
        *_error(_ROW.predicted_output_tokens, _OUTPUT, told),
        *_error(_ROW.predicted_cost_nusd, _ROW.cost_nusd, told),
    ]
    predicted = or_(*(column.is_not(None) for column in _ROW if column.name.startswith("predicted_")))
    query = (
        select(group.label("named"), func.count(), *sums)
        .where(_ROW.started_at_us >= since_us, _ROW.started_at_us < to_us, predicted)
        .group_by("named")  # by its name: PostgreSQL does not take two bound expressions for the same one
        .order_by(func.count().desc(), "named")
    )
    if team is not None:
        query = query.where(_ROW.team == team)
    with engine.connect() as connection:
        return [_calibration(*found) for found in connection.execute(query)]


def _coverage(p95: Any, actual: Any, came: ColumnElement[bool], may_have_been_late: ColumnElement[bool]) -> tuple[ColumnElement[int], ...]:
    """How many attempts there were to compare, and how many of them were in time."""
    came = and_(came, actual.is_not(None), p95.is_not(None))
    late = and_(may_have_been_late, _ROW.status.in_(("abandoned", "client_closed")), _ROW.end_us > p95)
    return func.sum(case((or_(came, late), 1), else_=0)), func.sum(case((and_(came, actual <= p95), 1), else_=0))


def _error(predicted: Any, actual: Any, *known: ColumnElement[bool]) -> tuple[ColumnElement[Any], ...]:
    """The number of whole answers to compare, and over them the sums of the predicted, the actual, and the absolute difference."""
    both = and_(_ROW.status == "ok", predicted.is_not(None), actual.is_not(None), *known)
    return (
        func.sum(case((both, 1), else_=0)),
        *(func.sum(case((both, 1.0 * value))) for value in (predicted, actual, func.abs(predicted - actual))),
    )


def _calibration(group: str, count: int, *sums: Any) -> Calibration:
    ttft, end, errors = sums[:2], sums[2:4], sums[4:]
    end_ms, output_tokens, cost_usd = (_divided(errors[4 * n : 4 * n + 4], unit) for n, unit in enumerate((1e3, 1, 1e9)))
    return Calibration(group, count, _share(*ttft), _share(*end), end_ms, output_tokens, cost_usd)


def _share(n: int, within: int) -> Coverage:
    return Coverage(n, within / n if n else None)


def _divided(sums: Sequence[Any], unit: float) -> Error:
    """`unit`: how many of the row's units the report's has."""
    n, predicted, actual, absolute = sums
    if not n:
        return Error(0, None, None, None, None)
    shares = (absolute / actual, (predicted - actual) / actual) if actual else (None, None)
    return Error(n, predicted / n / unit, actual / n / unit, *shares)
