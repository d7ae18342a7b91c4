"""Which targets to try for one request, in which order, and why: a pure function of rule, request and what is known of each target.

residency     what is forbidden never gets here (policy/residency.py)
fit           bound state, capabilities, context length, price limit
ready         open breakers, cooling keys, stopped engines, full queues
predicted     what the request would see at each target that is left (policy/predict.py)
SLO           those predicted to meet it come first; then those of which too little is known; then the rest, the likeliest first
objective     the order among those that meet it; under `ordered` also among those of which too little is known
exploration   now and then a target of which little is known goes first, so that it gets known
fallback      what may follow the first: any, local or none
"""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from policy.ask import Ask
from policy.predict import KNOWN, TYPICAL_OUTPUT, Live, predict
from policy.prediction import Prediction
from policy.residency import Admitted, Allowed, Removed
from policy.rule import NO_SLO, Rule

FEWEST_BYTES = 6 / 4  # a prompt estimated at 4 bytes a token may have 6: what exceeds a context even so is sure to
EXPLORE_PRICE = 3.0  # a target may be measured at up to so many times the price of the best
NEAR = 0.02  # keys that differ by less are a tie


class Planned(msgspec.Struct, frozen=True):
    candidate: Allowed
    reason: str
    prediction: Prediction


class Plan(msgspec.Struct, frozen=True):
    """`attempts` in the order to try them. `why`: what decided between them. `slo_met`: whether the first is predicted to meet the SLO.

    `soonest_at`: when the first of those that are not ready will be (monotonic seconds); None: nobody is waited for.
    `exploring`: the first is there to be measured.
    """

    attempts: tuple[Planned, ...]
    removed: tuple[Removed, ...]
    why: str
    slo_met: bool | None = None
    soonest_at: float | None = None
    exploring: bool = False


class _Ranked(msgspec.Struct):
    candidate: Allowed
    live: Live
    prediction: Prediction
    group: int  # 0: meets the SLO, or may; 1: too little is known; 2: does not
    key: float = 0.0


def plan(rule: Rule, ask: Ask, admitted: Admitted, live: Sequence[Live], now: float, may_explore: bool = False) -> Plan:
    """`live[i]` belongs to `admitted.allowed[i]`. `may_explore`: the exploration's budget has room."""
    removed = list(admitted.removed)
    ranked, soonest_at = _ready(rule, ask, admitted.allowed, live, now, removed)
    if not ranked:
        return Plan((), tuple(removed), "no target is left", None, soonest_at)
    _rank(rule, ask, ranked)
    ranked.sort(key=_order)
    why = _break_tie(rule, ask, ranked)
    exploring = may_explore and rule.explore > 0 and len(ranked) > 1 and _explore(rule, ask, ranked)
    first = ranked[0]
    attempts = [Planned(first.candidate, "exploring" if exploring else why, first.prediction)]
    for each in ranked[1:]:
        if rule.fallback == "none":
            removed.append(Removed(each.candidate, "fallback: none", each.prediction))
        elif rule.fallback == "local" and not each.candidate.owned:
            removed.append(Removed(each.candidate, "fallback: local", each.prediction))
        else:
            attempts.append(Planned(each.candidate, "fallback", each.prediction))
    slo_met = None if first.prediction.p is None else first.group == 0
    return Plan(tuple(attempts), tuple(removed), "exploring" if exploring else why, slo_met, soonest_at, exploring)


