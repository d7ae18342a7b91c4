"""At which volume an owned engine is cheaper than a managed target, for the traffic that there really was. Pure but for the sums it asks for.

An engine costs by the hour, busy or not, from its first minute on. What it can do is what it did while it worked, all teams together: the tokens of
the busiest minute of its busiest day's busiest hours, or of its busy seconds, whichever is more; a lower bound. A managed target costs what its
tokens cost, cached ones and all. Tokens of input and output count alike, as they came. What is projected is the straight line through the whole
days of the time, thirty days on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine

from ledger.capacity import Capacity
from ledger.engine_time import Effective, Recent, Uptime, recent, uptimes
from ledger.retention import kept
from ledger.rollups import DAY, US
from ledger.trend import AHEAD, Trend, trend
from ledger.volumes import Volume, began_us, of_engines, per_provider, volumes
from ledger.window import Window, label_of

DAY_H = 24.0
NUSD_PER_USD = 1e9


class Work(msgspec.Struct, frozen=True):
    """What an engine did in so many days. `most_per_s`: tokens that it can do in a second, at least."""

    tokens: int
    days: float
    most_per_s: float


class Managed(msgspec.Struct, frozen=True):
    """What a target's tokens cost; `unpriced`: attempts whose cost is not known, which are not in it."""

    target: str
    usd_per_mtok: float
    unpriced: int = 0


class BreakEven(msgspec.Struct, frozen=True):
    """One engine against one managed target. None: not known.

    `utilisation`: of what the engine can do, now and where it begins to be cheaper; above 1: it never is. `target_unpriced`: attempts of the target
    that its price is not made of. `traffic`: what this traffic, the engine's and all targets', came to a day; `cheaper_with_all` were it all the
    engine's. `projected_…`: the same thirty days from now if it goes on as in the time's whole days, of which there must be three; `…_low`, `…_high`:
    where that is with 95 % confidence, and what is asked of it is None where both answers are within. `breakeven_in_days`: until the engine's own
    volume is enough, 0 where it is; None: not within a year, or never. `recent`: what the engine's tokens really cost; None in a report of one team,
    for its hours are everybody's.
    """

    engine: str
    target: str
    usd_per_hour: float | None
    engine_usd_per_mtok: float | None
    target_usd_per_mtok: float
    target_unpriced: int
    utilisation: float | None
    breakeven_utilisation: float | None
    mtok_per_day: float
    breakeven_mtok_per_day: float | None
    traffic_mtok_per_day: float
    cheaper_now: bool | None
    cheaper_with_all: bool | None
    projected_mtok_per_day: float | None = None
    projected_mtok_per_day_low: float | None = None
    projected_mtok_per_day_high: float | None = None
    projected_traffic_mtok_per_day: float | None = None
    cheaper_projected: bool | None = None
    cheaper_with_all_projected: bool | None = None
    breakeven_in_days: float | None = None
    recent: Recent | None = None


def breakeven(engine: Engine, window: Window, usd_per_hour: Mapping[str, float], now_s: float) -> list[BreakEven]:
    """`usd_per_hour`: by engine, instead of what the configuration said then; "" is any other.

    Engines that the window's traffic did not reach are left out.
    """
    window = kept(engine, window)
    found = volumes(engine, window, now_s)
    until_us = min(window.to_us, int(now_s * US))
    up = uptimes(engine, Window(window.from_us, until_us))
    owned = {target[0]: volume.tokens for target, volume in found.items() if _is_owned(target, volume, up)}
    managed = _managed({target: volume for target, volume in found.items() if not _is_owned(target, volume, up)})
    if not owned or not managed:
        return []
    per_day = per_provider(found)
    traffic = (_days(max(window.from_us, began_us(engine)), until_us), sum(per_day[""].values()))
    of_all = of_engines(engine, window, owned, now_s) if window.filters else per_day
    goes = _trends({name: per_day[name] for name in ("", *owned)}, window, now_s)
    costs = {} if "team" in window.filters else recent(engine, until_us, now_s)
    lines = []
    for name, tokens in owned.items():
        capacity = Capacity(engine, window, name, up.get(name), of_all[name], now_s)
        work = Work(tokens, _days(max(window.from_us, capacity.since_us()), until_us), capacity.most_per_s())
        hourly = usd_per_hour.get(name, usd_per_hour.get("", up[name].usd_per_hour if name in up else None))
        found_now = (against(name, work, hourly, each, traffic) for each in managed)
        lines += [msgspec.structs.replace(projected(each, work, goes.get(name), goes.get("")), recent=costs.get(name)) for each in found_now]
    return lines


