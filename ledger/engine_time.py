"""Owned engines' hours: how long each was up, busy and asleep, what that cost, and what its idle and its asleep time did; beside the tokens that
came of it. An hour asleep costs what any hour does: the machine stays reserved, and paid for, by whomever its GPU is used meanwhile.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import BigInteger, Engine, Float, and_, case, cast, func, insert, select

from ledger.observed import INPUTS, OUTPUTS
from ledger.prices import NUSD_PER_USD
from ledger.reports import tokens_of
from ledger.retention import HOUR_US, kept, purged_us
from ledger.schema import engine_minutes
from ledger.summed import NO_SUMS, Sums, summed
from ledger.units import usd
from ledger.window import Window

US_PER_HOUR = 3_600_000_000
LAST_H = {"hour": 1, "day": 24, "week": 168}
MJ_PER_KWH = 3_600_000_000


class EngineTime(msgspec.Struct, frozen=True):
    """What one engine did in a minute, or a part of one, that ended at `ended_at_us` (Unix time); long ago, in up to an hour
    (ledger/engine_folding.py). None: not known."""

    engine: str
    ended_at_us: int
    up_us: int
    busy_us: int
    energy_mj: int | None = None
    nusd_per_hour: int | None = None
    asleep_us: int | None = None


class Effective(msgspec.Struct, frozen=True):
    """What an engine's tokens came to in a time: `usd_per_mtok` with its idle and its asleep time, `busy_usd_per_mtok` without; `idle_share` of the
    time it was up. None: not known, or no tokens.
    """

    usd_per_mtok: float | None
    busy_usd_per_mtok: float | None
    idle_share: float | None
    mtok: float


class Recent(msgspec.Struct, frozen=True):
    """The last hour, day and week. None: it was neither up nor asleep."""

    hour: Effective | None
    day: Effective | None
    week: Effective | None


_TOLD = (
    *("engine", "up_h", "busy_h", "asleep_h", "idle_share", "requests", "tokens", "output_tokens", "busy_tokens_per_s"),
    *("kwh", "usd", "idle_usd", "asleep_usd", "usd_per_mtok"),
)
_WHOLE = Effective(None, None, None, 0.0)
LIKE: dict[str, Any] = {**dict.fromkeys(_TOLD), "last": msgspec.to_builtins(Recent(_WHOLE, _WHOLE, _WHOLE))}  # a line, of nothing


def write(engine: Engine, times: Sequence[EngineTime]) -> None:
    """Raises SQLAlchemyError."""
    with engine.begin() as connection:
        connection.execute(insert(engine_minutes), [{"id": uuid4().hex, **msgspec.structs.asdict(each)} for each in times])


def usd_per_hour(engine: Engine, window: Window) -> dict[str, float]:
    """What each engine's hour cost in that time, at most, where it was known."""
    c = engine_minutes.c
    within = (c.ended_at_us > window.from_us) & (c.ended_at_us <= window.to_us) & c.nusd_per_hour.is_not(None)
    with engine.connect() as connection:
        found = connection.execute(select(c.engine, func.max(c.nusd_per_hour)).where(within).group_by(c.engine))
        return {name: nusd / NUSD_PER_USD for name, nusd in found}


class Uptime(msgspec.Struct, frozen=True):
    """Of an engine that was up in a time: since when there is it, or the time's begin where it was up before that; until when it is written; how long
    it was busy."""

    since_us: int
    until_us: int
    busy_us: int


def uptimes(engine: Engine, window: Window) -> dict[str, Uptime]:
    """Each engine that was up in that time."""
    c = engine_minutes.c
    within = (c.ended_at_us > window.from_us) & (c.ended_at_us <= window.to_us)
    told = (func.min(c.ended_at_us - c.up_us - func.coalesce(c.asleep_us, 0)), func.max(c.ended_at_us), func.sum(c.busy_us))
    query = select(c.engine, *(cast(each, BigInteger) for each in told)).where(within).group_by(c.engine)
    with engine.connect() as connection:
        found = {name: Uptime(*times) for name, *times in connection.execute(query)}
        for name, up in found.items():
            older = select(c.engine).where(c.ended_at_us <= window.from_us, c.engine == name).limit(1)
            if up.since_us > window.from_us and connection.execute(older).first() is not None:
                found[name] = msgspec.structs.replace(up, since_us=window.from_us)
    return found


def asked_before(engine: Engine, window: Window, name: str, since_us: int, now_s: float) -> bool:
    """Whether the ledger has attempts at that engine from hours before its first minute: it was there then, and its hours are lost."""
    until_us = since_us // HOUR_US * HOUR_US
    return window.from_us < until_us and bool(summed(engine, Window(window.from_us, until_us, {"provider": name}), (), now_s))


