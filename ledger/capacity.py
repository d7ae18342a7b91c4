"""What an engine of ours can do, and since when it was there, by what it did."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Engine, func, select

from ledger.engine_time import Uptime, asked_before, known_from_us
from ledger.retention import purged_us
from ledger.rollups import DAY, HOUR, US
from ledger.schema import attempts
from ledger.summed import sums_of
from ledger.volumes import PerStart
from ledger.window import Window

BUSIEST = 3  # hours of a day whose minutes are looked at


class Capacity:
    """Of an engine in a time, all teams together, for it is one machine. `per_day`: its tokens then; `up`: None: no minute of it is written."""

    def __init__(self, engine: Engine, window: Window, name: str, up: Uptime | None, per_day: PerStart, now_s: float) -> None:
        self._engine = engine
        self._window = window
        self._name = name
        self._up = up
        self._per_day = dict(sorted(per_day.items()))
        self._now_s = now_s
        self._purged_us = purged_us(engine)
        self._lost = up is not None and asked_before(engine, window, name, up.since_us, now_s)

    def since_us(self) -> int:
        """Its first minute; when it was first asked where that was earlier, for its first hours may be lost."""
        return self._first_asked_us() if self._up is None or self._lost else self._up.since_us

    def most_per_s(self) -> float:
        """Tokens that it can do. A minute has idle seconds in it, where few ask; its busy seconds have not."""
        days = sorted(self._per_day, key=self._per_day.__getitem__)
        kept_days = [day for day in days if day * US >= self._purged_us]
        most = max((self._most_of_day(day) for day in {*days[-1:], *kept_days[-1:]}), default=0.0)
        if self._up is None or not self._up.busy_us:
            return most
        return max(most, self._while_known(self._up) / self._up.busy_us * US)

    def _while_known(self, up: Uptime) -> int:
        """Its tokens of the time of which its busy seconds are known."""
        if self._lost or up.until_us < self._purged_us:
            from_us = known_from_us(self._engine, up.since_us) if self._lost else self._window.from_us
            return self._tokens(from_us, up.until_us)
        return sum(self._per_day.values()) - self._tokens(up.until_us, self._window.to_us)

    def _most_of_day(self, day_s: int) -> float:
        """Tokens a second of its busiest hours' busiest minute. Of hours whose rows were deleted no minute is known, but the hour is."""
        hours = self._per("hour", [(day_s, DAY)])
        most = max((tokens / HOUR for tokens in hours.values()), default=0.0)
        kept_hours = [start for start in sorted(hours, key=hours.__getitem__) if start * US >= self._purged_us]
        minutes = self._per("minute", [(start, HOUR) for start in kept_hours[-BUSIEST:]])
        return max([most, *(tokens / 60 for tokens in minutes.values())])

    def _per(self, group: str, spans: Iterable[tuple[int, int]]) -> PerStart:
        """`spans`: (where it begins, how long it is)."""
        windows = [self._within(start * US, (start + long_s) * US) for start, long_s in spans]
        return dict(self._sums(windows, (group,)))

    def _tokens(self, from_us: int, to_us: int) -> int:
        return sum(tokens or 0 for (tokens,) in self._sums([Window(from_us, to_us, {"provider": self._name})], ()))

    def _within(self, from_us: int, to_us: int) -> Window:
        return Window(max(self._window.from_us, from_us), min(self._window.to_us, to_us), {"provider": self._name})

    def _sums(self, windows: Sequence[Window], groups: Sequence[str]) -> Iterable[Any]:
        return sums_of(self._engine, windows, groups, ("tokens",), self._now_s)

    def _first_asked_us(self) -> int:
        hours = self._per("hour", [(day, DAY) for day in list(self._per_day)[:1]])
        if not hours:
            return self._window.from_us
        from_us, c = max(self._window.from_us, min(hours) * US), attempts.c
        query = select(func.min(c.started_at_us)).where(c.started_at_us >= from_us, c.started_at_us < from_us + HOUR * US, c.target == self._name)
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar() or from_us)
