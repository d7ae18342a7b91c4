"""Percentiles of times in little memory: counts in log buckets so narrow that each is right within half a percent."""

from collections import Counter
from math import floor, log2

STEPS = 128  # buckets for each doubling
LEAST_S = 1e-6


class Quantiles:
    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0

    def add(self, seconds: float) -> None:
        self._counts[floor(log2(max(LEAST_S, seconds)) * STEPS)] += 1
        self.count += 1

    def merge(self, other: "Quantiles") -> None:
        self._counts += other._counts
        self.count += other.count

    def ms(self, share: float) -> float | None:
        """What a `share` of all does not exceed, in milliseconds; None: there is none."""
        goal, below = share * self.count, 0
        for bucket in sorted(self._counts):
            below += self._counts[bucket]
            if below >= goal:
                return round(float(2.0 ** ((bucket + 0.5) / STEPS)) * 1000, 3)
        return None
