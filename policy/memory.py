"""How many answers were seen of a target: a count that fades over days, so that one with little traffic is not forgotten within minutes."""

HALF_LIFE_S = 86_400.0
ENOUGH = 2.5  # of three answers, for some hours; of a hundred, for days


class Memory:
    """Starts empty. Times may come in any order."""

    __slots__ = ("_answers", "_at")

    def __init__(self) -> None:
        self._answers = self._at = 0.0

    def add(self, now: float, answers: float) -> None:
        age_s = now - self._at
        if not self._answers:
            self._answers, self._at = answers, now
        elif age_s > 0.0:
            self._answers, self._at = self._answers * 0.5 ** (age_s / HALF_LIFE_S) + answers, now
        else:
            self._answers += answers * 0.5 ** (-age_s / HALF_LIFE_S)

    def answers(self, now: float) -> float:
        """So many as are remembered."""
        return float(self._answers * 0.5 ** (max(0.0, now - self._at) / HALF_LIFE_S))
