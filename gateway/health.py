"""Whether a target may be tried now: its breaker, its retry budget, what runs there. One for each target, wherever it is listed."""

from contract.errors import AttemptError, UpstreamOverloaded
from policy.breaker import Breaker, RetryBudget, State, counts_as_failure


class Health:
    """`running`: attempts in flight, those of batches among them. `answered_at`: when one was whole last, on the monotonic clock."""

    __slots__ = ("_behind", "_life", "answered_at", "breaker", "retries", "running")

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.retries = RetryBudget()
        self.running = 0
        self.answered_at = -1e9
        self._behind: dict[str, Behind] = {}
        self._life = 0

    def of(self, team: str) -> "Health":
        """As the rows of a team's batches find the target; "": this."""
        if not team:
            return self
        found = self._behind.get(team)
        if found is None:
            found = self._behind[team] = Behind(self)
        return found

    def lives(self, life: int) -> None:
        """It is ready, for the so many-th time: what was seen of its earlier lives says nothing of this one."""
        if life != self._life:
            self._life = life
            for each in (self, *self._behind.values()):
                each.breaker.renew()

    def state_for_batches(self, now: float) -> State:
        """As any team's rows find the target: well, where one's do."""
        states = {each.state(now) for each in self._behind.values()} or {self.state(now)}
        return next(state for state in ("closed", "half_open", "cooling", "open") if state in states)

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
            self.answered_at = now
            breaker.succeeded(now, held)
        elif error is not None and counts_as_failure(error):
            breaker.failed(now, held, jitter)
        else:
            breaker.gave_up(held)
        if isinstance(error, UpstreamOverloaded) and error.retry_after_s is not None:
            breaker.cool(now, error.retry_after_s)


class Behind(Health):
    """The target's for the rows of one team's batches. They keep away while live requests must, and by what they met themselves; that keeps no live
    request away, and no other team's rows, nor do they take the probe of live requests."""

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
        if answered:
            self._front.answered_at = now
        super().ended(now, held, error, answered, jitter)
