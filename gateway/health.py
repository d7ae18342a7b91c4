"""Whether a target may be tried now: its breaker, its retry budget, what runs there. One for each target, wherever it is listed."""

from contract.errors import AttemptError, UpstreamOverloaded
from policy.breaker import Breaker, RetryBudget, State, counts_as_failure


class Health:
    """`running`: attempts in flight, those of batches among them."""

    __slots__ = ("_behind", "breaker", "retries", "running")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.retries = RetryBudget()
        self.running = 0
        self._behind: Behind | None = None

    def of(self, batch: bool) -> "Health":
        """This, or as rows of batches find the target."""
        if not batch:
            return self
        if self._behind is None:
            self._behind = Behind(self)
        return self._behind

    def available(self, now: float) -> bool:
        """Whether an attempt may begin."""
        return self.breaker.available(now)

    def retry_at(self, now: float) -> float:
        """When an attempt may begin; `now`, when it may at once."""
        return self.breaker.retry_at(now)

    def state(self, now: float) -> State:
        return self.breaker.state(now)

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


class Behind(Health):
    """The target's for rows of batches. They keep away while live requests must, and by what they met themselves; that keeps no live request away,
    nor do they take the probe of live requests."""

    __slots__ = ("_front",)

    def __init__(self, front: Health) -> None:
        super().__init__()
        self._front = front

    def available(self, now: float) -> bool:
        return self.breaker.available(now) and self._front.available(now)

    def retry_at(self, now: float) -> float:
        return max(self.breaker.retry_at(now), self._front.retry_at(now))

    def state(self, now: float) -> State:
        own = self.breaker.state(now)
        return self._front.state(now) if own == "closed" else own

    def begin(self, now: float) -> int:
        self._front.running += 1
        return super().begin(now)

    def ended(self, now: float, held: int, error: AttemptError | None, answered: bool, jitter: float) -> None:
        self._front.running -= 1
        super().ended(now, held, error, answered, jitter)
