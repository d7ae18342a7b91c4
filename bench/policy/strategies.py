"""Who chooses: the gateway's own objectives, what other gateways do, and one who knows the future."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from msgspec.structs import replace

from bench.policy.scenarios import BYTES_A_TOKEN, Scenario
from bench.policy.world import PATIENCE_S, Outcome, Request, World
from policy.affinity import Affinity
from policy.ask import NOTHING, Ask
from policy.breaker import State
from policy.explore import ExploreBudget
from policy.forecast import Forecast
from policy.hedge import HedgeBudget, hedge
from policy.plan import Plan, plan
from policy.predict import TYPICAL_OUTPUT, Live
from policy.residency import Candidate, admit
from policy.rule import Rule
from policy.slack import Slack
from policy.stats import TargetStats

Ready = Mapping[int, State]
MEASURED = 0.02  # of the requests, which both we and the least-latency baseline may spend on targets that are not the best


@dataclass(frozen=True, slots=True)
class Choice:
    """`order`: targets by number, to be tried in turn. `hedge`: seconds until a second attempt begins at another target, and which.

    `plan`, `ask`: how our own objectives came to it.
    """

    order: list[int]
    hedge: tuple[float, int] | None = None
    plan: Plan | None = None
    ask: Ask | None = None


class Strategy(Protocol):
    """Told what a gateway sees: never the truth."""

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        """`ready`: the targets whose breakers let requests through, with the breakers' states; never empty."""

    def began(self, choice: Choice, index: int, load: int, outcome: Outcome, now: float) -> None:
        """The first token; `load`: what ran at the target when the attempt began."""

    def recovered(self, index: int) -> None:
        """A first token came that ended a target's outage."""

    def answered(self, request: Request, choice: Choice, index: int, load: int, outcome: Outcome, now: float, first: bool) -> None:
        """A whole answer; `load`: what ran at the target when it began; `first`: the request's first attempt."""

    def failed(self, choice: Choice, index: int, outcome: Outcome, now: float, first: bool) -> None: ...

    def ended(self, now: float, late: bool) -> None:
        """The request is over; `late`: it missed the SLO."""


class Fixed:
    """A baseline whose order follows from a key: the smallest first."""

    def __init__(self, key: Callable[[Request, int], float]) -> None:
        self._key = key

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        return Choice(sorted(ready, key=lambda index: (self._key(request, index), index)))

    def began(self, choice: Choice, index: int, load: int, outcome: Outcome, now: float) -> None:
        pass

    def recovered(self, index: int) -> None:
        pass

    def answered(self, request: Request, choice: Choice, index: int, load: int, outcome: Outcome, now: float, first: bool) -> None:
        pass

    def failed(self, choice: Choice, index: int, outcome: Outcome, now: float, first: bool) -> None:
        pass

    def ended(self, now: float, late: bool) -> None:
        pass


def always_first(scenario: Scenario, world: World) -> Strategy:
    return Fixed(lambda request, index: 0.0)


def cheapest_list_price(scenario: Scenario, world: World) -> Strategy:
    """By the price list alone: the prompt's estimated tokens, and an answer of ordinary length."""
    rates = [each.rates for each in scenario.targets]
    return Fixed(lambda request, index: request.estimated_tokens * rates[index].input + TYPICAL_OUTPUT * rates[index].output)


def round_robin(scenario: Scenario, world: World) -> Strategy:
    count = len(scenario.targets)
    return Fixed(lambda request, index: (index - request.index) % count)


