"""One strategy against one scenario, event by event in simulated time; and what came of it.

Around every strategy stands the same gateway: a breaker for each target (policy/breaker.py) that takes it out of the choice, a Retry-After that
is heeded, the same patience, fail-over to the next in the strategy's order, the same limit on attempts.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf

from bench.policy.scenarios import Scenario
from bench.policy.strategies import Choice, Ours, Strategy
from bench.policy.world import Chance, Outcome, Request, World
from policy.breaker import Breaker

MAX_ATTEMPTS = 3


@dataclass(slots=True)
class Result:
    """Counts of requests; nano-dollars. `used`: answers by target."""

    requests: int = 0
    attained: int = 0
    failed: int = 0
    cost_nusd: float = 0.0
    used: Counter[str] = field(default_factory=Counter)

    @property
    def attainment(self) -> float:
        return self.attained / self.requests

    @property
    def usd_per_1k(self) -> float:
        return self.cost_nusd / self.requests / 1e6

    @property
    def usd_per_1k_attained(self) -> float:
        return self.cost_nusd / self.attained / 1e6 if self.attained else inf

    def __add__(self, other: "Result") -> "Result":
        return Result(
            self.requests + other.requests,
            self.attained + other.attained,
            self.failed + other.failed,
            self.cost_nusd + other.cost_nusd,
            self.used + other.used,
        )


@dataclass(slots=True)
class Job:
    request: Request
    choice: Choice
    left: list[int]
    made: int = 0
    running: "list[Attempt]" = field(default_factory=list)
    answered: bool = False


@dataclass(slots=True)
class Attempt:
    index: int
    began: float
    load: int
    held: int
    outcome: Outcome
    first: bool
    over: bool = False


class Simulation:
    """One run. The clairvoyant alone needs no breakers: it knows who will answer."""

    def __init__(self, scenario: Scenario, make: Callable[[Scenario, World], Strategy], chance: Chance) -> None:
        self._scenario = scenario
        self._chance = chance
        self._world = World(scenario.targets, chance)
        self._strategy = make(scenario, self._world)
        self._breakers = [Breaker() for _ in scenario.targets]
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0
        self.result = Result()

    def run(self) -> Result:
        events = self._events
        for request in self._scenario.requests:
            while events and events[0][0] <= request.at:
                self._happen()
            self._arrive(request)
        while events:
            self._happen()
        self.result.requests = len(self._scenario.requests)
        return self.result

    def _happen(self) -> None:
        at, _, what, about = heappop(self._events)
        what(at, *about)

    def _later(self, at: float, what: Callable[..., None], *about: object) -> None:
        self._count += 1
        heappush(self._events, (at, self._count, what, about))

    # --- a request ----------------------------------------------------------------------------------------------------
    def _arrive(self, request: Request) -> None:
        now = request.at
        ready = {index: breaker.state(now) for index, breaker in enumerate(self._breakers) if breaker.available(now)}
        if not ready:
            self.result.failed += 1
            return
        choice = self._strategy.choose(request, now, ready)
        job = Job(request, choice, list(choice.order))
        self._attempt(now, job, job.left.pop(0))
        if choice.hedge is not None:
            self._later(now + choice.hedge[0], self._hedge, job, choice.hedge[1])

    def _attempt(self, now: float, job: Job, index: int, counted: bool = True) -> None:
        load = self._world.in_flight(index)
        outcome = self._world.begin(index, job.request, now)
        attempt = Attempt(index, now, load, self._breakers[index].begin(now), outcome, job.made == 0)
        job.made += counted
        job.running.append(attempt)
        if outcome.failure is None:
            self._later(now + outcome.ttft_s, self._first_token, job, attempt)
            self._later(now + outcome.total_s, self._end, job, attempt)
        else:
            self._later(now + outcome.ttft_s, self._fail, job, attempt)

    def _hedge(self, now: float, job: Job, index: int) -> None:
        if job.answered or index not in job.left or not job.running or not job.running[0].first:
            return
        job.left.remove(index)
        assert isinstance(self._strategy, Ours)
        self._strategy.hedged(index, job.choice, now)
        self._attempt(now, job, index, counted=False)

    def _first_token(self, now: float, job: Job, attempt: Attempt) -> None:
        if attempt.over:
            return
        job.answered = True
        if self._breakers[attempt.index].answered(attempt.held):
            self._strategy.recovered(attempt.index)
        self._strategy.began(job.choice, attempt.index, attempt.load, attempt.outcome, now)
        for other in job.running:
            if other is not attempt:
                other.over = True
                self.result.cost_nusd += self._world.abandon(other.index, now, other.began, other.outcome)
                self._breakers[other.index].gave_up(other.held)
        job.running = [attempt]

    def _end(self, now: float, job: Job, attempt: Attempt) -> None:
        if attempt.over:
            return
        request, outcome, slo, result = job.request, attempt.outcome, self._scenario.slo, self.result
        self._world.end(attempt.index, request, now, outcome)
        self._breakers[attempt.index].succeeded(now, attempt.held)
        self._strategy.answered(request, job.choice, attempt.index, attempt.load, outcome, now, attempt.first)
        result.cost_nusd += outcome.cost_nusd
        result.used[self._scenario.targets[attempt.index].name] += 1
        began_s = attempt.began + outcome.ttft_s - request.at
        attained = began_s <= (slo.ttft_s or inf) and now - request.at <= (slo.deadline_s or inf)
        result.attained += attained
        self._strategy.ended(now, late=not attained)

    def _fail(self, now: float, job: Job, attempt: Attempt) -> None:
        if attempt.over:
            return
        index, outcome, breaker = attempt.index, attempt.outcome, self._breakers[attempt.index]
        self._world.end(index, job.request, now, outcome)
        self.result.cost_nusd += outcome.cost_nusd
        if outcome.failure == "rate_limited":
            breaker.gave_up(attempt.held)
            breaker.cool(now, outcome.retry_after_s or 1.0)
        else:
            breaker.failed(now, attempt.held, self._chance.of(job.request.index, index).jitter)
        self._strategy.failed(job.choice, index, outcome, now, attempt.first)
        job.running.remove(attempt)
        if job.running:
            return  # the other runner may still answer
        while job.left and not self._breakers[job.left[0]].available(now):
            job.left.pop(0)
        if job.left and job.made < MAX_ATTEMPTS:
            self._attempt(now, job, job.left.pop(0))
        else:
            self.result.failed += 1
            self._strategy.ended(now, late=True)


def compare(scenario: Scenario, strategies: dict[str, Callable[[Scenario, World], Strategy]], seed: int) -> dict[str, Result]:
    """Every strategy against the same requests and the same luck."""
    chance = Chance(seed)
    return {name: Simulation(scenario, make, chance).run() for name, make in strategies.items()}