def known_from_us(engine: Engine, since_us: int) -> int:
    """From when on tokens are counted of an engine whose earlier hours are lost; where no rows are kept, to the nearest hour."""
    return since_us if since_us >= purged_us(engine) else (since_us + HOUR_US // 2) // HOUR_US * HOUR_US


def engine_lines(engine: Engine, window: Window, now_s: float) -> list[dict[str, Any]]:
    """A line for each engine that was up or asleep. `usd` is of both; `idle_usd` is the part of it in which it was up and nothing ran, `asleep_usd`
    that in which it slept; `usd_per_mtok` is all of it over all tokens.

    Money is null where an hour's cost was not known all the time, energy where some of it was not told, and what it slept where rows of a version
    that did not count it are among them. Tokens are of the time of which its hours are known. `last` is up to the window's end.
    """
    costs = recent(engine, min(window.to_us, int(now_s * 1e6)), now_s)
    never = Recent(None, None, None)
    return [line | {"last": msgspec.to_builtins(costs.get(line["engine"], never))} for line in _lines(engine, window, now_s)]


def recent(engine: Engine, until_us: int, now_s: float) -> dict[str, Recent]:
    """Each engine's that was up or asleep in the week before then (Unix time)."""
    found = {
        span: {line["engine"]: line for line in _lines(engine, Window(until_us - hours * US_PER_HOUR, until_us), now_s)}
        for span, hours in LAST_H.items()
    }
    return {name: Recent(**{span: _effective(lines.get(name)) for span, lines in found.items()}) for name in found["week"]}


def _effective(line: dict[str, Any] | None) -> Effective | None:
    if line is None:
        return None
    whole, tokens = line["usd_per_mtok"], line["tokens"] or 0
    unused = None if line["idle_usd"] is None else float(line["idle_usd"]) + float(line["asleep_usd"] or 0)
    busy = None if unused is None or not tokens else (float(line["usd"]) - unused) / tokens * 1e6
    return Effective(whole, None if busy is None else round(busy, 6), line["idle_share"], tokens / 1e6)


def _tokens(engine: Engine, window: Window, now_s: float) -> dict[str, Sums]:
    """What each engine did in the time of which its hours are known."""
    ups = uptimes(engine, window)
    of_them = Window(window.from_us, window.to_us, {**window.filters, "provider": tuple(ups)})
    found = {sums.group[0]: sums for sums in summed(engine, of_them, ("provider",), now_s)} if ups else {}
    for name, up in ups.items():
        if up.since_us > window.from_us and asked_before(engine, window, name, up.since_us, now_s):
            own = Window(known_from_us(engine, up.since_us), window.to_us, {**window.filters, "provider": name})
            found[name] = next(iter(summed(engine, own, (), now_s)), NO_SUMS)
    return found


def _lines(engine: Engine, window: Window, now_s: float) -> list[dict[str, Any]]:
    window, c = kept(engine, window), engine_minutes.c
    hourly, priced = cast(c.nusd_per_hour, Float) / US_PER_HOUR, func.count() == func.count(c.nusd_per_hour)
    slept = func.count() == func.count(c.asleep_us)
    query = (
        select(
            c.engine,
            cast(func.sum(c.up_us), BigInteger),
            cast(func.sum(c.busy_us), BigInteger),
            case((func.count() == func.count(c.energy_mj), cast(func.sum(c.energy_mj), BigInteger))),
            case((priced, func.sum(hourly * (c.up_us + func.coalesce(c.asleep_us, 0))))),
            case((priced, func.sum(hourly * (c.up_us - c.busy_us)))),
            case((slept, cast(func.sum(c.asleep_us), BigInteger))),
            case((and_(priced, slept), func.sum(hourly * c.asleep_us))),
        )
        .where(c.ended_at_us > window.from_us, c.ended_at_us <= window.to_us)
        .group_by(c.engine)
        .order_by(c.engine)
    )
    tokens = _tokens(engine, window, now_s)
    lines = []
    with engine.connect() as connection:
        for name, up_us, busy_us, energy_mj, cost, idle, asleep_us, asleep in connection.execute(query):
            sums = tokens.get(name)
            output = None if sums is None else tokens_of(sums, OUTPUTS)
            total = None if sums is None else (tokens_of(sums, INPUTS) or 0) + (output or 0)
            lines.append(
                {
                    "engine": name,
                    "up_h": round(up_us / US_PER_HOUR, 4),
                    "busy_h": round(busy_us / US_PER_HOUR, 4),
                    "asleep_h": None if asleep_us is None else round(asleep_us / US_PER_HOUR, 4),
                    "idle_share": round(1 - busy_us / up_us, 4) if up_us else None,
                    "requests": None if sums is None else sums.requests,
                    "tokens": total,
                    "output_tokens": output,
                    "busy_tokens_per_s": round(output / busy_us * 1e6, 1) if output and busy_us else None,
                    "kwh": None if energy_mj is None else round(energy_mj / MJ_PER_KWH, 6),
                    "usd": usd(None if cost is None else round(cost)),
                    "idle_usd": usd(None if idle is None else round(idle)),
                    "asleep_usd": usd(None if asleep is None else round(asleep)),
                    "usd_per_mtok": round(cost / total / 1_000, 6) if cost is not None and total else None,
                }
            )
    return lines
