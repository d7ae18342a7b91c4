"""What was predicted against what came: how often the SLO was met for each predicted probability, coverage of the 95th percentiles, and the
errors of seconds, tokens and cost: from the roll-ups, and from the rows of the moments that have none yet."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import msgspec
from sqlalchemy import Engine, and_, false, or_, select

from ledger.observed import observed
from ledger.predictions import PREDICTED, RANGES, Predictions, Sums, merge, unpacked
from ledger.schema import LATENCY_DIMENSIONS, attempts, latency_rollups, latency_summaries
from ledger.summaries import LATENCY_DETAILS, detail_of
from ledger.window import TIMES, Window, coarsest, dimensions_of, group_of, matching, parts, raw, sources, told_by

Z = 1.96  # of a normal distribution, 95 % is within so many standard deviations
GROUPS = ("target", "model", "provider", "model_sent", "policy", "p_slo", *TIMES)


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


def calibration(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Calibration]:
    """The largest group first; by `p_slo` and by time, in their order. Raises KeyError for an unknown one (see GROUPS), or filter.

    What is compared with what: ledger/predictions.py. rollups.roll_up makes anew what is stale, not this. Roll-ups do not tell keys and statuses
    apart: filtered by these, every row is read.
    """
    if unknown := [name for name in groups if name not in GROUPS]:
        raise KeyError(unknown[0])
    names = [name for name in groups if name != "p_slo"]
    found: dict[tuple[Any, ...], Sums] = {}
    for group, seen in _predictions(engine, window, names, now_s).items():
        for at, sums in seen.items():
            told = iter(group)
            key = tuple(at if name == "p_slo" else next(told) for name in groups)
            found[key] = [a + b for a, b in zip(found[key], sums, strict=True)] if key in found else sums
    ordered = [at for at, name in enumerate(groups) if name == "p_slo" or name in TIMES]
    made = [_calibration(group, *sums) for group, sums in found.items()]
    return [_named(each, groups) for each in sorted(made, key=lambda each: ([_place(each.group[at]) for at in ordered], -each.attempts, each.group))]


def _predictions(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> dict[tuple[Any, ...], Predictions]:
    chosen, rest = parts(window, now_s, coarsest(groups))
    if not dimensions_of(window.filters) <= set(LATENCY_DIMENSIONS):
        chosen, rest = [], [(window.from_us, window.to_us)]
    detail = None if "team" in window.filters else detail_of(LATENCY_DETAILS, dimensions_of((*groups, *window.filters)))
    found: dict[tuple[Any, ...], Predictions] = {}
    with engine.connect() as connection:
        for table, within in sources(chosen, latency_rollups, latency_summaries, detail):
            query = select(table.c.predictions, *(group_of(name, table.c) for name in groups))
            query = query.where(within, table.c.predictions.is_not(None), *matching(window, table.c))
            for predictions, *group in connection.execute(query):
                merge(found.setdefault(tuple(group), {}), unpacked(predictions))
        tell = told_by(groups)
        within = and_(or_(false(), *raw(rest)), PREDICTED, *matching(window, attempts.c))
        for dimensions, at_us, each in observed(connection, within):
            merge(found.setdefault(tell(dimensions, at_us), {}), each.predictions)
    return found


def _place(value: int) -> int:
    return len(RANGES) if value < 0 else value


def _named(found: Calibration, groups: Sequence[str]) -> Calibration:
    shown = ((RANGES[value] if value >= 0 else None) if name == "p_slo" else value for name, value in zip(groups, found.group, strict=True))
    return msgspec.structs.replace(found, group=tuple(shown))


def _calibration(group: tuple[Any, ...], count: float, *sums: float) -> Calibration:
    slo, ttft, end, errors = sums[:5], sums[5:7], sums[7:9], sums[9:]
    end_ms, output_tokens, cost_usd = (_divided(errors[4 * n : 4 * n + 4], unit) for n, unit in enumerate((1e3, 1, 1e9)))
    return Calibration(group, int(count), _point(*slo), _share(*ttft), _share(*end), end_ms, output_tokens, cost_usd)


def _point(n: float, unjudged: float, predicted: float, met: float, squared: float) -> Reliability:
    if not n:
        return Reliability(0, int(unjudged), None, None, None, None, None)
    share = met / n
    middle, spread = (share + Z * Z / 2 / n) / (1 + Z * Z / n), Z / (1 + Z * Z / n) * sqrt(share * (1 - share) / n + Z * Z / 4 / n / n)
    return Reliability(int(n), int(unjudged), predicted / n, share, max(0.0, middle - spread), min(1.0, middle + spread), squared / n)


def _share(n: float, within: float) -> Coverage:
    return Coverage(int(n), within / n if n else None)


def _divided(sums: Sequence[float], unit: float) -> Error:
    """`unit`: how many of the row's units the report's has."""
    n, predicted, actual, absolute = sums
    if not n:
        return Error(0, None, None, None, None)
    shares = (absolute / actual, (predicted - actual) / actual) if actual else (None, None)
    return Error(int(n), predicted / n / unit, actual / n / unit, *shares)


NOTHING = _calibration((), 0, *([0.0] * 21))
