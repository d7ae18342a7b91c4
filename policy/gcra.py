"""Rate limits as the generic cell rate algorithm, and the calendar windows of budgets: arithmetic on numbers, nothing else.

A bucket holds one minute's worth of its limit and drains continuously. Something is admitted when it fits on top of what is in the
bucket (ITU-T I.371's "continuous-state leaky bucket", which is the same test as GCRA's virtual scheduling). What a request did not use is
poured out again when it ends, so that since a bucket was last empty: true use <= limit * minutes + one minute's worth.

`level` is in units (requests, tokens), `now` in seconds of any clock that only goes on. The same arithmetic is in gateway/metering/lua/reserve.lua.
"""

from dataclasses import dataclass

from policy.quota import Left, Window

MINUTE_S = 60.0
DAY_S = 86_400
SLACK = 1e-6  # units: who waits for as long as told gets in, whatever the floating point makes of it


@dataclass(slots=True)
class Bucket:
    """`level` units were in it at `at`. Who pours something in adds to `level`, right after `drain`."""

    level: float = 0.0
    at: float = 0.0

    def drain(self, limit: int, now: float) -> float:
        """Brings it up to `now`, and gives its level. A clock that went back changes nothing."""
        passed_s = now - self.at
        if passed_s > 0:
            level = self.level - passed_s * limit / MINUTE_S
            self.level = level if level > 0.0 else 0.0
            self.at = now
        return self.level

    def correct(self, units: float, limit: int, now: float) -> None:
        """What was poured turns out to have been so much too little; below 0: too much, which is taken out as far as it is still there."""
        level = self.drain(limit, now) + units
        self.level = level if level > 0.0 else 0.0


def wait_s(level: float, units: int, limit: int) -> float | None:
    """Seconds until `units` fit; 0: they do now. None: they never will."""
    if units > limit:
        return None
    over = level + units - limit
    return over * MINUTE_S / limit if over > SLACK else 0.0


def left(level: float, limit: int) -> Left:
    return with_room(limit - level, limit)


def with_room(room: float, limit: int) -> Left:
    """The same of a bucket into which so many units fit."""
    remaining = int(room + SLACK)
    return Left(limit, remaining if remaining > 0 else 0, (limit - room) * MINUTE_S / limit)


def tighter(one: Left | None, other: Left) -> Left:
    """The one of which less is left."""
    return other if one is None or other.remaining < one.remaining else one


def window_start(window: Window, unix_s: float) -> int:
    """When the window began that `unix_s` is in: Unix seconds, in UTC. 0: `total` never began."""
    day = int(unix_s // DAY_S)
    match window:
        case "day":
            return day * DAY_S
        case "week":
            return (day - (day + 3) % 7) * DAY_S  # 1 January 1970 was a Thursday
        case "month":
            return _days(*_month(day)) * DAY_S
        case "total":
            return 0


def window_end(window: Window, unix_s: float) -> int | None:
    """When it will be over; None: never."""
    start = window_start(window, unix_s)
    match window:
        case "day":
            return start + DAY_S
        case "week":
            return start + 7 * DAY_S
        case "month":
            return window_start("month", start + 31 * DAY_S)
        case "total":
            return None


def _month(day: int) -> tuple[int, int]:
    """Year (beginning in March) and month (0: March) of a day since 1970; H. Hinnant, "chrono-compatible low-level date algorithms"."""
    shifted = day + 719_468
    era, of_era = divmod(shifted, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    return year + era * 400, (5 * of_year + 2) // 153


def _days(year: int, month: int) -> int:
    """The day since 1970 on which such a month begins."""
    era, of_era = divmod(year, 400)
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + (153 * month + 2) // 5 - 719_468
