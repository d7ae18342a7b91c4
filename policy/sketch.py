"""Distributions of positive numbers in log-scale buckets that old values leave by decay: no samples are kept, and sums of two are exact.

A `Sketch` takes values in with a weight; whoever keeps it gives newer values more of it and scales, which is decay at no cost
(Cormode et al., "Forward Decay", 2009). A `Distribution` is what some sketches say together, ready to be asked.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import floor, isfinite, log2

import msgspec

from contract.scale import HIGHEST, LEAST, LOWEST, MOST, STEPS

CODE_STEPS = 12  # codes per doubling of a bucket's weight: right within 3 %
CODES = 255
_SHARES = (0.0, *(2.0 ** ((code - CODES) / CODE_STEPS) for code in range(1, CODES + 1)))
_MIDDLES = tuple(2.0 ** ((bucket + 0.5) / STEPS) for bucket in range(LOWEST, HIGHEST + 1))


Weighed = tuple[float, float]  # a value and its weight


class Packed(msgspec.Struct, array_like=True, frozen=True):
    """A sketch as it is sent: the first bucket, the sum of weights and of weighted values, and each bucket's share of the fullest as a code."""

    first: int
    total: float
    value_sum: float
    codes: bytes


class Sketch:
    """Weights by size of value. `counts[i]` is the weight of values from 2**((first + i) / STEPS) up to the next edge."""

    __slots__ = ("counts", "first", "total", "value_sum")

    def __init__(self) -> None:
        self.first = 0
        self.counts = array("d")
        self.total = 0.0
        self.value_sum = 0.0

    def add(self, value: float, weight: float) -> None:
        self.add_all(((value, weight),))

    def add_all(self, weighed: Iterable[Weighed]) -> None:
        counts, first, size = self.counts, self.first, len(self.counts)
        total, value_sum = self.total, self.value_sum
        for value, weight in weighed:
            if not LEAST <= value <= MOST:
                value = MOST if value > MOST else LEAST
            bucket = floor(log2(value) * STEPS)
            place = bucket - first
            if not 0 <= place < size:
                place = self._reach(bucket, bucket)
                counts, first, size = self.counts, self.first, len(self.counts)
            counts[place] += weight
            total += weight
            value_sum += weight * value
        self.total, self.value_sum = total, value_sum

    def _reach(self, low: int, high: int) -> int:
        """Makes room for the buckets from `low` to `high`; gives the place of `low`."""
        counts = self.counts
        if not counts:
            self.first = low
            counts.frombytes(bytes(8 * (high - low + 1)))
            return 0
        if low < self.first:
            self.counts = counts = array("d", bytes(8 * (self.first - low))) + counts
            self.first = low
        if (missing := high + 1 - self.first - len(counts)) > 0:
            counts.frombytes(bytes(8 * missing))
        return low - self.first

    def merge(self, other: "Sketch", factor: float = 1.0) -> None:
        """Takes in what another has, with its weights times `factor`."""
        if not other.counts:
            return
        place = self._reach(other.first, other.first + len(other.counts) - 1)
        end = place + len(other.counts)
        self.counts[place:end] = array("d", [mine + theirs * factor for mine, theirs in zip(self.counts[place:end], other.counts, strict=True)])
        self.total += other.total * factor
        self.value_sum += other.value_sum * factor

    def carried(self, times: float) -> "Sketch":
        """The same weights, with every value so many times as large: what falls between two buckets is shared between them."""
        whole = floor(shift := log2(times) * STEPS)
        part = shift - whole
        made = Sketch()
        made.first, made.total, made.value_sum = self.first + whole, self.total, self.value_sum * times
        made.counts = array("d", [here + part * (below - here) for below, here in pairwise((0.0, *self.counts, 0.0))]) if part else self.counts
        return made

    def scale(self, factor: float) -> None:
        self.counts = array("d", [weight * factor for weight in self.counts])
        self.total *= factor
        self.value_sum *= factor

    def pack(self, factor: float) -> Packed:
        """With every weight times `factor`."""
        top = max(self.counts, default=0.0)
        codes = bytes(max(0, round(CODES + CODE_STEPS * log2(weight / top))) if weight > 0.0 else 0 for weight in self.counts)
        kept = codes.strip(b"\0")
        first = self.first + len(codes) - len(codes.lstrip(b"\0"))
        return Packed(first, self.total * factor, self.value_sum * factor, kept)

    @staticmethod
    def unpack(packed: Packed) -> "Sketch":
        """Raises ValueError for what no sketch packs to."""
        made = Sketch()
        high = packed.first + len(packed.codes) - 1
        if not packed.codes and packed.total == 0.0:
            return made
        if not (packed.codes and LOWEST <= packed.first <= high <= HIGHEST and any(packed.codes)):
            raise ValueError("a sketch's buckets are out of range")
        if not (0.0 <= packed.total < 1e15 and packed.value_sum >= 0.0 and isfinite(packed.value_sum)):
            raise ValueError("a sketch's sums are out of range")
        shares = [_SHARES[code] for code in packed.codes]
        unit = packed.total / sum(shares)
        made.first, made.total, made.value_sum = packed.first, packed.total, packed.value_sum
        made.counts = array("d", [share * unit for share in shares])
        return made


