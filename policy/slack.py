"""What a late answer costs, by how the promise was kept lately: a p95 allows 5 in 100 to be late; what is left of that buys cheaper answers."""

CONFIDENT = 0.95  # a target meets a p95 when it is at least so likely to be in time
LIKELY = 0.7  # where cost decides, a target that is less likely is out of the question
LEAST_MISS, MOST_MISS = 2.0, 8.0  # prices of a late answer, in answers of the dearest target: while few are late, and when too many are
FEW_LATE, MANY_LATE = 0.02, 0.05  # shares of the answers
HALF_LIFE_S = 600.0
PRIOR = 20.0  # answers taken to have been in time


class Slack:
    """Of one model. Counts fade with time."""

    __slots__ = ("_answers", "_at", "_late")

    def __init__(self) -> None:
        self._answers = self._late = 0.0
        self._at = 0.0

    def answered(self, now: float, late: bool) -> None:
        """A request that something was promised ended; `late`: it missed the promise, failed ones included."""
        keep = 0.5 ** ((now - self._at) / HALF_LIFE_S)
        self._at = now
        self._answers = self._answers * keep + 1.0
        self._late = self._late * keep + late

    def miss(self) -> float:
        """The price of a late answer, in answers of the dearest target."""
        share = self._late / (self._answers + PRIOR)
        part: float = min(1.0, max(0.0, (share - FEW_LATE) / (MANY_LATE - FEW_LATE)))
        return float(LEAST_MISS * (MOST_MISS / LEAST_MISS) ** part)
