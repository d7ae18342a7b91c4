"""What a late answer costs, by how the promise was kept lately: a p95 allows 5 in 100 to be late; what is left of that buys cheaper answers.

The price is one for all requests of a model, whatever they cost themselves: what is promised counts requests, and a request that would be dear
to save is better let go than two that are not.
"""

from typing import NamedTuple

CONFIDENT = 0.95  # a target meets a p95 when it is at least so likely to be in time
LIKELY = 0.7  # where cost decides, a target that is less likely is out of the question
LEAST_MISS, MOST_MISS = 4.5, 18.0  # prices of a late answer, in usual answers of the dearest target: while the promise is kept, and when it is not
MANY_LATE, TOO_MANY_LATE = 0.05, 0.1  # shares of the answers
HALF_LIFE_S = 600.0
PRIOR = 20.0  # answers taken to have been in time


class Miss(NamedTuple):
    """The price of a late answer: so many `times` what a usual request costs at its dearest target, in nano-dollars; None: that is not known."""

    times: float = MOST_MISS
    usual_nusd: float | None = None

    def nusd(self, dearest_nusd: float) -> float:
        """For a request that itself costs so much at its dearest target."""
        return self.times * (dearest_nusd if self.usual_nusd is None else self.usual_nusd)


class Slack:
    """Of one model. Counts and sums fade with time."""

    __slots__ = ("_answers", "_asked", "_asked_at", "_at", "_dearest", "_late")

    def __init__(self) -> None:
        self._answers = self._late = 0.0
        self._at = 0.0
        self._asked = self._dearest = 0.0
        self._asked_at = 0.0

    def answered(self, now: float, late: bool) -> None:
        """A request that something was promised ended; `late`: it missed the promise, failed ones included."""
        keep = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now
        self._answers = self._answers * keep + 1.0
        self._late = self._late * keep + late

    def asked(self, now: float, dearest_nusd: float) -> None:
        """A request that would cost so much at its dearest target; 0: nothing is known of prices, or they do not matter."""
        if not dearest_nusd:
            return
        keep = 0.5 ** ((now - self._asked_at) / HALF_LIFE_S)
        self._asked_at = now
        self._asked = self._asked * keep + 1.0
        self._dearest = self._dearest * keep + dearest_nusd

    def miss(self) -> Miss:
        """The price of a late answer."""
        share = self._late / (self._answers + PRIOR)
        part: float = min(1.0, max(0.0, (share - MANY_LATE) / (TOO_MANY_LATE - MANY_LATE)))
        times = float(LEAST_MISS * (MOST_MISS / LEAST_MISS) ** part)
        return Miss(times, self._dearest / self._asked if self._asked else None)
