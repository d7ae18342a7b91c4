"""At which volume an owned engine is cheaper than a managed target, for the traffic that there really was. Pure but for the sums it asks for.

An engine costs by the hour, busy or not, from its first minute on. What it can do is what it did while it worked, all teams together: the tokens of
the busiest minute of its busiest day's busiest hours, or of its busy seconds, whichever is more; a lower bound. A managed target costs what its
tokens cost, cached ones and all. Tokens of input and output count alike, as they came. What is projected is the straight line through the whole
days of the time, thirty days on.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Engine, func, select

from ledger.engine_time import Effective, Recent, Uptime, asked_before, known_from_us, recent, uptimes
from ledger.engine_time import usd_per_hour as known_usd_per_hour
from ledger.observed import INPUTS, OUTPUTS
from ledger.reports import tokens_of
from ledger.retention import kept, purged_us
from ledger.rollups import DAY, HOUR, US
from ledger.schema import attempts, usage_rollups
from ledger.summed import Sums, summed
from ledger.trend import AHEAD, Trend, trend
from ledger.window import Window

DAY_H = 24.0
NUSD_PER_USD = 1e9
BUSIEST = 3  # hours of a day whose minutes are looked at


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
    found = summed(engine, window, ("provider", "model_sent", "target"), now_s)
    until_us = min(window.to_us, int(now_s * US))
    up = uptimes(engine, Window(window.from_us, until_us))
    owned = {sums.group[0]: _tokens(sums) for sums in found if _is_owned(sums, up)}
    managed = _managed(sums for sums in found if not _is_owned(sums, up))
    traffic = (_days(max(window.from_us, _began_us(engine)), until_us), sum(map(_tokens, found)))
    lines = []
    known = known_usd_per_hour(engine, window)
    goes, all_go = _trends(engine, window, owned, now_s) if owned and managed else ({}, None)
    costs = {} if "team" in window.filters else recent(engine, until_us, now_s)
    for name, tokens in owned.items():
        since_us = _since_us(engine, window, name, up.get(name), now_s)
        work = Work(tokens, _days(max(window.from_us, since_us), until_us), _most_per_s(engine, window, name, up.get(name), now_s))
        hourly = usd_per_hour.get(name, usd_per_hour.get("", known.get(name)))
        found_now = (against(name, work, hourly, each, traffic) for each in managed)
        lines += [msgspec.structs.replace(projected(each, work, goes.get(name), all_go), recent=costs.get(name)) for each in found_now]
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


def _trends(engine: Engine, window: Window, owned: Iterable[str], now_s: float) -> tuple[dict[str, Trend | None], Trend | None]:
    """Of each engine's and of all tokens in the whole days of UTC, from the first that had any on; millions a day."""
    first, last = -(-window.from_us // (DAY * US)) * DAY, min(window.to_us // US, int(now_s)) // DAY * DAY
    found = summed(engine, Window(first * US, last * US, window.filters), ("day", "provider"), now_s) if first < last else []
    if not found:
        return {}, None
    per_day: dict[str, dict[int, float]] = {"": {}}
    for sums in found:
        day, provider = sums.group
        for name in ("", provider) if provider in owned else ("",):
            days = per_day.setdefault(name, {})
            days[day] = days.get(day, 0.0) + _tokens(sums) / 1e6
    trends = {name: trend([days.get(start, 0.0) for start in range(min(days), last, DAY)]) for name, days in per_day.items()}
    return trends, trends[""]


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


def _is_owned(sums: Sums, up: Mapping[str, Uptime]) -> bool:
    """An engine was up or worked; its model bears its own name. A request that was refused has neither target nor model."""
    provider, model, _ = sums.group
    return bool(provider) and provider == model and (provider in up or sums.engine_us is not None)


def _managed(found: Iterable[Sums]) -> list[Managed]:
    """Those that were paid for, at what the attempts with a known cost came to."""
    lines = []
    for sums in found:
        paid = (sums.cost_nusd or 0) + (sums.absorbed_nusd or 0)
        tokens = _tokens(sums) - (sums.unpriced_tokens or 0)
        if paid and tokens > 0:
            lines.append(Managed(sums.group[2], paid / NUSD_PER_USD / tokens * 1e6, sums.unpriced))
    return lines


def _most_per_s(engine: Engine, window: Window, name: str, up: Uptime | None, now_s: float) -> float:
    """Of all teams, for it is one machine. A minute has idle seconds in it, where few ask; its busy seconds have not."""
    of_it, most, purged_s = {"provider": name}, 0.0, purged_us(engine) // US
    days = sorted(summed(engine, Window(window.from_us, window.to_us, of_it), ("day",), now_s), key=_tokens)
    kept_days = [each for each in days if each.group[0] >= purged_s]
    for day_s in {each.group[0] for each in (*days[-1:], *kept_days[-1:])}:
        most = max(most, _most_of_day(engine, window, of_it, day_s, purged_s, now_s))
    if up is None or not up.busy_us:
        return most
    lost = asked_before(engine, window, name, up.since_us, now_s)
    from_us = known_from_us(engine, up.since_us) if lost else window.from_us
    meanwhile = sum(map(_tokens, summed(engine, Window(from_us, up.until_us, of_it), (), now_s)))
    return max(most, meanwhile / up.busy_us * US)


def _most_of_day(engine: Engine, window: Window, of_it: Mapping[str, str], day_s: int, purged_s: int, now_s: float) -> float:
    """Tokens a second of its busiest hours' busiest minute. Of hours whose rows were deleted no minute is known, but the hour is."""

    def within(start_s: int, long_s: int) -> Window:
        return Window(max(window.from_us, start_s * US), min(window.to_us, (start_s + long_s) * US), of_it)

    hours = sorted(summed(engine, within(day_s, DAY), ("hour",), now_s), key=_tokens)
    most = max((_tokens(each) / HOUR for each in hours), default=0.0)
    for each in [each for each in hours if each.group[0] >= purged_s][-BUSIEST:]:
        minutes = summed(engine, within(each.group[0], HOUR), ("minute",), now_s)
        most = max([most, *(_tokens(sums) / 60 for sums in minutes)])
    return most


def _began_us(engine: Engine) -> int:
    """When the ledger's first attempt began; to the hour where its row was deleted."""
    c = usage_rollups.c
    with engine.connect() as connection:
        row_us = connection.execute(select(func.min(attempts.c.started_at_us))).scalar()
        hour_s = connection.execute(select(func.min(c.start_s)).where(c.span_s == HOUR)).scalar()
    told = [each for each in (row_us, None if hour_s is None else hour_s * US) if each is not None]
    if len(told) == 2 and told[0] < told[1] + HOUR * US:
        return int(told[0])
    return int(min(told, default=0))


def _since_us(engine: Engine, window: Window, name: str, up: Uptime | None, now_s: float) -> int:
    """Its first minute; when it was first asked where that was earlier, for its first hours may be lost."""
    if up is not None and not asked_before(engine, window, name, up.since_us, now_s):
        return up.since_us
    return _first_us(engine, window, name, now_s)


def _first_us(engine: Engine, window: Window, name: str, now_s: float) -> int:
    """Of an engine of which no minute is written from then: when it was first asked."""
    hours = summed(engine, Window(window.from_us, window.to_us, {"provider": name}), ("hour",), now_s)
    if not hours:
        return window.from_us
    from_us, c = max(window.from_us, hours[0].group[0] * US), attempts.c
    query = select(func.min(c.started_at_us)).where(c.started_at_us >= from_us, c.started_at_us < from_us + HOUR * US, c.target == name)
    with engine.connect() as connection:
        return int(connection.execute(query).scalar() or from_us)


def _days(from_us: int, to_us: int) -> float:
    return max(1e-9, (to_us - from_us) / US / DAY)


def _tokens(sums: Sums) -> int:
    return (tokens_of(sums, INPUTS) or 0) + (tokens_of(sums, OUTPUTS) or 0)


_WHOLE = Effective(None, None, None, 0.0)
LIKE: dict[str, Any] = {**dict.fromkeys(BreakEven.__struct_fields__), "recent": msgspec.to_builtins(Recent(_WHOLE, _WHOLE, _WHOLE))}


def as_lines(found: Iterable[BreakEven]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(each) for each in found]
