"""When a second attempt is started beside the first, on which target, and what all second runners together may cost."""

from collections.abc import Sequence

import msgspec

from policy.plan import Plan, Planned
from policy.rule import Rule

LATE = 0.5  # below this likelihood of being in time, the second runner starts at once
LEAST_S = 0.01
HALF_LIFE_S = 600.0


class Hedge(msgspec.Struct, frozen=True):
    """Start `planned` when the first attempt has given nothing for `after_s` seconds. `cost_nusd`: what to ask the budget for."""

    after_s: float
    planned: Planned
    cost_nusd: float | None


class HedgeBudget:
    """Second runners may cost `share` of what is spent. Where prices are not known they are counted as requests. Old spending fades.

    While nothing is owed one second runner is affordable: a share of what was not spent yet would never let the first one go. A share of 0: none.
    """

    __slots__ = ("_at", "_extra", "_hedges", "_requests", "_spent")

    def __init__(self) -> None:
        self._spent = self._extra = 0.0
        self._requests = self._hedges = 0.0
        self._at = 0.0

    def _fade(self, now: float) -> None:
        if (age_s := now - self._at) > 1.0:
            keep = 0.5 ** (age_s / HALF_LIFE_S) if self._at else 1.0
            self._spent *= keep
            self._extra *= keep
            self._requests *= keep
            self._hedges *= keep
            self._at = now

    def spent(self, now: float, cost_nusd: float | None) -> None:
        """A request was answered, for so much; None: not known."""
        self._fade(now)
        self._requests += 1.0
        self._spent += cost_nusd or 0.0

    def hedged(self, now: float, cost_nusd: float | None) -> None:
        """A second runner was started, for so much."""
        self._fade(now)
        self._hedges += 1.0
        self._extra += cost_nusd or 0.0

    def allows(self, now: float, share: float, cost_nusd: float | None) -> bool:
        self._fade(now)
        if cost_nusd == 0.0:
            return True
        if share <= 0.0:
            return False
        if cost_nusd is None:
            return self._hedges + 1.0 <= max(1.0, share * self._requests)
        return self._extra == 0.0 or self._extra + cost_nusd <= share * self._spent


def hedge(rule: Rule, plan: Plan, idle: Sequence[str], now: float, budget: HedgeBudget) -> Hedge | None:
    """`idle`: the targets where nothing runs. None: no hedging, no second target, no budget, or nothing known to hedge by.

    The best other target is an idle engine of our own, else the plan's next. An engine that is not idle has no price, but others wait for it:
    then it is the requests that are counted.
    """
    if rule.hedge_after is None or len(plan.attempts) < 2:
        return None
    first, others = plan.attempts[0].prediction, plan.attempts[1:]
    second = next((each for each in others if each.candidate.owned and each.candidate.name in idle), others[0])
    if rule.hedge_after == "p95":
        if first.ttft_p95_s is None:
            return None
        after_s = first.ttft_p95_s
    else:
        after_s = rule.hedge_after
    if first.p is not None and first.p < LATE and (second.prediction.p or 0.0) > first.p:
        after_s = LEAST_S
    busy = second.candidate.owned and second.candidate.name not in idle
    cost_nusd = None if busy else second.prediction.effective_nusd
    return Hedge(max(LEAST_S, after_s), second, cost_nusd) if budget.allows(now, rule.hedge_share, cost_nusd) else None
