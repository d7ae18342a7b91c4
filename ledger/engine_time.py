"""Owned engines' hours: how long each was up, busy and asleep, what that cost, and what its idle and its asleep time did; beside the tokens that
came of it. An hour asleep costs what any hour does: the machine stays reserved, and paid for, by whomever its GPU is used meanwhile.
"""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
from sqlalchemy import BigInteger, ColumnElement, Engine, Float, and_, case, cast, func, insert, select

from ledger.prices import NUSD_PER_USD
from ledger.retention import HOUR_US, kept, purged_us
from ledger.schema import engine_minutes
from ledger.summed import sums_of
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


class Uptime(msgspec.Struct, frozen=True):
    """Of an engine that was up in a time: since when there is it, or the time's begin where it was up before that; until when it is written; how long
    it was busy; what its hour cost at most, where that was known."""

    since_us: int
    until_us: int
    busy_us: int
    nusd_per_hour: int | None = None

    @property
    def usd_per_hour(self) -> float | None:
        return None if self.nusd_per_hour is None else self.nusd_per_hour / NUSD_PER_USD


_c = engine_minutes.c
_UPTIME = (
    cast(func.min(_c.ended_at_us - _c.up_us - func.coalesce(_c.asleep_us, 0)), BigInteger),
    cast(func.max(_c.ended_at_us), BigInteger),
    cast(func.sum(_c.busy_us), BigInteger),
    cast(func.max(_c.nusd_per_hour), BigInteger),
)
_HOURLY = cast(_c.nusd_per_hour, Float) / US_PER_HOUR
_PRICED, _SLEPT = func.count() == func.count(_c.nusd_per_hour), func.count() == func.count(_c.asleep_us)
_SPENT = (
    cast(func.sum(_c.up_us), BigInteger),
    case((func.count() == func.count(_c.energy_mj), cast(func.sum(_c.energy_mj), BigInteger))),
    case((_PRICED, func.sum(_HOURLY * (_c.up_us + func.coalesce(_c.asleep_us, 0))))),
    case((_PRICED, func.sum(_HOURLY * (_c.up_us - _c.busy_us)))),
    case((_SLEPT, cast(func.sum(_c.asleep_us), BigInteger))),
    case((and_(_PRICED, _SLEPT), func.sum(_HOURLY * _c.asleep_us))),
)


class Spent(msgspec.Struct, frozen=True):
    """What an engine's rows of a time come to; None: not known of all of them. Costs in nano-dollars."""

    up_us: int
    energy_mj: int | None
    cost: float | None
    idle: float | None
    asleep_us: int | None
    asleep: float | None


def uptimes(engine: Engine, window: Window) -> dict[str, Uptime]:
    """Each engine that was up in that time."""
    return {name: up for name, (up, _) in _times(engine, window, ()).items()}


def _times(engine: Engine, window: Window, more: Sequence[ColumnElement[Any]]) -> dict[str, tuple[Uptime, Sequence[Any]]]:
    """Each engine's that was up in that time, and `more` of its rows; in the order of names. An engine at a time, for an index has that together."""
    found: dict[str, tuple[Uptime, Sequence[Any]]] = {}
    name: str | None = ""
    with engine.connect() as connection:
        while (name := connection.execute(select(func.min(_c.engine)).where(_c.engine > name)).scalar()) is not None:
            of_it = (_c.engine == name, _c.ended_at_us > window.from_us, _c.ended_at_us <= window.to_us)
            since_us, until_us, busy_us, nusd, *rest = connection.execute(select(*_UPTIME, *more).where(*of_it)).one()
            if until_us is None:
                continue
            if since_us > window.from_us:
                older = select(_c.engine).where(_c.engine == name, _c.ended_at_us <= window.from_us).limit(1)
                since_us = since_us if connection.execute(older).first() is None else window.from_us
            found[name] = Uptime(since_us, until_us, busy_us, nusd), rest
    return found


def asked_before(engine: Engine, window: Window, name: str, since_us: int, now_s: float) -> bool:
    """Whether the ledger has attempts at that engine from hours before its first minute: it was there then, and its hours are lost."""
    until_us = since_us // HOUR_US * HOUR_US
    if window.from_us >= until_us:
        return False
    return any(rows for (rows,) in sums_of(engine, [Window(window.from_us, until_us, {"provider": name})], (), ("rows",), now_s))


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
    (lines,) = _lines(engine, [window], now_s)
    return [line | {"last": msgspec.to_builtins(costs.get(line["engine"], never))} for line in lines]