# --- who may be asked ---------------------------------------------------------------------------------------------------
def _ready(
    rule: Rule, ask: Ask, allowed: Sequence[Allowed], live: Sequence[Live], now: float, removed: list[Removed]
) -> tuple[list[_Ranked], float | None]:
    """The targets that fit the request and may be tried now, each with its prediction; and when the first of the others may be."""
    soonest_at: float | None = None
    fitting: list[tuple[Allowed, Live]] = []
    misfits: list[tuple[Allowed, Live, str]] = []
    needs, bound_to, least_tokens = ask.needs, ask.bound_to, ask.prompt_tokens / FEWEST_BYTES
    primary = _fixed_first(rule, allowed, bound_to)
    for candidate, state in zip(allowed, live, strict=True):
        if bound_to is not None and candidate.name != bound_to:
            removed.append(Removed(candidate, "the request's state is bound to another target"))
        elif primary is not None and candidate is not primary and (rule.fallback == "none" or not candidate.owned):
            removed.append(Removed(candidate, f"fallback: {rule.fallback}"))
        elif candidate.context_tokens is not None and least_tokens > candidate.context_tokens:
            misfits.append((candidate, state, f"context: about {ask.prompt_tokens} tokens, it takes {candidate.context_tokens}"))
        elif needs and not needs.isdisjoint(candidate.lacks):
            misfits.append((candidate, state, f"cannot: {', '.join(sorted(needs & candidate.lacks))}"))
        elif state.ready_at > now:
            removed.append(Removed(candidate, state.busy, predict(ask, candidate, state, rule.slo, TYPICAL_OUTPUT)))
            soonest_at = state.ready_at if soonest_at is None else min(soonest_at, state.ready_at)
        else:
            fitting.append((candidate, state))
    if not fitting and soonest_at is None:  # nobody fits by what is known; the target itself says best why not
        fitting = [(candidate, state) for candidate, state, _ in misfits if state.ready_at <= now]
        soonest_at = None if fitting else min((state.ready_at for _, state, _ in misfits), default=None)
        misfits = [each for each in misfits if each[1].ready_at > now]
    removed += [Removed(candidate, why) for candidate, _, why in misfits]
    return _priced(rule, ask, fitting, removed), soonest_at


def _fixed_first(rule: Rule, allowed: Sequence[Allowed], bound_to: str | None) -> Allowed | None:
    """The target that must come first, where order alone decides and not every other may follow: its failure opens no way for the rest."""
    if rule.fallback == "any" or rule.objective != "ordered" or rule.slo != NO_SLO:
        return None
    left = [each for each in allowed if bound_to is None or each.name == bound_to]
    return left[0] if left and all(each.weight is None for each in left) else None


def _priced(rule: Rule, ask: Ask, fitting: list[tuple[Allowed, Live]], removed: list[Removed]) -> list[_Ranked]:
    typical, slo, max_nusd = _typical_output(ask, fitting), rule.slo, rule.max_nusd
    ranked: list[_Ranked] = []
    for candidate, state in fitting:
        prediction = predict(ask, candidate, state, slo, typical)
        if max_nusd is not None and (prediction.cost_nusd is None or prediction.cost_nusd > max_nusd):
            told = "its price is not known" if prediction.cost_nusd is None else f"about ${prediction.cost_nusd / 1e9:.6f}"
            removed.append(Removed(candidate, f"max_usd_per_request: {told}", prediction))
            continue
        ranked.append(_Ranked(candidate, state, prediction, _group(rule, prediction)))
    return ranked


def _group(rule: Rule, prediction: Prediction) -> int:
    """In order, a target is not passed over for want of measurements: nothing would ever measure it again."""
    if prediction.meets:
        return 0
    if prediction.p is None:
        return 0 if rule.objective == "ordered" else 1
    return 2


def _typical_output(ask: Ask, fitting: Sequence[tuple[Allowed, Live]]) -> float:
    """Where a model has no history, its answer is thought as long as the others'."""
    known = [mean for _, state in fitting if (mean := state.forecast.output_mean) is not None]
    return sum(known) / len(known) if known else TYPICAL_OUTPUT


# --- in which order -----------------------------------------------------------------------------------------------------
def _order(each: _Ranked) -> tuple[int, float, int]:
    return each.group, each.key, each.candidate.index


def _rank(rule: Rule, ask: Ask, ranked: list[_Ranked]) -> None:
    """Fills in `key`: the smaller, the better. What is not known comes after what is, in the list's order."""
    unknown = float("inf")
    objective = rule.objective
    for each in ranked:
        seen = each.prediction
        if each.group == 2:
            each.key = -(seen.p or 0.0)
        elif objective == "ordered":
            each.key = float(each.candidate.index)
        elif objective == "cheapest":
            each.key = unknown if seen.cost_nusd is None else seen.cost_nusd
        elif objective == "fastest":
            each.key = unknown if seen.ttft_s is None else seen.ttft_s
        elif objective == "throughput":
            each.key = unknown if seen.tokens_per_s is None else -seen.tokens_per_s
    if objective == "weighted":
        _weigh(rule, ranked)


