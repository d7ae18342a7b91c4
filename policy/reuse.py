"""What a plan comes to for requests that are alike, while its targets stand as they do: all but their prompts' lengths, and what these cost. Pure.

Such a plan is made once, and again as soon as the forecast of one of its targets is another one. Kept are plans over one target, and those in order,
where every target may be tried: neither price nor the request's id decides anything there. All others, and a request that is bound to a target, has
part of its prompt in a cache, needs what not every target can do or is a batch's row, are planned by themselves (policy/plan.py).

A plan that can be used again is kept with the forecast of its first target, so that it goes with it.
"""

from collections.abc import Sequence

import msgspec

from policy.ask import Ask
from policy.decision import Decision, Telling, decision
from policy.plan import DEAR, Plan, Planned, plan
from policy.predict import TYPICAL_OUTPUT, Live, predict_all
from policy.ranking import FEWEST_BYTES, dearest
from policy.residency import Admitted
from policy.rule import Rule
from policy.shortlist import FEW
from policy.slack import Miss

MOST_REUSABLE = 100  # kept with one forecast: clients may ask for any max_tokens

Key = tuple[int, int, bool, int | None, int]  # rule and targets by their identity, streamed, the client's limit, choices


class ReusablePlan:
    """`plan`: the newest. `places`: of its attempts, among the targets. `others`: the forecasts of all targets but the first.

    `context_tokens`: of the target that takes least.
    """

    __slots__ = ("_telling", "_text", "admitted", "context_tokens", "others", "places", "plan", "prompt_tokens", "rule")

    def __init__(self, rule: Rule, admitted: Admitted, live: Sequence[Live], prompt_tokens: int, made: Plan) -> None:
        self.rule = rule  # kept, as `admitted` is, so that their identities stay their own
        self.admitted = admitted
        self.others = [each.forecast for each in live[1:]]
        self.context_tokens = min([each.context_tokens for each in admitted.allowed if each.context_tokens is not None], default=None)
        at = {each.index: place for place, each in enumerate(admitted.allowed)}
        self.places = [at[each.candidate.index] for each in made.attempts]
        self.plan = made
        self.prompt_tokens = prompt_tokens
        self._telling: tuple[str, Telling] | None = None
        self._text: tuple[Plan, msgspec.Raw] | None = None

    def planned(self, ask: Ask, live: Sequence[Live], now: float) -> Plan | None:
        """The plan for one more request; None: the targets do not stand as they did."""
        for each in live:
            if each.wait_s or each.ready_at > now:
                return None
        if self.others:
            for each, forecast in zip(live[1:], self.others, strict=True):
                if each.forecast is not forecast:
                    return None
        if self.prompt_tokens == ask.prompt_tokens:
            return self.plan
        if self.context_tokens is not None and ask.prompt_tokens / FEWEST_BYTES > self.context_tokens:
            return None
        self.plan, self.prompt_tokens = self._for(ask, live), ask.prompt_tokens
        return self.plan

    def _for(self, ask: Ask, live: Sequence[Live]) -> Plan:
        old, rule = self.plan, self.rule
        targets = [(each.candidate, live[place]) for each, place in zip(old.attempts, self.places, strict=True)]
        found = predict_all(ask, targets, rule.slo, TYPICAL_OUTPUT, 0, [each.prediction for each in old.attempts])
        attempts = tuple([Planned(each.candidate, each.reason, seen) for each, (_, seen) in zip(old.attempts, found, strict=True)])
        return Plan(attempts, old.removed, old.why, old.slo_met, dearest_nusd=dearest(found) if rule.weighs_lateness else 0.0)

    def told(self, ask: Ask, made: Plan, model: str) -> Decision | msgspec.Raw:
        """As `policy.decision.decision` tells it. By one thread."""
        known = self._text
        if known is not None and known[0] is made:
            return known[1]
        telling = self._telling
        if telling is None or telling[0] != model:
            telling = self._telling = model, Telling(decision(self.rule, ask, made, model))
        text = telling[1].text(ask.prompt_tokens, made.attempts)
        self._text = made, text
        return text


def plan_or_reuse(  # noqa: PLR0913 - as policy.plan.plan
    rule: Rule, ask: Ask, admitted: Admitted, live: Sequence[Live], now: float, may_explore: bool = False, miss: Miss = DEAR
) -> tuple[Plan, ReusablePlan | None]:
    """The same plan as `policy.plan.plan` makes, and what it can be used again by, if it can."""
    count = len(live)
    if not _may_be_reused(rule, ask, admitted, count, may_explore):
        return plan(rule, ask, admitted, live, now, may_explore, miss), None
    reusables = live[0].forecast.reusables
    key = id(rule), id(admitted), ask.streamed, ask.max_tokens, ask.choices
    reusable = reusables.get(key)
    if reusable is not None and (known := reusable.planned(ask, live, now)) is not None:
        return known, reusable
    made = plan(rule, ask, admitted, live, now, may_explore, miss)
    if not _is_reusable(admitted, live, made, now):
        return made, None
    if len(reusables) >= MOST_REUSABLE:
        reusables.clear()
    reusable = reusables[key] = ReusablePlan(rule, admitted, live, ask.prompt_tokens, made)
    return made, reusable


def _may_be_reused(rule: Rule, ask: Ask, admitted: Admitted, count: int, may_explore: bool) -> bool:
    """`admitted` as `admit` made it: what is left by a budget is another one for each request."""
    if count != 1 and (count == 0 or rule.objective != "ordered" or may_explore):
        return False
    if rule.max_nusd is not None or not admitted.price_kinds or ask.bound_to is not None or ask.planned is not None:
        return False
    return not (ask.needs or ask.warm or ask.batch)


def _is_reusable(admitted: Admitted, live: Sequence[Live], made: Plan, now: float) -> bool:
    """Whether every target may be tried, at once, and no draw is among them."""
    allowed = admitted.allowed
    if not 0 < len(made.attempts) == len(allowed) <= FEW or len(made.removed) != len(admitted.removed) or made.exploring:
        return False
    if any(each.wait_s or each.ready_at > now for each in live):
        return False
    return len(allowed) == 1 or all(each.weight is None and not each.replica_of for each in allowed)
