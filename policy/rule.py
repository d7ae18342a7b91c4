"""A policy's plain values, as the configuration names them: what is wanted of an answer, and what may be done to get it."""

from typing import Literal

import msgspec

from contract.patience import Patience

Fallback = Literal["any", "local", "none"]
Residency = Literal["any", "local_only"] | tuple[str, ...]
Objective = Literal["ordered", "cheapest", "fastest", "throughput", "weighted"]
Recovery = Literal["error", "hold", "continue"]


class Weights(msgspec.Struct, frozen=True):
    """How much each thing counts under the objective `weighted`; they are compared as ratios to the best target's."""

    cost: float = 1.0
    latency: float = 1.0
    throughput: float = 1.0


class Slo(msgspec.Struct, frozen=True):
    """What is promised to the caller. `ttft_s`: 95 of 100 answers begin within it. `deadline_s`: from the request's arrival to its end."""

    ttft_s: float | None = None
    tokens_per_s: float | None = None
    deadline_s: float | None = None

    def kept(self, ttft_s: float | None, total_s: float, output_tokens: int | None) -> bool | None:
        """Whether a whole answer kept it; times from the request's arrival. `ttft_s` None: it was not streamed. None: nothing to hold it to."""
        checks = []
        if self.deadline_s is not None:
            checks.append(total_s <= self.deadline_s)
        if ttft_s is not None and self.ttft_s is not None:
            checks.append(ttft_s <= self.ttft_s)
        if ttft_s is not None and self.tokens_per_s is not None and output_tokens is not None and output_tokens > 1:
            checks.append(output_tokens - 1 >= self.tokens_per_s * (total_s - ttft_s))
        return all(checks) if checks else None


NO_SLO = Slo()


class Caching(msgspec.Struct, frozen=True):
    """Whole answers are kept so long for who asks the very same again. `replay`: the speed of a stream that comes from there.

    `single_flight`: requests that are the same at the same time share one answer.
    """

    ttl_s: float
    replay: Literal["full", "recorded"] = "full"
    single_flight: bool = True


class Rule(msgspec.Struct, frozen=True):
    """One policy. Money in nano-dollars.

    `max_attempts` counts every attempt of a request, retries of the same target included, a hedge's second runner not.
    `retry_share`: retries at a target, as a share of its recent requests. `hedge_after`: "p95", or seconds; None: no hedging.
    `hedge_share`: what second runners may cost, as a share of what is spent. `commit_after_s`: how far the client's stream runs behind
    under `hold`. `explore`: the share of requests that may measure a target that little is known of. `patience`: clocks that replace
    the targets' own. `drop`: of what a target cannot honour; the rest is refused. `caching` None: no answer is kept.
    """

    name: str = "default"
    objective: Objective = "ordered"
    weights: Weights = Weights()
    slo: Slo = NO_SLO
    max_nusd: int | None = None
    fallback: Fallback = "any"
    residency: Residency = "any"
    max_attempts: int = 3
    retry_share: float = 0.2
    hedge_after: Literal["p95"] | float | None = None
    hedge_share: float = 0.05
    recovery: Recovery = "error"
    commit_after_s: float = 0.0
    explore: float = 0.0
    patience: Patience | None = None
    drop: Literal["nothing", "hints", "everything"] = "hints"
    caching: Caching | None = None

    @property
    def counts_cost(self) -> bool:
        """Whether its choice compares prices."""
        return self.objective == "cheapest" or (self.objective == "weighted" and self.weights.cost > 0.0)

    @property
    def weighs_lateness(self) -> bool:
        """Whether a late answer has a price beside which its choice weighs those of the targets."""
        return self.objective == "cheapest" and self.slo != NO_SLO
