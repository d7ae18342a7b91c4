"""The configuration's policies as the rules that the policy package decides by."""

from msgspec.structs import replace

from config.settings import PolicySettings, SloSettings
from contract.call import Drop
from contract.patience import Patience
from ledger.prices import NUSD_PER_USD
from policy.rule import NO_SLO, Caching, Rule, Slo, Weights

MAX_CAPPED = 1000
DROPS: dict[bool | str, Drop] = {False: "nothing", "hints": "hints", True: "everything"}


def rule_of(name: str, policy: PolicySettings) -> Rule:
    weights, hedge, timeouts, residency = policy.weights, policy.hedge, policy.timeouts, policy.residency
    after = None if hedge is None else hedge.after
    return Rule(
        name=name,
        objective=policy.objective_name,
        weights=Weights(weights.cost, weights.latency, weights.throughput),
        slo=NO_SLO if policy.slo is None else _slo(policy.slo),
        max_nusd=None if policy.max_usd_per_request is None else round(policy.max_usd_per_request * NUSD_PER_USD),
        fallback=policy.fallback,
        residency=residency,
        max_attempts=policy.retry.max_attempts,
        retry_share=policy.retry.budget,
        hedge_after=after if after is None or after == "p95" else after / 1000,
        hedge_share=0.0 if hedge is None else hedge.max_extra_spend,
        recovery=policy.recovery,
        commit_after_s=policy.held_ms / 1000,
        explore=policy.explore_share,
        patience=None if timeouts is None else Patience(**timeouts.model_dump()),
        drop=DROPS[policy.drop_unsupported],
        caching=None if policy.cache is None else Caching(**policy.cache.model_dump()),
    )


class Caps:
    """Policies with what a key may spend on one request at most: the same object for the same pair, so that what is known of it stays known."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], tuple[Rule, Rule]] = {}

    def capped(self, rule: Rule, max_nusd: int) -> Rule:
        if rule.max_nusd is not None and rule.max_nusd <= max_nusd:
            return rule
        found = self._made.get((id(rule), max_nusd))
        if found is None or found[0] is not rule:
            if len(self._made) >= MAX_CAPPED:
                self._made.clear()
            found = self._made[id(rule), max_nusd] = rule, replace(rule, max_nusd=max_nusd)  # the rule is kept, so that its id stays its own
        return found[1]


def _slo(slo: SloSettings) -> Slo:
    return Slo(_seconds(slo.ttft_p95_ms), slo.tokens_per_s, _seconds(slo.deadline_ms))


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