class LeastLatency(Fixed):
    """An exponentially weighted mean of the time to the first token; a failure counts as PATIENCE_S. Those not measured yet come first.

    A share of the requests goes to the target that was measured longest ago: without it, whoever was slow once would be so for ever.
    """

    WEIGHT = 0.1

    def __init__(self, count: int) -> None:
        super().__init__(lambda request, index: self._mean_s[index])
        self._mean_s = [0.0] * count
        self._measured_at = [-1.0] * count

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        choice = super().choose(request, now, ready)
        if crc32(request.id.encode()) / 2**32 < MEASURED:
            choice.order.sort(key=lambda index: self._measured_at[index])
        return choice

    def _saw(self, index: int, seconds: float, now: float) -> None:
        mean_s = self._mean_s[index]
        self._mean_s[index] = mean_s + self.WEIGHT * (seconds - mean_s) if self._measured_at[index] >= 0 else seconds
        self._measured_at[index] = now

    def answered(self, request: Request, choice: Choice, index: int, load: int, outcome: Outcome, now: float, first: bool) -> None:
        self._saw(index, outcome.ttft_s, now)

    def failed(self, choice: Choice, index: int, outcome: Outcome, now: float, first: bool) -> None:
        self._saw(index, PATIENCE_S, now)


def least_latency(scenario: Scenario, world: World) -> Strategy:
    return LeastLatency(len(scenario.targets))


class Clairvoyant(Fixed):
    """Knows what this request would see at each target now, its luck included: the cheapest that meets the SLO, else the soonest to end.

    It does not foresee what its choice does to those who come later.
    """

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._slo = scenario.slo
        self._world = world
        self._now = 0.0
        super().__init__(self._rank)

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        self._now = now
        return super().choose(request, now, dict.fromkeys(range(len(self._world.targets)), "closed"))

    def _rank(self, request: Request, index: int) -> float:
        outcome = self._world.outcome(index, request, self._now)
        ttft_s, deadline_s = self._slo.ttft_s, self._slo.deadline_s
        if outcome.failure is not None:
            return 2e18
        if (ttft_s is None or outcome.ttft_s <= ttft_s) and (deadline_s is None or outcome.total_s <= deadline_s):
            return outcome.cost_nusd
        return 1e18 + outcome.total_s * 1e6


