"""Why `cheapest` misses and what it pays too much for: each choice beside the informed one's and the clairvoyant's, in the very same state.

The informed one has our own rule and true odds (bench/policy/informed.py). Where it would have chosen alike, a miss is chance, and what was
paid beside the clairvoyant's choice is the price of not knowing the luck. Where it would have chosen otherwise, a cause says what we had wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from bench.policy.informed import Informed
from bench.policy.scenarios import Scenario
from bench.policy.simulate import Attempt, Job, Simulation
from bench.policy.strategies import Choice, Clairvoyant, Ready
from bench.policy.world import Chance, Request, World
from policy.forecast import Forecast
from policy.plan import Plan
from policy.prediction import Prediction
from policy.rule import Rule

WRONG = 0.05  # odds that are off by more are wrong
FEW = 20.0  # answers behind a forecast: with fewer it is mostly borrowed from other lengths and loads
ILL = 0.5  # of the attempts fail: an outage

SAME, EXPLORED, OUTAGE, HELD = (
    "chance: the informed choice is the same",
    "measuring",
    "an outage begins",
    "a breaker or a limit held a well target back",
)
LIMITED = "over its rate limit, which none is told"
QUEUE, COLD = "an engine's queue judged wrong", "odds wrong where little is known"
OPTIMISTIC, PESSIMISTIC, PRICE = "odds too high of the chosen", "odds too low of a better one", "odds right: price or cache judged otherwise"


@dataclass(slots=True)
class Sum:
    """Requests, misses, nano-dollars; `informed_*`, `best_*`: what the informed choice, and the clairvoyant's, would have come to in their place."""

    requests: int = 0
    missed: int = 0
    informed_missed: int = 0
    spent: float = 0.0
    informed_spent: float = 0.0
    best_spent: float = 0.0

    def add(self, other: "Sum") -> None:
        for name in Sum.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Judged(Informed):
    """Chooses as `cheapest` does; asks the informed one beside."""

    def __init__(self, rule: Rule, scenario: Scenario, world: World) -> None:
        super().__init__(rule, scenario, world)
        self._best = Clairvoyant(scenario, world)
        self._slo = scenario.slo
        self._truly = False
        self.judged: dict[int, tuple[str, Sum]] = {}

    def _forecast(self, index: int, request: Request, now: float, cold_tokens: int, load: int) -> Forecast:
        learned = self.learned(index, now, cold_tokens, load)
        return self.true(index, request, now, learned.cache_share) if self._truly else learned

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        made = super().choose(request, now, ready)
        asked: Ready = {
            index: "closed" for index in range(len(self._world.targets)) if self._world.outcome(index, request, now).failure != "rate_limited"
        }
        self._truly = True
        try:
            informed = super().choose(request, now, asked or ready)
        finally:
            self._truly = False
        assert made.plan is not None and informed.plan is not None
        missed, spent = self._followed(request, now, [each.candidate.index for each in informed.plan.attempts])
        _, best_spent = self._followed(request, now, self._best.choose(request, now, ready).order)
        cause = self._cause(made.plan, informed.plan, now, ready)
        self.judged[request.index] = cause, Sum(1, 0, missed, 0.0, spent, best_spent)
        return made

    def _followed(self, request: Request, now: float, order: Sequence[int]) -> tuple[int, float]:
        """What would come of an order, in the state of now: whether it misses, and its cost."""
        at, spent = now, 0.0
        for index in order[:3]:
            outcome = self._world.outcome(index, request, now)
            spent += outcome.cost_nusd
            if outcome.failure is None:
                late = at + outcome.ttft_s - now > (self._slo.ttft_s or inf) or at + outcome.total_s - now > (self._slo.deadline_s or inf)
                return int(late), spent
            at += outcome.ttft_s
        return 1, spent

    def _cause(self, made: Plan, informed: Plan, now: float, ready: Ready) -> str:
        chosen, better = made.attempts[0], informed.attempts[0]
        index, wanted = chosen.candidate.index, better.candidate.index
        if made.exploring:
            return EXPLORED
        if index == wanted:
            return SAME
        if wanted not in ready:
            return HELD
        target = self._world.targets[index]
        if sum(0.0 if each is None else each(now) for each in (target.errors, target.hangs)) >= ILL:
            return OUTAGE
        if any(self._world.expected_wait_s(each, now) > 0.0 for each in (index, wanted)):
            return QUEUE
        ours = {each.candidate.index: each.prediction for each in made.attempts}
        truth = {each.candidate.index: each.prediction for each in informed.attempts}
        return _wrong(ours, truth, index, wanted) if index in truth else LIMITED


def _wrong(ours: dict[int, Prediction], truth: dict[int, Prediction], index: int, wanted: int) -> str:
    """Which odds were off: those of the chosen, or those of the one that the informed chose."""
    for which, cause in ((index, OPTIMISTIC), (wanted, PESSIMISTIC)):
        said, true = ours[which].p, truth[which].p
        if said is None or abs(said - (true or 0.0)) > WRONG:
            return COLD if ours[which].samples < FEW else cause
    return PRICE


class Attributed(Simulation):
    """A run of `cheapest` whose misses and spending are told apart by cause."""

    def __init__(self, scenario: Scenario, chance: Chance, explore: float) -> None:
        rule = Rule(objective="cheapest", slo=scenario.slo, explore=explore)
        self._judge: Judged | None = None

        def make(told: Scenario, world: World) -> Judged:
            self._judge = Judged(rule, told, world)
            return self._judge

        super().__init__(scenario, make, chance)
        self._spent: dict[int, float] = {}
        self._attained: set[int] = set()

    def _first_token(self, now: float, job: Job, attempt: Attempt) -> None:
        before = self.result.cost_nusd
        super()._first_token(now, job, attempt)
        self._paid(job, before)

    def _end(self, now: float, job: Job, attempt: Attempt) -> None:
        before, attained = self.result.cost_nusd, self.result.attained
        super()._end(now, job, attempt)
        self._paid(job, before)
        if self.result.attained > attained:
            self._attained.add(job.request.index)

    def _fail(self, now: float, job: Job, attempt: Attempt) -> None:
        before = self.result.cost_nusd
        super()._fail(now, job, attempt)
        self._paid(job, before)

    def _paid(self, job: Job, before: float) -> None:
        self._spent[job.request.index] = self._spent.get(job.request.index, 0.0) + self.result.cost_nusd - before

    def causes(self) -> dict[str, Sum]:
        self.run()
        assert self._judge is not None
        causes: dict[str, Sum] = {}
        for number, (cause, each) in self._judge.judged.items():
            each.missed, each.spent = int(number not in self._attained), self._spent.get(number, 0.0)
            causes.setdefault(cause, Sum()).add(each)
        return causes


HEAD = "| cause | requests | missed | informed misses | spent above the clairvoyant's choice | informed's |\n|---|---|---|---|---|---|"


def table(causes: dict[str, Sum]) -> str:
    """Shares of all requests, and of what the clairvoyant's choices would have cost."""
    whole = Sum()
    for each in causes.values():
        whole.add(each)
    rows = [(name, causes[name]) for name in sorted(causes, key=lambda name: -causes[name].missed)]
    return "\n".join([HEAD, *(_row(name, each, whole) for name, each in [*rows, ("all", whole)])])


def _row(name: str, each: Sum, whole: Sum) -> str:
    shares = [f"{count / whole.requests:.2%}" for count in (each.requests, each.missed, each.informed_missed)]
    extra = [f"{(spent - each.best_spent) / whole.best_spent:+.3f}" for spent in (each.spent, each.informed_spent)]
    return f"| {' | '.join((name, *shares, *extra))} |"
