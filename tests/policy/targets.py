"""Targets for the policy's tests: what the configuration says of each, and statistics fed through the door that a gateway feeds them by."""

from collections.abc import Sequence

from policy.ask import Ask
from policy.plan import Plan, plan
from policy.predict import Live
from policy.residency import FREE, Candidate, Rates, admit
from policy.rule import Rule
from policy.stats import TargetStats

NOW = 1000.0
ASK = Ask("req-1", streamed=True, prompt_tokens=1000, max_tokens=200)
COLD = TargetStats()


def usd(into: float, out: float, cached: float | None = None) -> Rates:
    """Dollars for a million tokens, as price lists say it."""
    return Rates(into * 1e3, out * 1e3, (into if cached is None else cached) * 1e3)


class Fed:
    """One target: its candidate, and the statistics of `samples` answers that were all alike, in each of `modes` (streamed or not)."""

    def __init__(
        self,
        name: str,
        rates: Rates | None = None,
        ttft_s: float = 0.2,
        token_s: float = 0.01,
        output: int | None = 100,
        samples: int = 30,
        failures: int = 0,
        cached: float = 0.0,
        paid: bool = False,
        modes: Sequence[bool] = (True, False),
        **candidate: object,
    ) -> None:
        self.name = name
        self.owned = bool(candidate.pop("owned", False))
        self.rates = FREE if self.owned else rates
        self.rest = candidate
        self.stats = TargetStats()
        self.live: dict[str, object] = {}
        for streamed in modes:
            for _ in range(samples):
                self.answered(ttft_s, token_s, output, streamed, cached)
            for _ in range(failures):
                self.stats.failed(NOW, streamed=streamed, code="upstream_stream_truncated", limited=False, paid=paid)

    def answered(self, ttft_s: float, token_s: float, output: int | None, streamed: bool = True, cached: float = 0.0, now: float = NOW) -> None:
        self.stats.observe(
            now,
            streamed=streamed,
            prompt_tokens=1000,
            load=0,
            ttft_s=ttft_s if streamed else None,
            total_s=ttft_s + ((output or 1) - 1) * token_s,
            output_tokens=output,
            input_tokens=1000,
            cached_tokens=round(1000 * cached),
        )

    def now(self, **live: object) -> "Fed":
        """In this state: what `Live` takes."""
        self.live = live
        return self

    def candidate(self, index: int) -> Candidate:
        return Candidate(index, self.name, self.owned, rates=self.rates, **self.rest)


def state(target: Fed, ask: Ask, now: float = NOW) -> Live:
    cold_tokens = ask.prompt_tokens - ask.warm.get(target.name, 0)
    return Live(target.stats.forecast(now, streamed=ask.streamed, prompt_tokens=cold_tokens, load=0), **target.live)


def planned(rule: Rule, targets: Sequence[Fed], ask: Ask = ASK, may_explore: bool = False) -> Plan:
    admitted = admit(rule, tuple(each.candidate(index) for index, each in enumerate(targets)))
    live = [state(targets[each.index], ask) for each in admitted.allowed]
    return plan(rule, ask, admitted, live, NOW, may_explore)


def order(plan: Plan) -> list[str]:
    return [attempt.candidate.name for attempt in plan.attempts]


def left_out(plan: Plan) -> dict[str, str]:
    return {gone.candidate.name: gone.rule for gone in plan.removed}
