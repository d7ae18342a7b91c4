"""Where a volume goes if it goes on as it did: the straight line that is nearest to what each day had, and how sure that is. Pure."""

from collections.abc import Sequence
from math import sqrt

import msgspec

FEWEST = 3  # days: of fewer nothing is said
AHEAD = 30.0  # days
FARTHEST = 365.0
# Student's t for 95 of 100, by degrees of freedom; the next lower one that is here is used: wider, never narrower.
T95 = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
    10: 2.228,
    12: 2.179,
    15: 2.131,
    20: 2.086,
    30: 2.042,
}


class Trend(msgspec.Struct, frozen=True):
    """`level`: what the line has at the last day; `slope`: what each day adds. `days`: how many it is made of; `noise`: how far a day lay from
    the line, as a standard deviation."""

    level: float
    slope: float
    days: int = FEWEST
    noise: float = 0.0

    def after(self, days: float) -> float:
        return max(0.0, self.level + self.slope * days)

    def between(self, days: float) -> tuple[float, float]:
        """Where the line is then, with 95 % confidence."""
        middle = (self.days - 1) / 2
        off = self._t * self.noise * sqrt(1 / self.days + (self.days - 1 + days - middle) ** 2 / self._spread)
        return max(0.0, self.level + self.slope * days - off), max(0.0, self.level + self.slope * days + off)

    def reaches(self, volume: float) -> float | None:
        """In how many days; 0: it is there. None: not within a year, or it does not grow by more than its noise."""
        if self.level >= volume:
            return 0.0
        grows = self.slope > self._t * self.noise / sqrt(self._spread)
        days = (volume - self.level) / self.slope if grows else FARTHEST + 1
        return days if days <= FARTHEST else None

    @property
    def _t(self) -> float:
        return T95[max(free for free in T95 if free <= max(1, self.days - 2))]

    @property
    def _spread(self) -> float:
        """Of the days around their middle, squared and summed."""
        return self.days * (self.days**2 - 1) / 12


def trend(per_day: Sequence[float]) -> Trend | None:
    """By least squares, of one whole day after another. None: they are too few."""
    n = len(per_day)
    if n < FEWEST:
        return None
    middle, mean = (n - 1) / 2, sum(per_day) / n
    slope = sum((day - middle) * value for day, value in enumerate(per_day)) / sum((day - middle) ** 2 for day in range(n))
    left = sum((value - mean - slope * (day - middle)) ** 2 for day, value in enumerate(per_day))
    return Trend(mean + slope * (n - 1 - middle), slope, n, sqrt(left / (n - 2)))
