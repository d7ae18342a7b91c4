"""Answers by what their questions mean: in this process's memory, bounded in bytes. Pure: time is an argument.

Only questions of one context are compared: the same in all but the question itself. Of those whose vectors' signs are the most alike, a few have
their cosine taken, so that a look takes some milliseconds however many there are.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from heapq import nsmallest
from math import sqrt
from operator import mul

import msgspec

from cache.guard import difference
from cache.port import Entry, Kept

COMPARED = 32  # whose cosine is taken
MOST = 5_000  # questions of one context


class _Asked(msgspec.Struct):
    question: str
    vector: "array[float]"
    signs: int
    until: float
    entry: Entry

    @property
    def size(self) -> int:
        return self.entry.size + 9 * len(self.vector) + 4 * len(self.question)


class Likenesses:
    """Times are time.monotonic() seconds. The contexts used the longest ago go first, and within one the oldest questions."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._contexts: OrderedDict[bytes, OrderedDict[str, _Asked]] = OrderedDict()
        self.bytes = 0

    def find(self, context: bytes, question: str, vector: Sequence[float], threshold: float, now: float) -> Kept | None:
        """The answer of the question most alike, if its cosine reaches the threshold and nothing tells the two apart."""
        asked = self._contexts.get(context)
        if asked is None:
            return None
        self._contexts.move_to_end(context)
        for old in [each.question for each in asked.values() if each.until <= now]:
            self._drop(context, old)
        unit = _unit(vector)
        if unit is None:
            return None
        signs = _signs(unit)
        near = nsmallest(COMPARED, asked.values(), key=lambda each: (each.signs ^ signs).bit_count())
        ranked = sorted(((cosine(unit, each.vector), each) for each in near), key=lambda pair: -pair[0])
        for likeness, each in ranked:
            if likeness < threshold:
                return None
            if each.question == question or difference(question, each.question) is None:
                return Kept(each.entry, each.until - now)
        return None

    def put(self, context: bytes, question: str, vector: Sequence[float], entry: Entry, until: float) -> None:
        unit = _unit(vector)
        if unit is None:
            return
        new = _Asked(question, unit, _signs(unit), until, entry)
        if new.size * 8 > self._size:
            return
        if context in self._contexts:
            self._drop(context, question)
        asked = self._contexts.setdefault(context, OrderedDict())
        self._contexts.move_to_end(context)
        asked[question] = new
        self.bytes += new.size
        if len(asked) > MOST:
            self._drop(context, next(iter(asked)))
        while self.bytes > self._size:
            first = next(iter(self._contexts))
            self._drop(first, next(iter(self._contexts[first])))

    def _drop(self, context: bytes, question: str) -> None:
        asked = self._contexts[context]
        gone = asked.pop(question, None)
        if gone is not None:
            self.bytes -= gone.size
        if not asked:
            del self._contexts[context]


def cosine(one: "array[float]", other: "array[float]") -> float:
    """Of unit vectors; those of different lengths have nothing in common."""
    return sum(map(mul, one, other)) if len(one) == len(other) else 0.0


def _unit(vector: Sequence[float]) -> "array[float] | None":
    length = sqrt(sum(map(mul, vector, vector)))
    return array("d", [value / length for value in vector]) if length > 0.0 else None


def _signs(vector: "array[float]") -> int:
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)