def _together(parts: Sequence[tuple[Sketch, float]]) -> tuple[int, list[float], float]:
    """The first bucket, the weights and the sum of values of all, each with its weights times its factor."""
    if not parts:
        return 0, [], 0.0
    first = min([sketch.first for sketch, _ in parts])
    counts = [0.0] * (max([sketch.first + len(sketch.counts) for sketch, _ in parts]) - first)
    value_sum = 0.0
    for sketch, factor in parts:
        value_sum += sketch.value_sum * factor
        for place, weight in enumerate(sketch.counts, sketch.first - first):
            counts[place] += weight * factor
    return first, counts, value_sum


class Distribution:
    """What weighted sketches say together. Between a bucket's edges values are taken to be spread evenly over their logarithm."""

    __slots__ = ("_below", "_first", "_middles", "_times", "_whole", "mean", "total")

    def __init__(self, parts: Iterable[tuple[Sketch, float]], times: float = 1.0) -> None:
        """`parts`: sketches, each with the factor on its weights. `times`: every value is taken to be so many times as large."""
        parts = [(sketch, factor) for sketch, factor in parts if sketch.counts and factor > 0.0]
        counts: Sequence[float]
        if len(parts) == 1:
            sketch, factor = parts[0]
            first, counts, value_sum = sketch.first, sketch.counts, sketch.value_sum
        else:
            first, counts, value_sum = _together(parts)
            factor = 1.0
        self._first = first
        self._below = list(accumulate(counts, initial=0.0))
        self._whole = whole = self._below[-1]  # of these weights, which are those of one sketch without its factor
        self.total = whole * factor
        self._times = times
        self.mean = value_sum / whole * times if self.total > 0.0 else None
        self._middles: list[float] | None = None

    def carried(self, times: float) -> "Distribution":
        """The same, with every value so many times as large."""
        made = Distribution.__new__(Distribution)
        made._first, made._below, made._whole, made.total, made._middles = self._first, self._below, self._whole, self.total, None
        made._times = self._times * times
        made.mean = None if self.mean is None else self.mean * times
        return made

    def quantile(self, share: float) -> float | None:
        """The value that a `share` of all do not exceed; None: nothing is known."""
        below = self._below
        if self.mean is None:
            return None
        goal = share * self._whole
        place = bisect_left(below, goal, 1, len(below) - 1)
        under = below[place - 1]
        inside = below[place] - under
        part = min(1.0, max(0.0, (goal - under) / inside)) if inside > 0.0 else 1.0
        return float(2.0 ** ((self._first + place - 1 + part) / STEPS)) * self._times

    def within(self, value: float) -> float | None:
        """The share of all that do not exceed `value`; None: nothing is known."""
        if self.mean is None:
            return None
        at = log2(min(MOST, max(LEAST, value / self._times))) * STEPS - self._first
        place = floor(at)
        below = self._below
        if place < 0:
            return 0.0
        if place >= len(below) - 1:
            return 1.0
        return min(1.0, (below[place] + (at - place) * (below[place + 1] - below[place])) / self._whole)

    def mean_up_to(self, limit: float) -> float | None:
        """The mean of min(value, `limit`); None: nothing is known."""
        if self.mean is None or limit <= 0.0:
            return self.mean and 0.0
        sums = self._middles
        if sums is None:
            sums = self._middles = self._value_sums()
        limit, below = min(MOST, limit), self._below
        place = min(len(below) - 1, max(0, floor(log2(limit) * STEPS) - self._first))
        return min(limit, self.mean, (sums[place] + limit * (self._whole - below[place])) / self._whole)

    def _value_sums(self) -> list[float]:
        """The sum of the values in all buckets below each; scaled, for their exact sum is known."""
        below, at = self._below, self._first - LOWEST
        sums = list(accumulate(((high - low) * _MIDDLES[at + i] for i, (low, high) in enumerate(pairwise(below))), initial=0.0))
        exact = (self.mean or 0.0) * self._whole
        return [each * exact / sums[-1] for each in sums]
