"""One who knows every target's true distribution, but not the luck: what our own rule would choose if its forecasts were right.

What no one can know before stays unknown to it: the luck of a request, how long those will run that an engine serves, the length of an answer.
"""

from math import exp, log
from statistics import NormalDist

from bench.policy.scenarios import Scenario
from bench.policy.strategies import Ours
from bench.policy.world import OUTPUT_SPREAD, TOKEN_SPREAD, Request, Target, World
from policy.forecast import Forecast
from policy.rule import Rule
from policy.sketch import Distribution, Sketch

KNOWN = 1000.0  # the weight of a forecast that is certain
_NORMAL = NormalDist()


class TrueWaits:
    """A target's time to the first token for one request: log-normal, and a share of it slow. Asked as a `policy.sketch.Distribution` is."""

    def __init__(self, target: Target, median_s: float) -> None:
        self._target = target
        self._median_s = median_s
        slow = 1.0 + target.slow_share * (target.slow_factor - 1.0)
        self.mean = median_s * exp(target.spread**2 / 2) * slow
        self.total = KNOWN

    def within(self, value: float) -> float:
        if value <= 0.0:
            return 0.0
        target, at = self._target, log(value / self._median_s)
        quick, slow = (_NORMAL.cdf(each / target.spread) for each in (at, at - log(target.slow_factor)))
        return (1.0 - target.slow_share) * quick + target.slow_share * slow

    def quantile(self, share: float) -> float:
        return self._median_s * exp(self._target.spread * _NORMAL.inv_cdf(share / (1.0 - self._target.slow_share)))


class Informed(Ours):
    """Our rule with forecasts that are true at the moment of the choice, failures that have begun among them."""

    def __init__(self, rule: Rule, scenario: Scenario, world: World) -> None:
        super().__init__(rule, scenario, world)
        self._outputs = []
        spread = exp(OUTPUT_SPREAD**2 / 2)
        for target in scenario.targets:
            outputs = Sketch()
            for request in scenario.requests:
                outputs.add(request.output_tokens * target.verbosity * spread, 1.0)
            self._outputs.append(Distribution([(outputs, 1.0)]))

    def _forecast(self, index: int, request: Request, now: float, cold_tokens: int, load: int) -> Forecast:
        return self.true(index, request, now, self.learned(index, now, cold_tokens, load).cache_share)

    def true(self, index: int, request: Request, now: float, cache_share: float | None) -> Forecast:
        target = self._world.targets[index]
        median_s, token_s = self._world.pace(index, request, now)
        waits, outputs = TrueWaits(target, median_s), self._outputs[index]
        failing = sum(0.0 if each is None else each(now) for each in (target.errors, target.hangs))
        token_s *= exp(TOKEN_SPREAD**2 / 2)
        total_s = waits.mean + token_s * (outputs.mean or 0.0)
        return Forecast(
            samples=KNOWN,
            ttft_mean_s=waits.mean,
            ttft_p50_s=median_s,
            ttft_p95_s=waits.quantile(0.95),
            token_s_mean=token_s,
            token_s_p95=token_s * exp(TOKEN_SPREAD * _NORMAL.inv_cdf(0.95)),
            total_mean_s=total_s,
            total_p95_s=total_s,
            output_mean=outputs.mean,
            error_rate=failing,
            failing=failing,
            cache_share=cache_share,
            waits=waits,  # type: ignore[arg-type]
            outputs=outputs,
        )
