"""Whether a row's failure says anything of the row: in an outage of its targets, each row is only tried to see whether they are well again."""

from collections.abc import Container
from time import monotonic

from gateway.health import Health

SURE_S = 5.0  # answers so soon after a row's first failure may have been under way before the outage
MOST_TRIALS = 100  # of one row that count as none of its attempts


class Trial:
    """One time that a row is asked of these targets. `probes`: every one of them was out of service before."""

    __slots__ = ("_targets", "began", "probes")

    def __init__(self, targets: list[Health], team: str) -> None:
        self._targets = targets
        self.began = monotonic()
        self.probes = all(target.of(team).state(self.began) != "closed" for target in targets)

    def answered_since(self, at: float) -> bool:
        """Whether any of them gave anybody a whole answer after that."""
        return any(target.answered_at > at for target in self._targets)


class Trials:
    """Of the rows in hand; what a restart forgets is how often one was tried in vain."""

    def __init__(self) -> None:
        self._failed: dict[tuple[str, int], tuple[float, int]] = {}  # when each failed first, and how often it was a trial since

    def outage(self, batch: str, line: int, trial: Trial | None) -> bool:
        """A row failed: whether that is its targets' outage, and no attempt of its own. Where they answered others meanwhile it is the row's."""
        if trial is None:
            return False
        first, trials = self._failed.get((batch, line), (trial.began, 0))
        outage = trial.probes and trials < MOST_TRIALS and not trial.answered_since(first + SURE_S)
        self._failed[batch, line] = first, trials + outage
        return outage

    def keep(self, active: Container[str]) -> None:
        """Those of these batches alone."""
        self._failed = {row: known for row, known in self._failed.items() if row[0] in active}

    def over(self, batch: str, line: int) -> None:
        self._failed.pop((batch, line), None)
