"""Where a volume goes if it goes on as it did: the straight line that is nearest to what each day had. Pure."""

from collections.abc import Sequence

import msgspec

FEWEST = 3  # days: of fewer nothing is said
AHEAD = 30.0  # days
FARTHEST = 365.0


class Trend(msgspec.Struct, frozen=True):
    """`level`: what the line has at the last of the days; `slope`: what each day adds."""

    level: float
    slope: float

    def after(self, days: float) -> float:
        return max(0.0, self.level + self.slope * days)

    def reaches(self, volume: float) -> float | None:
        """In how many days; 0: it is there. None: not within a year."""
        if self.level >= volume:
            return 0.0
        days = (volume - self.level) / self.slope if self.slope > 0 else FARTHEST + 1
        return days if days <= FARTHEST else None


def trend(per_day: Sequence[float]) -> Trend | None:
    """By least squares, of one whole day after another. None: they are too few."""
    n = len(per_day)
    if n < FEWEST:
        return None
    middle, mean = (n - 1) / 2, sum(per_day) / n
    slope = sum((day - middle) * value for day, value in enumerate(per_day)) / sum((day - middle) ** 2 for day in range(n))
    return Trend(mean + slope * (n - 1 - middle), slope)
