"""How slow a target is at the moment, beside what its cells say (policy/cells.py): what its last answers found, in doublings of the wait.

Two estimates, both from each answer. The pace follows slowly and is always counted: so a target that gets slower, or quicker, by and by is seen
long before its cells have forgotten. A jump is found within a few answers, and is counted once it is more than chance.
"""

from math import log2

from contract.scale import LEAST

JUMP_GAIN = 0.25  # of what an answer differs, in doublings
JUMP_STEP = 2.0  # what one answer may differ and count at most: a slow minority is no new level
JUMP_LEAST = 0.8  # what is less is chance
JUMP_HALF_LIFE_S = 300.0  # so a target that nobody asks is tried again

PACE_GAIN = 0.05  # of an answer that comes right after another
PACE_MOST_GAIN = 0.5  # of one after a long silence: what was known before may be over
PACE_OLD_S = 100.0  # a silence of so long takes it half the way there
PACE_STEP = 0.4
PACE_HALF_LIFE_S = 600.0


class Level:
    """Of one target in one mode. Starts as its cells say, and returns to that."""

    __slots__ = ("_at", "_jump", "_pace")

    def __init__(self) -> None:
        self._jump = self._pace = 0.0
        self._at = 0.0

    def times(self, now: float) -> float:
        """How many times as long as its cells say one waits."""
        if not self._at:
            return 1.0
        age_s = max(0.0, now - self._at)
        jump: float = self._jump * 0.5 ** (age_s / JUMP_HALF_LIFE_S)
        if abs(jump) >= JUMP_LEAST:
            return float(2.0**jump)
        return float(2.0 ** (self._pace * 0.5 ** (age_s / PACE_HALF_LIFE_S)))

    def saw(self, now: float, wait_s: float, median_s: float) -> None:
        """An answer came after `wait_s`; `median_s`: what the cells said."""
        age_s = max(0.0, now - self._at)
        differs = log2(max(LEAST, wait_s) / median_s)
        jump = self._jump * 0.5 ** (age_s / JUMP_HALF_LIFE_S)
        self._jump = jump + JUMP_GAIN * _within(differs - jump, JUMP_STEP)
        pace = self._pace * 0.5 ** (age_s / PACE_HALF_LIFE_S)
        gain = PACE_MOST_GAIN + (PACE_GAIN - PACE_MOST_GAIN) * 0.5 ** (age_s / PACE_OLD_S)
        self._pace = pace + gain * _within(differs - pace, PACE_STEP)
        self._at = now


def _within(value: float, most: float) -> float:
    return min(most, max(-most, value))