class Ours:
    """policy/ as the gateway drives it (gateway/planner.py, gateway/learning.py), with a rule's objective. `weights`: the targets' shares."""

    def __init__(self, rule: Rule, scenario: Scenario, world: World, weights: Sequence[float] = ()) -> None:
        self._rule = rule
        self._world = world
        shares: Sequence[float | None] = weights or [None] * len(scenario.targets)
        candidates = tuple(
            Candidate(index, each.name, each.slots > 0, rates=each.rates, weight=share)
            for index, (each, share) in enumerate(zip(scenario.targets, shares, strict=True))
        )
        self._admitted = admit(rule, candidates)
        self._stats = [TargetStats() for _ in candidates]
        self._affinity = Affinity()
        self._exploring = ExploreBudget()
        self._hedges = HedgeBudget()
        self._slack = Slack()

    def choose(self, request: Request, now: float, ready: Ready) -> Choice:
        rule, world, names = self._rule, self._world, self._admitted.allowed
        warm = NOTHING
        if request.prefixes and (held := self._affinity.warm(request.prefixes, now)):
            keeps = zip(names, self._stats, strict=True)
            warm = {
                each.name: min(request.estimated_tokens, int(held[each.name] // BYTES_A_TOKEN * stats.hits.share(now)))
                for each, stats in keeps
                if each.name in held
            }
        ask = Ask(request.id, True, request.estimated_tokens, request.max_tokens, warm=warm)
        live = []
        for index in range(len(self._stats)):
            cold_tokens = ask.prompt_tokens - warm.get(names[index].name, 0)
            load = world.in_flight(index)
            ready_at = now if index in ready else now + 1.0
            forecast = self._forecast(index, request, now, cold_tokens, load)
            if ready.get(index) == "half_open":  # one request must find out, whatever it failed with
                forecast = replace(forecast, failing=0.0, waste_factor=1.0, memo={})
            live.append(Live(forecast, ready_at, "breaker", world.expected_wait_s(index, now), load))
        may_explore = rule.explore > 0 and self._exploring.allows(now, rule.explore)
        made = plan(rule, ask, self._admitted, live, now, may_explore, self._slack.miss())
        self._slack.asked(now, made.dearest_nusd)
        second = hedge(rule, made, [each.name for each, state in zip(names, live, strict=True) if state.load == 0], now, self._hedges)
        then = None if second is None else (second.after_s, second.planned.candidate.index)
        return Choice([each.candidate.index for each in made.attempts], then, made, ask)

    def _forecast(self, index: int, request: Request, now: float, cold_tokens: int, load: int) -> Forecast:
        return self.learned(index, now, cold_tokens, load)

    def learned(self, index: int, now: float, cold_tokens: int, load: int) -> Forecast:
        return self._stats[index].forecast(now, streamed=True, prompt_tokens=cold_tokens, load=load)

    def began(self, choice: Choice, index: int, load: int, outcome: Outcome, now: float) -> None:
        ask = choice.ask
        assert ask is not None
        cold_tokens = ask.prompt_tokens - ask.warm.get(self._admitted.allowed[index].name, 0)
        self._stats[index].began(now, prompt_tokens=cold_tokens, load=load, ttft_s=outcome.ttft_s - outcome.wait_s)

    def recovered(self, index: int) -> None:
        self._stats[index].recovered()

    def answered(self, request: Request, choice: Choice, index: int, load: int, outcome: Outcome, now: float, first: bool) -> None:
        cached = outcome.cached_tokens
        self._stats[index].observe(
            now,
            streamed=True,
            prompt_tokens=request.prompt_tokens - cached,
            load=load,
            ttft_s=outcome.ttft_s - outcome.wait_s,
            total_s=outcome.total_s - outcome.wait_s,
            output_tokens=outcome.output_tokens,
            input_tokens=request.prompt_tokens,
            cached_tokens=cached,
            begun=True,
        )
        if held := self._affinity.warm(request.prefixes, now).get(self._admitted.allowed[index].name):
            self._stats[index].hits.seen(now, held // BYTES_A_TOKEN, cached)
        self._affinity.note(request.prefixes, self._admitted.allowed[index].name, now)
        self._hedges.spent(now, outcome.cost_nusd)
        extra = None
        explored = first and choice.plan is not None and choice.plan.exploring
        attempts = () if choice.plan is None else choice.plan.attempts
        if explored and len(attempts) > 1 and (best := attempts[1].prediction.effective_nusd) is not None:
            extra = outcome.cost_nusd - best
        self._exploring.answered(outcome.cost_nusd, extra)
        if explored:
            self._exploring.explored(failed=False)

    def failed(self, choice: Choice, index: int, outcome: Outcome, now: float, first: bool) -> None:
        assert outcome.failure is not None
        self._stats[index].failed(now, streamed=True, code=outcome.failure, limited=outcome.failure == "rate_limited", paid=bool(outcome.cost_nusd))
        if first and choice.plan is not None and choice.plan.exploring:
            self._exploring.explored(failed=True)

    def ended(self, now: float, late: bool) -> None:
        self._slack.answered(now, late)

    def hedged(self, index: int, choice: Choice, now: float) -> None:
        assert choice.plan is not None
        prediction = next(each.prediction for each in choice.plan.attempts if each.candidate.index == index)
        self._hedges.hedged(now, prediction.effective_nusd)


def ours(objective: str, hedged: bool = False) -> Callable[[Scenario, World], Strategy]:
    def make(scenario: Scenario, world: World) -> Strategy:
        rule = Rule(objective=objective, slo=scenario.slo, explore=0.0 if objective == "ordered" else MEASURED, hedge_after="p95" if hedged else None)  # type: ignore[arg-type]
        return Ours(rule, scenario, world)

    return make


CLAIRVOYANT = "clairvoyant"
BASELINES: dict[str, Callable[[Scenario, World], Strategy]] = {
    "always-first": always_first,
    "round-robin": round_robin,
    "least-latency": least_latency,
    "cheapest-list-price": cheapest_list_price,
}
OBJECTIVES = ("cheapest", "ordered", "weighted", "fastest", "throughput")
STRATEGIES: dict[str, Callable[[Scenario, World], Strategy]] = {
    CLAIRVOYANT: Clairvoyant,
    **{each: ours(each) for each in OBJECTIVES},
    "cheapest, hedged": ours("cheapest", hedged=True),
    **BASELINES,
}
