"""At which volume an owned engine is cheaper than a managed target, for the traffic that there really was. Pure but for the sums it asks for.

An engine costs by the hour, busy or not. What it can do is what it did in its busiest minute, all teams together: a lower bound. A managed target
costs what its tokens cost, cached ones and all. Tokens of input and output count alike, as they came. What is projected is the straight line
through the whole days of the time, thirty days on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine

from ledger.engine_time import Recent, recent
from ledger.engine_time import usd_per_hour as known_usd_per_hour
from ledger.observed import INPUTS, OUTPUTS
from ledger.reports import tokens_of
from ledger.rollups import DAY, US
from ledger.summed import Sums, summed
from ledger.trend import AHEAD, Trend, trend
from ledger.window import Window

DAY_H = 24.0
NUSD_PER_USD = 1e9


class Work(msgspec.Struct, frozen=True):
    """What an engine did in a time. `most_per_s`: tokens, in its busiest minute."""

    tokens: int
    most_per_s: float


class BreakEven(msgspec.Struct, frozen=True):
    """One engine against one managed target. None: not known.

    `utilisation`: of what the engine can do, now and where it begins to be cheaper; above 1: it never is. `traffic`: what this traffic, the
    engine's and all targets', came to a day; `cheaper_with_all` were it all the engine's. `projected_…`: the same thirty days from now if it
    goes on as in the time's whole days, of which there must be three; `breakeven_in_days`: until the engine's own volume is enough, 0 where it
    is; None: not within a year, or never. `recent`: what the engine's tokens really cost; None in a report of one team, for its hours are
    everybody's.
    """

    engine: str
    target: str
    usd_per_hour: float | None
    engine_usd_per_mtok: float | None
    target_usd_per_mtok: float
    utilisation: float | None
    breakeven_utilisation: float | None
    mtok_per_day: float
    breakeven_mtok_per_day: float | None
    traffic_mtok_per_day: float
    cheaper_now: bool | None
    cheaper_with_all: bool | None
    projected_mtok_per_day: float | None = None
    projected_traffic_mtok_per_day: float | None = None
    cheaper_projected: bool | None = None
    cheaper_with_all_projected: bool | None = None
    breakeven_in_days: float | None = None
    recent: Recent | None = None


def breakeven(engine: Engine, window: Window, usd_per_hour: Mapping[str, float], now_s: float) -> list[BreakEven]:
    """`usd_per_hour`: by engine, instead of what the configuration said then; "" is any other.

    Engines that the window's traffic did not reach are left out.
    """
    found = summed(engine, window, ("provider", "model_sent", "target"), now_s)
    owned = {sums.group[2]: _tokens(sums) for sums in found if sums.group[0] == sums.group[1]}
    managed = {sums.group[2]: sums for sums in found if sums.group[0] != sums.group[1] and sums.cost_nusd and not sums.unpriced and _tokens(sums)}
    days = max(1e-9, (min(window.to_us / 1e6, now_s) - window.from_us / 1e6) / 86_400)
    all_tokens = sum(map(_tokens, found))
    lines = []
    known = known_usd_per_hour(engine, window)
    goes, all_go = _trends(engine, window, now_s) if owned and managed else ({}, None)
    costs = {} if "team" in window.filters else recent(engine, min(window.to_us, int(now_s * US)), now_s)
    for name, tokens in owned.items():
        work = Work(tokens, _most_per_s(engine, window, name, now_s))
        hourly = usd_per_hour.get(name, usd_per_hour.get("", known.get(name)))
        found_now = (against(name, work, hourly, label, _usd_per_mtok(sums), (days, all_tokens)) for label, sums in managed.items())
        lines += [msgspec.structs.replace(projected(each, work, goes.get(name), all_go), recent=costs.get(name)) for each in found_now]
    return lines


def projected(found: BreakEven, work: Work, own: Trend | None, everything: Trend | None) -> BreakEven:
    """With what will be, if the engine's volume and all traffic's go on so."""
    if own is None or everything is None:
        return found
    most_per_day = work.most_per_s * DAY / 1e6
    of_engine, of_all, needed = min(own.after(AHEAD), max(most_per_day, own.level)), everything.after(AHEAD), found.breakeven_mtok_per_day
    told = msgspec.structs.replace(found, projected_mtok_per_day=round(of_engine, 6), projected_traffic_mtok_per_day=round(of_all, 6))
    if needed is None:
        return told
    days = own.reaches(needed) if needed <= max(most_per_day, own.level) else None
    return msgspec.structs.replace(
        told,
        cheaper_projected=of_engine >= needed,
        cheaper_with_all_projected=needed <= of_all <= most_per_day,
        breakeven_in_days=None if days is None else round(days, 1),
    )


def _trends(engine: Engine, window: Window, now_s: float) -> tuple[dict[str, Trend | None], Trend | None]:
    """Of each engine's and of all tokens in the whole days of UTC, from the first that had any on; millions a day."""
    first, last = -(-window.from_us // (DAY * US)) * DAY, min(window.to_us // US, int(now_s)) // DAY * DAY
    found = summed(engine, Window(first * US, last * US, window.filters), ("day", "provider", "model_sent"), now_s) if first < last else []
    if not found:
        return {}, None
    starts = range(min(sums.group[0] for sums in found), last, DAY)
    per_day: dict[str, dict[int, float]] = {}
    for sums in found:
        day, provider, model = sums.group
        for name in ("", provider) if provider == model else ("",):
            days = per_day.setdefault(name, {})
            days[day] = days.get(day, 0.0) + _tokens(sums) / 1e6
    trends = {name: trend([days.get(start, 0.0) for start in starts]) for name, days in per_day.items()}
    return trends, trends[""]


def against(name: str, work: Work, usd_per_hour: float | None, target: str, usd_per_mtok: float, traffic: tuple[float, int]) -> BreakEven:
    """`traffic`: over how many days, and how many tokens there were in all."""
    days, all_tokens = traffic
    per_day, all_per_day = work.tokens / days / 1e6, all_tokens / days / 1e6
    most_per_day = work.most_per_s * 86_400 / 1e6
    needed = None if usd_per_hour is None else usd_per_hour * DAY_H / usd_per_mtok
    return BreakEven(
        engine=name,
        target=target,
        usd_per_hour=usd_per_hour,
        engine_usd_per_mtok=None if usd_per_hour is None or not work.tokens else round(usd_per_hour * DAY_H / per_day, 6),
        target_usd_per_mtok=round(usd_per_mtok, 6),
        utilisation=round(per_day / most_per_day, 6) if most_per_day else None,
        breakeven_utilisation=None if needed is None or not most_per_day else round(needed / most_per_day, 6),
        mtok_per_day=round(per_day, 6),
        breakeven_mtok_per_day=None if needed is None else round(needed, 6),
        traffic_mtok_per_day=round(all_per_day, 6),
        cheaper_now=None if needed is None else per_day >= needed,
        cheaper_with_all=None if needed is None else needed <= all_per_day <= most_per_day,
    )


def _most_per_s(engine: Engine, window: Window, name: str, now_s: float) -> float:
    """Of all teams, for it is one machine."""
    everybody = Window(window.from_us, window.to_us, {"provider": name})
    return max((_tokens(sums) / 60 for sums in summed(engine, everybody, ("minute",), now_s)), default=0.0)


def _tokens(sums: Sums) -> int:
    return (tokens_of(sums, INPUTS) or 0) + (tokens_of(sums, OUTPUTS) or 0)


def _usd_per_mtok(sums: Sums) -> float:
    return (sums.cost_nusd or 0) / NUSD_PER_USD / _tokens(sums) * 1e6


def as_lines(found: Iterable[BreakEven]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(each) for each in found]