def projected(found: BreakEven, work: Work, own: Trend | None, everything: Trend | None) -> BreakEven:
    """With what will be, if the engine's volume and all traffic's go on so."""
    if own is None or everything is None:
        return found
    most_per_day = work.most_per_s * DAY / 1e6
    most, needed = max(most_per_day, own.level), found.breakeven_mtok_per_day
    low, high = (min(each, most) for each in own.between(AHEAD))
    told = msgspec.structs.replace(
        found,
        projected_mtok_per_day=round(min(own.after(AHEAD), most), 6),
        projected_mtok_per_day_low=round(low, 6),
        projected_mtok_per_day_high=round(high, 6),
        projected_traffic_mtok_per_day=round(everything.after(AHEAD), 6),
    )
    if needed is None:
        return told
    days = own.reaches(needed) if needed <= most else None
    return msgspec.structs.replace(
        told,
        cheaper_projected=_either(low >= needed, high >= needed),
        cheaper_with_all_projected=_either(*(needed <= each <= most_per_day for each in (*everything.between(AHEAD), everything.after(AHEAD)))),
        breakeven_in_days=None if days is None else round(days, 1),
    )


def _either(*answers: bool) -> bool | None:
    """The answer that all give. None: they do not agree."""
    return answers[0] if len(set(answers)) == 1 else None


def _trends(per_day: Mapping[str, Mapping[int, int]], window: Window, now_s: float) -> dict[str, Trend | None]:
    """Of each one's tokens in the whole days of UTC, from the first that had any on; millions a day."""
    first, last = -(-window.from_us // (DAY * US)) * DAY, min(window.to_us // US, int(now_s)) // DAY * DAY
    whole = {name: {day: tokens for day, tokens in days.items() if first <= day < last} for name, days in per_day.items()}
    return {name: trend([days.get(day, 0) / 1e6 for day in range(min(days), last, DAY)]) for name, days in whole.items() if days}


def against(name: str, work: Work, usd_per_hour: float | None, other: Managed, traffic: tuple[float, int]) -> BreakEven:
    """`traffic`: over how many days, and how many tokens there were in all."""
    days, all_tokens = traffic
    per_day, all_per_day = work.tokens / work.days / 1e6, all_tokens / days / 1e6
    most_per_day = work.most_per_s * 86_400 / 1e6
    needed = None if usd_per_hour is None else usd_per_hour * DAY_H / other.usd_per_mtok
    return BreakEven(
        engine=name,
        target=other.target,
        usd_per_hour=usd_per_hour,
        engine_usd_per_mtok=None if usd_per_hour is None or not work.tokens else round(usd_per_hour * DAY_H / per_day, 6),
        target_usd_per_mtok=round(other.usd_per_mtok, 6),
        target_unpriced=other.unpriced,
        utilisation=round(per_day / most_per_day, 6) if most_per_day else None,
        breakeven_utilisation=None if needed is None or not most_per_day else round(needed / most_per_day, 6),
        mtok_per_day=round(per_day, 6),
        breakeven_mtok_per_day=None if needed is None else round(needed, 6),
        traffic_mtok_per_day=round(all_per_day, 6),
        cheaper_now=None if needed is None else per_day >= needed,
        cheaper_with_all=None if needed is None else needed <= all_per_day <= most_per_day,
    )


def _is_owned(target: tuple[str, str], volume: Volume, up: Mapping[str, Uptime]) -> bool:
    """An engine was up or worked; its model bears its own name. A request that was refused has neither target nor model."""
    provider, model = target
    return bool(provider) and provider == model and (provider in up or volume.ran)


def _managed(found: Mapping[tuple[str, str], Volume]) -> list[Managed]:
    """Those that were paid for, at what the attempts with a known cost came to."""
    lines = []
    for target, volume in found.items():
        tokens = volume.tokens - volume.unpriced_tokens
        if volume.paid_nusd and tokens > 0:
            lines.append(Managed(label_of(*target), volume.paid_nusd / NUSD_PER_USD / tokens * 1e6, volume.unpriced))
    return lines


def _days(from_us: int, to_us: int) -> float:
    return max(1e-9, (to_us - from_us) / US / DAY)


_WHOLE = Effective(None, None, None, 0.0)
LIKE: dict[str, Any] = {**dict.fromkeys(BreakEven.__struct_fields__), "recent": msgspec.to_builtins(Recent(_WHOLE, _WHOLE, _WHOLE))}


def as_lines(found: Iterable[BreakEven]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(each) for each in found]