def recent(engine: Engine, until_us: int, now_s: float) -> dict[str, Recent]:
    """Each engine's that was up or asleep in the week before then (Unix time)."""
    lines = _lines(engine, [Window(until_us - hours * US_PER_HOUR, until_us) for hours in LAST_H.values()], now_s)
    found = {span: {line["engine"]: line for line in told} for span, told in zip(LAST_H, lines, strict=True)}
    return {name: Recent(**{span: _effective(lines.get(name)) for span, lines in found.items()}) for name in found["week"]}


def _effective(line: dict[str, Any] | None) -> Effective | None:
    if line is None:
        return None
    whole, tokens = line["usd_per_mtok"], line["tokens"] or 0
    unused = None if line["idle_usd"] is None else float(line["idle_usd"]) + float(line["asleep_usd"] or 0)
    busy = None if unused is None or not tokens else (float(line["usd"]) - unused) / tokens * 1e6
    return Effective(whole, None if busy is None else round(busy, 6), line["idle_share"], tokens / 1e6)


class Done(msgspec.Struct, frozen=True):
    """What an engine did; None: not known."""

    requests: int = 0
    tokens: int = 0
    output_tokens: int | None = None

    def __add__(self, other: "Done") -> "Done":
        known = [each for each in (self.output_tokens, other.output_tokens) if each is not None]
        return Done(self.requests + other.requests, self.tokens + other.tokens, sum(known) if known else None)


def _done(engine: Engine, windows: Sequence[Window], names: Sequence[str], now_s: float) -> list[dict[str, Done]]:
    """What those engines did in each of the windows, the shortest first, which end alike: each moment is read once."""
    found: list[dict[str, Done]] = []
    to_us = windows[0].to_us
    for window in windows:
        of_them = Window(window.from_us, to_us, {**window.filters, "provider": tuple(names)})
        done = dict(found[-1]) if found else {}
        for name, *sums in sums_of(engine, [of_them], ("provider",), Done.__struct_fields__, now_s) if names else ():
            done[name] = done.get(name, Done()) + Done(*sums)
        found.append(done)
        to_us = window.from_us
    return found


def _lines(engine: Engine, windows: Sequence[Window], now_s: float) -> list[list[dict[str, Any]]]:
    """Each window's, the shortest first, which end alike. Tokens are of the time of which an engine's hours are known."""
    windows = [kept(engine, window) for window in windows]
    times = [_times(engine, window, _SPENT) for window in windows]
    lines: list[list[dict[str, Any]]] = []
    for window, found, done in zip(windows, times, _done(engine, windows, list(times[-1]), now_s), strict=True):
        lines.append([])
        for name, (up, spent) in found.items():
            known = done.get(name)
            if up.since_us > window.from_us and asked_before(engine, window, name, up.since_us, now_s):
                own = Window(known_from_us(engine, up.since_us), window.to_us, {**window.filters, "provider": name})
                known = Done(*next((sums for sums in sums_of(engine, [own], (), Done.__struct_fields__, now_s) if sums[0] is not None), (0, 0, 0)))
            lines[-1].append(_line(name, up.busy_us, Spent(*spent), known))
    return lines


def _line(name: str, busy_us: int, spent: Spent, done: Done | None) -> dict[str, Any]:
    output, total = (None, None) if done is None else (done.output_tokens, done.tokens)
    return {
        "engine": name,
        "up_h": round(spent.up_us / US_PER_HOUR, 4),
        "busy_h": round(busy_us / US_PER_HOUR, 4),
        "asleep_h": None if spent.asleep_us is None else round(spent.asleep_us / US_PER_HOUR, 4),
        "idle_share": round(1 - busy_us / spent.up_us, 4) if spent.up_us else None,
        "requests": None if done is None else done.requests,
        "tokens": total,
        "output_tokens": output,
        "busy_tokens_per_s": round(output / busy_us * 1e6, 1) if output and busy_us else None,
        "kwh": None if spent.energy_mj is None else round(spent.energy_mj / MJ_PER_KWH, 6),
        "usd": usd(None if spent.cost is None else round(spent.cost)),
        "idle_usd": usd(None if spent.idle is None else round(spent.idle)),
        "asleep_usd": usd(None if spent.asleep is None else round(spent.asleep)),
        "usd_per_mtok": round(spent.cost / total / 1_000, 6) if spent.cost is not None and total else None,
    }