def _weigh(rule: Rule, ranked: list[_Ranked]) -> None:
    """Each quantity as a ratio to the best target's, so that dollars and seconds can be added; an unknown one counts as twice the worst.

    What costs nothing counts 0, and the best that costs something 1: else nothing could weigh against a free engine.
    """
    weights = rule.weights
    rows = [(e.prediction.cost_nusd, e.prediction.ttft_s, None if not e.prediction.tokens_per_s else 1 / e.prediction.tokens_per_s) for e in ranked]
    factors = (weights.cost, weights.latency, weights.throughput)
    scores = [0.0] * len(ranked)
    for column, factor in enumerate(factors):
        known = [value for row in rows if (value := row[column]) is not None]
        if not known or not factor:
            continue
        least, most = min((value for value in known if value), default=1.0), max(known)
        for index, row in enumerate(rows):
            value = row[column]
            scores[index] += factor * (2 * most / least if value is None else value / least)
    for each, score in zip(ranked, scores, strict=True):
        if each.group != 2:
            each.key = score


_WHY = {
    "ordered": "first in order",
    "cheapest": "cheapest",
    "fastest": "fastest",
    "throughput": "highest throughput",
    "weighted": "best by weight",
}


def _break_tie(rule: Rule, ask: Ask, ranked: list[_Ranked]) -> str:
    """Chooses among equals, and by weight, in a way that the request's id alone decides. Returns why the first is first."""
    first = ranked[0]
    why = _WHY[rule.objective]
    if rule.objective == "ordered":
        weighted = [each for each in ranked if each.candidate.weight is not None and each.group == first.group]
        if weighted:
            _to_front(ranked, _drawn(ask, weighted))
            why = f"its weight of {ranked[0].candidate.weight:g}"
    elif first.group != 2:
        equals = [each for each in ranked if each.group == first.group and abs(each.key - first.key) <= NEAR * abs(first.key)]
        if len(equals) > 1 and first.key != float("inf"):
            equals.sort(key=lambda each: each.candidate.index)  # whatever hair's breadth lies between them
            _to_front(ranked, equals[crc32(ask.request_id.encode()) % len(equals)])
    if rule.slo == NO_SLO:
        return why
    p = ranked[0].prediction.p
    if p is None:
        return f"{why}; the SLO's odds are not known yet"
    return f"{why} of those that meet the SLO" if first.group == 0 else f"most likely to meet the SLO, at {p:.0%}"


def _drawn(ask: Ask, weighted: list[_Ranked]) -> _Ranked:
    total = sum(each.candidate.weight or 0.0 for each in weighted)
    point = crc32(ask.request_id.encode()) / 2**32 * total
    for each in weighted:
        point -= each.candidate.weight or 0.0
        if point < 0:
            return each
    return weighted[-1]


def _to_front(ranked: list[_Ranked], chosen: _Ranked) -> None:
    ranked.remove(chosen)
    ranked.insert(0, chosen)


def _explore(rule: Rule, ask: Ask, ranked: list[_Ranked]) -> bool:
    """Puts a target that is worth measuring first, for a share of the requests; True when it did.

    Worth it: little is known of it, or it would win but for a latency that may have passed. The one it is put before must be allowed to
    follow: a measurement that fails costs the caller time, not the answer.
    """
    draw = crc32(b"explore" + ask.request_id.encode()) / 2**32
    if draw >= rule.explore or not (rule.fallback == "any" or (rule.fallback == "local" and ranked[0].candidate.owned)):
        return False
    best = ranked[0].prediction.cost_nusd
    worth = [
        each
        for each in ranked[1:]
        if (each.prediction.samples < KNOWN or each.group == 2) and (best is None or _at_most(each.prediction.cost_nusd, best * EXPLORE_PRICE))
    ]
    if not worth:
        return False
    _to_front(ranked, worth[int(draw / rule.explore * len(worth))])
    return True


def _at_most(cost_nusd: float | None, limit: float) -> bool:
    return cost_nusd is not None and cost_nusd <= limit
