"""What was predicted against what came: how often the SLO was met for each predicted probability, coverage of the 95th percentiles, and the
errors of seconds, tokens and cost. SQL sums, Python divides."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, and_, case, func, or_, select

from ledger.schema import attempts
from ledger.window import TIMES, Window, group_of, matching

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the buckets of probabilities; finer where most predictions are
BUCKETS = tuple(f"{low:g}-{high:g}" for low, high in zip((0.0, *EDGES), (*EDGES, 1.0), strict=True))
Z = 1.96  # of a normal distribution, 95 % is within so many standard deviations

_ROW = attempts.c
GROUPS = ("target", "model", "provider", "model_sent", "policy", "p_slo", *TIMES)
_OUTPUT = _ROW.output_visible + func.coalesce(_ROW.reasoning, 0) + func.coalesce(_ROW.audio_output, 0)


class Reliability(msgspec.Struct, frozen=True):
    """A point of a reliability plot. Over `n` judged attempts: the mean probability that was predicted for the SLO to be met, and how often it was.

    `low` to `high`: where the true frequency is, with 95 % confidence (Wilson). `brier`: the mean squared error of the probabilities; 0 is
    perfect. `unjudged`: attempts with a probability of which it is not known whether the SLO would have been met.
    """

    n: int
    unjudged: int
    predicted: float | None
    observed: float | None
    low: float | None
    high: float | None
    brier: float | None


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

    group: tuple[Any, ...]
    attempts: int
    slo: Reliability
    ttft: Coverage
    end: Coverage
    end_ms: Error
    output_tokens: Error
    cost_usd: Error


def calibration(engine: Engine, window: Window, groups: Sequence[str]) -> list[Calibration]:
    """The largest group first; by `p_slo` and by time, in their order. Raises KeyError for an unknown one (see GROUPS), or filter.

    The SLO is judged on a request's first attempt, from which its prediction is: met or missed as the request was where it was also the last,
    missed where it failed, else not known. The first token is compared for streamed answers, where it can be seen. An attempt that was
    abandoned, or whose client left, counts as later than its 95th percentile when that had passed by then, and else not at all. Errors are of
    whole answers; those of tokens and cost, where the provider told its usage.
    """
    told = _ROW.usage_source == "provider"
    sums = [
        *_reliability(),
        *_coverage(_ROW.predicted_ttft_us, _ROW.first_token_us, and_(_ROW.stream, _ROW.first_token_us.is_not(None)), _ROW.stream),
        *_coverage(_ROW.predicted_end_p95_us, _ROW.end_us, _ROW.status == "ok", _ROW.status != "ok"),
        *_error(_ROW.predicted_end_us, _ROW.end_us),
        *_error(_ROW.predicted_output_tokens, _OUTPUT, told),
        *_error(_ROW.predicted_cost_nusd, _ROW.cost_nusd, told),
    ]
    within = (_ROW.started_at_us >= window.from_us, _ROW.started_at_us < window.to_us, *matching(window, _ROW))
    predicted = or_(*(column.is_not(None) for column in _ROW if column.name.startswith("predicted_")))
    by = [f"g_{name}" for name in groups]  # by its name: PostgreSQL does not take two bound expressions for the same one
    query = select(*(_group(name).label(named) for name, named in zip(groups, by, strict=True)), func.count(), *sums)
    query = query.where(*within, predicted).group_by(*by)
    with engine.connect() as connection:
        found = [_calibration(tuple(row[: len(by)]), *row[len(by) :]) for row in connection.execute(query)]
    ordered = [at for at, name in enumerate(groups) if name == "p_slo" or name in TIMES]
    known = [each for each in found if each.attempts]  # without groups there is always one, of nothing
    return [_named(each, groups) for each in sorted(known, key=lambda each: ([_place(each.group[at]) for at in ordered], -each.attempts, each.group))]


def _group(name: str) -> ColumnElement[Any]:
    if name not in GROUPS:
        raise KeyError(name)
    if name != "p_slo":
        return group_of(name, _ROW)
    p = _ROW.predicted_p_slo
    return case((p.is_(None), -1), *((p < edge, at) for at, edge in enumerate(EDGES)), else_=len(EDGES))


def _place(value: int) -> int:
    return len(BUCKETS) if value < 0 else value


def _named(found: Calibration, groups: Sequence[str]) -> Calibration:
    shown = ((BUCKETS[value] if value >= 0 else None) if name == "p_slo" else value for name, value in zip(groups, found.group, strict=True))
    return msgspec.structs.replace(found, group=tuple(shown))


def _reliability() -> tuple[ColumnElement[Any], ...]:
    """Judged attempts, those not judged, and over the judged the sums of the probability, of what came (1 or 0), and of the squared error."""
    p, first = _ROW.predicted_p_slo, and_(_ROW.predicted_p_slo.is_not(None), _ROW.attempt == 1)
    met = case((_ROW.slo_met.is_(True), 1.0), (or_(_ROW.slo_met.is_(False), _ROW.status == "failed"), 0.0))
    judged, unknown = and_(first, met.is_not(None)), and_(first, met.is_(None))
    counts = (func.sum(case((each, 1), else_=0)) for each in (judged, unknown))
    return (*counts, *(func.sum(case((judged, value))) for value in (p, met, (p - met) * (p - met))))


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


def _calibration(group: tuple[Any, ...], count: int, *sums: Any) -> Calibration:
    slo, ttft, end, errors = sums[:5], sums[5:7], sums[7:9], sums[9:]
    end_ms, output_tokens, cost_usd = (_divided(errors[4 * n : 4 * n + 4], unit) for n, unit in enumerate((1e3, 1, 1e9)))
    return Calibration(group, count, _point(*slo), _share(*ttft), _share(*end), end_ms, output_tokens, cost_usd)


def _point(n: int, unjudged: int, predicted: float, met: float, squared: float) -> Reliability:
    if not n:
        return Reliability(0, unjudged or 0, None, None, None, None, None)
    share = met / n
    middle, spread = (share + Z * Z / 2 / n) / (1 + Z * Z / n), Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / 4 / n / n)
    return Reliability(n, unjudged, predicted / n, share, max(0.0, middle - spread), min(1.0, middle + spread), squared / n)


def _share(n: int, within: int) -> Coverage:
    return Coverage(n, within / n if n else None)


def _divided(sums: Sequence[Any], unit: float) -> Error:
    """`unit`: how many of the row's units the report's has."""
    n, predicted, actual, absolute = sums
    if not n:
        return Error(0, None, None, None, None)
    shares = (absolute / actual, (predicted - actual) / actual) if actual else (None, None)
    return Error(n, predicted / n / unit, actual / n / unit, *shares)
