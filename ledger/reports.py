"""The reports by name: what each may be grouped by, and its lines as plain values, alike for the API and the command line."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine

from ledger import calibration as predictions
from ledger import latency as latencies
from ledger.observed import INPUTS, OUTPUTS
from ledger.retention import is_whole
from ledger.rollups import roll_up
from ledger.schema import LATENCY_DIMENSIONS, USAGE_CLASSES
from ledger.summed import NO_SUMS, Sums, summed
from ledger.units import usd
from ledger.window import GROUPS, TIMES, Window, dimensions_of, iso_s

Line = dict[str, Any]
ROLL_UP_S = 5.0  # how long a report waits for spans that are stale
NUSD_PER_MTOK_USD = 1_000


class Report(msgspec.Struct, frozen=True):
    """`lines(engine, window, groups, now_s)` raises KeyError for a filter that it cannot heed; `like`: one, of nothing, without its groups.
    `most`: how many groups it takes at once."""

    groups: tuple[str, ...]
    default: tuple[str, ...]
    lines: Callable[[Engine, Window, Sequence[str], float], list[Line]]
    like: Line
    most: int = 4


def report(engine: Engine, name: str, window: Window, groups: Sequence[str], now_s: float, limit_s: float = ROLL_UP_S) -> tuple[list[Line], bool]:
    """The lines of one report, and whether they are of all rows: roll-ups that take too long to make are left for later, and what was deleted may
    have been a part of an hour. Raises KeyError."""
    whole = roll_up(engine, now_s, limit_s)
    return REPORTS[name].lines(engine, window, groups, now_s), whole and all_kept(engine, name, window, groups)


def all_kept(engine: Engine, name: str, window: Window, groups: Sequence[str]) -> bool:
    """Whether no row that this report would need was deleted. Raises SQLAlchemyError, KeyError for a filter that does not exist."""
    by_rows = name == "calibration" and not dimensions_of(window.filters) <= set(LATENCY_DIMENSIONS)
    return is_whole(engine, window, by_rows or "minute" in groups)


def unpriced(engine: Engine, window: Window, now_s: float) -> list[Line]:
    """The targets with attempts whose cost is not known."""
    found = [sums for sums in summed(engine, window, ("target",), now_s) if sums.unpriced]
    return [{"target": sums.group[0], "attempts": sums.unpriced} for sums in sorted(found, key=lambda sums: -sums.unpriced)]


def _named(groups: Sequence[str], values: Sequence[Any]) -> Line:
    return {name: iso_s(value) if name in TIMES else value for name, value in zip(groups, values, strict=True)}


def _of_sums(line: Callable[[Sums], Line]) -> Callable[[Engine, Window, Sequence[str], float], list[Line]]:
    def lines(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Line]:
        return [_named(groups, sums.group) | told for sums in summed(engine, window, groups, now_s) if (told := line(sums))]

    return lines


def tokens_of(sums: Sums, names: Sequence[str]) -> int | None:
    known = [count for name in names if (count := getattr(sums, name)) is not None]
    return sum(known) if known else None


def _usage(sums: Sums) -> Line:
    counts = {"requests": sums.requests, "attempts": sums.attempts, "failed": sums.failed, "estimated": sums.estimated}
    totals = {"input_tokens": tokens_of(sums, INPUTS), "output_tokens": tokens_of(sums, OUTPUTS)}
    return counts | totals | {name: getattr(sums, name) for name in USAGE_CLASSES}


def _cost(sums: Sums) -> Line:
    """`usd_per_mtok`: of all tokens, where every attempt's cost is known."""
    tokens = (tokens_of(sums, INPUTS) or 0) + (tokens_of(sums, OUTPUTS) or 0)
    known = [nusd for nusd in (sums.cost_nusd, sums.engine_nusd) if nusd is not None]
    paid = sum(known) if known and not sums.unpriced else None
    return {
        "requests": sums.requests,
        "cost_usd": usd(sums.cost_nusd),
        "absorbed_usd": usd(sums.absorbed_nusd),
        "saved_usd": usd(sums.saved_nusd),
        "engine_usd": usd(sums.engine_nusd),
        "unpriced": sums.unpriced,
        "usd_per_mtok": round(paid / tokens / NUSD_PER_MTOK_USD, 6) if tokens and paid is not None else None,
    }


def _slo(sums: Sums) -> Line:
    """Nothing of a group to which nothing was promised."""
    judged = sums.slo_met + sums.slo_missed
    return {"requests": judged, "met": sums.slo_met, "missed": sums.slo_missed, "attained": round(sums.slo_met / judged, 6)} if judged else {}


def _latency(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Line]:
    return [_named(groups, each.group) | _plain(each) for each in latencies.latency(engine, window, groups, now_s)]


def _calibration(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Line]:
    return [_named(groups, each.group) | _plain(each) for each in predictions.calibration(engine, window, groups, now_s)]


def _plain(found: latencies.Latency | predictions.Calibration) -> Line:
    """Without its group."""
    return {name: value for name, value in msgspec.to_builtins(found).items() if name != "group"}


REPORTS: Mapping[str, Report] = {
    "usage": Report(GROUPS, ("model",), _of_sums(_usage), _usage(NO_SUMS)),
    "cost": Report(GROUPS, ("target",), _of_sums(_cost), _cost(NO_SUMS)),
    "slo": Report(GROUPS, ("policy",), _of_sums(_slo), dict.fromkeys(("requests", "met", "missed", "attained"))),
    "latency": Report(latencies.GROUPS, ("target",), _latency, _plain(latencies.NOTHING)),
    "calibration": Report(predictions.GROUPS, ("target",), _calibration, _plain(predictions.NOTHING)),
}
