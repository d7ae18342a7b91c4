"""What a replay must not come to, for use in CI: `cost>+10%`, `p95_ttft>800ms`, `slo<95%`, `breaches>0`. Pure.

A figure, a comparison (`>`, `>=`, `<`, `<=`) and a value. A value with a sign is a change against what was recorded: in percent of it (`+10%`),
or in the figure's own unit (`+50ms`). Without a sign it is what the replay comes to. What is not known cannot be held to anything: it fails.
"""

import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

_WRITTEN = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*([+-]?)([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(%|ms|s|usd)?\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_UNITS: Mapping[str, Mapping[str, float]] = {  # unit of a figure -> what may be written, and how much of it that is
    "usd": {"": 1.0, "usd": 1.0},
    "ms": {"": 1.0, "ms": 1.0, "s": 1000.0},
    "share": {"": 1.0, "%": 0.01},
    "count": {"": 1.0},
}
DIGITS = 9  # nano-dollars; what lies beyond is a float's own

Told = Mapping[str, Any]  # `Sums.told`


class _Figure(msgspec.Struct, frozen=True):
    """`then` None: nothing was recorded that it could be held against."""

    unit: str
    now: Callable[[Told], float | None]
    then: Callable[[Told], float | None] | None


def _of(part: str, unit: str, now: str, then: str) -> _Figure:
    return _Figure(unit, lambda told: _number(told[part][now]), lambda told: _number(told[part][then]))


def _number(value: Any) -> float | None:
    return None if value is None else float(Decimal(value))


def _breaches(which: str) -> Callable[[Told], float]:
    return lambda told: float(sum(each[which] is not None for each in told["budgets"]))


FIGURES: Mapping[str, _Figure] = {
    "cost": _of("cost", "usd", "replayed_usd", "recorded_usd"),
    "p50_ttft": _of("ttft", "ms", "replayed_p50_ms", "recorded_p50_ms"),
    "p95_ttft": _of("ttft", "ms", "replayed_p95_ms", "recorded_p95_ms"),
    "p50_end": _of("end", "ms", "replayed_p50_ms", "recorded_p50_ms"),
    "p95_end": _of("end", "ms", "replayed_p95_ms", "recorded_p95_ms"),
    "slo": _of("slo", "share", "replayed", "recorded"),
    "failed": _of("failed", "share", "replayed", "recorded"),
    "no_evidence": _Figure("share", lambda told: _number(told["no_evidence"]["share"]), None),
    "breaches": _Figure("count", _breaches("replayed_beyond"), _breaches("recorded_beyond")),
}


class Condition(msgspec.Struct, frozen=True):
    """`sign` "": a value; else a change, of what was recorded where `relative`."""

    text: str
    figure: str
    compare: str
    sign: str
    value: float
    relative: bool

    def fails(self, told: Told) -> str | None:
        """Why the build fails; None: it does not."""
        figure = FIGURES[self.figure]
        now, then = figure.now(told), None if figure.then is None else figure.then(told)
        if now is None or (self.sign and (then is None or (self.relative and not then))):
            return f"{self.text}: not known"
        seen, shown = now, _shown(now, figure.unit)
        if self.sign and then is not None:
            seen = now / then - 1 if self.relative else now - then
            shown = f"{_shown(then, figure.unit)} to {shown}, {seen:+.2%}" if self.relative else f"{_shown(then, figure.unit)} to {shown}"
        return f"{self.text}: {shown}" if _COMPARE[self.compare](round(seen, DIGITS), self.value) else None


def condition(text: str) -> Condition:
    """Raises ValueError, saying what to write."""
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is no condition; write a figure, a comparison and a value, such as cost>+10% or p95_ttft>800ms")
    name, compare, sign, number, unit = found[1], found[2], found[3], float(found[4]), found[5] or ""
    figure = FIGURES.get(name)
    if figure is None:
        raise ValueError(f"{text[:60]!r}: {name!r} is not one of {', '.join(FIGURES)}")
    if sign and figure.then is None:
        raise ValueError(f"{text[:60]!r}: nothing was recorded that {name} could change against; write it without a sign")
    relative = bool(sign) and unit == "%"
    units = _UNITS[figure.unit]
    if not relative and unit not in units:
        raise ValueError(f"{text[:60]!r}: {name} is in {_about(figure.unit)}; a change in percent has a sign, such as {name}{compare}+10%")
    value = round(number * (0.01 if relative else units[unit]), DIGITS)
    return Condition(text.strip(), name, compare, sign, -value if sign == "-" else value, relative)


def _about(unit: str) -> str:
    return {"usd": "US dollars", "ms": "ms or s", "share": "percent", "count": "numbers"}[unit]


def _shown(value: float, unit: str) -> str:
    return {"usd": f"${value:.6f}", "ms": f"{value:.0f} ms", "share": f"{value:.2%}", "count": f"{value:.0f}"}[unit]
