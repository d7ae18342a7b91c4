"""Whether a target may be tried now: its breaker, its retry budget, what runs there. One for each target, wherever it is listed."""

from contract.errors import AttemptError, UpstreamOverloaded
from policy.breaker import Breaker, RetryBudget, counts_as_failure


class Health:
    """`running`: attempts in flight."""

    __slots__ = ("breaker", "retries", "running")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.retries = RetryBudget()
        self.running = 0

    def begin(self, now: float) -> int:
        """An attempt begins; give its pass to `ended`."""
        self.running += 1
        return self.breaker.begin(now)

    def answers(self, held: int) -> bool:
        """Its first output is in hand. True: that ended an outage."""
        return self.breaker.answered(held)

    def ended(self, now: float, held: int, error: AttemptError | None, answered: bool, jitter: float) -> None:
        """It is over. `error`: what it failed with; `answered`: it is whole. Neither: the caller left, or somebody else answered."""
        self.running -= 1
        breaker = self.breaker
        if answered:
            breaker.succeeded(now, held)
        elif error is not None and counts_as_failure(error):
            breaker.failed(now, held, jitter)
        else:
            breaker.gave_up(held)
        if isinstance(error, UpstreamOverloaded) and error.retry_after_s is not None:
            breaker.cool(now, error.retry_after_s)
