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

from collections.abc import Mapping, Sequence
from operator import itemgetter
from zlib import crc32

import msgspec

from policy.ask import Ask
from policy.predict import KNOWN, TYPICAL_OUTPUT, Live, asked_of, predict
from policy.prediction import Prediction
from policy.replica import Replica, choose
from policy.residency import Admitted, Allowed, Removed
from policy.rule import NO_SLO, Rule
from policy.slack import LIKELY, MOST_MISS

FEWEST_BYTES = 6 / 4  # a prompt estimated at 4 bytes a token may have 6: what exceeds a context even so is sure to
EXPLORE_PRICE = 3.0  # where cost decides, a target may be measured at up to so many times the price of the best
MOST_EXPLORED, LEAST_EXPLORED = 2.0, 0.05  # times the rule's share: of who is in time again, and of who has no hope
UNKNOWN = float("inf")
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


# a target in the ranking: its group (0: meets the SLO, or may; 1: too little is known; 2: does not), its key, its place in the list
_Ranked = tuple[int, float, int, Allowed, Prediction]


def plan(rule: Rule, ask: Ask, admitted: Admitted, live: Sequence[Live], now: float, may_explore: bool = False, miss: float = MOST_MISS) -> Plan:  # noqa: PLR0913
    """`live[i]` belongs to `admitted.allowed[i]`. `may_explore`: the exploration's budget has room. `miss`: `policy.slack.Slack.miss`."""
    removed = list(admitted.removed)
    fitting, soonest_at = _ready(rule, ask, admitted.allowed, live, now, removed)
    ranked = _ranked(rule, _predicted(rule, ask, fitting, removed), miss)
    if not ranked:
        return Plan((), tuple(removed), "no target is left", None, soonest_at)
    ranked.sort()
    why = _break_tie(rule, ask, ranked, admitted.allowed[0])
    if ranked[0][3].replica_of:
        _choose_replica(ask, ranked, dict(zip((each.name for each in admitted.allowed), live, strict=True)))
    exploring = may_explore and rule.explore > 0 and len(ranked) > 1 and _explore(rule, ask, ranked)
    _, _, _, first, prediction = ranked[0]
    followers, fallback = ranked[1:], rule.fallback
    if fallback != "any":
        removed += [Removed(each[3], f"fallback: {fallback}", each[4]) for each in followers if fallback == "none" or not each[3].owned]
        followers = [each for each in followers if fallback == "local" and each[3].owned]
    why = "exploring" if exploring else why
    attempts = (Planned(first, why, prediction), *[Planned(candidate, "fallback", seen) for _, _, _, candidate, seen in followers])
    slo_met = None if prediction.p is None else prediction.meets
    return Plan(attempts, tuple(removed), why, slo_met, soonest_at, exploring)


# --- who may be asked ---------------------------------------------------------------------------------------------------
def _ready(
    rule: Rule, ask: Ask, allowed: Sequence[Allowed], live: Sequence[Live], now: float, removed: list[Removed]
) -> tuple[list[tuple[Allowed, Live]], float | None]:
    """The targets that fit the request and may be tried now; and when the first of the others may be."""
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
            removed.append(Removed(candidate, state.busy, predict(ask, candidate, state, rule.slo, TYPICAL_OUTPUT, asked_of(ask, rule.slo))))
            soonest_at = state.ready_at if soonest_at is None else min(soonest_at, state.ready_at)
        else:
            fitting.append((candidate, state))
    if not fitting and soonest_at is None and misfits:  # nobody fits by what is known; the target itself says best why not
        most = max(each[0].context_tokens or 0 for each in misfits)
        fitting = [(each, state) for each, state, _ in misfits if state.ready_at <= now and (each.context_tokens or most) == most]
        soonest_at = None if fitting else min(state.ready_at for _, state, _ in misfits)
        misfits = [each for each in misfits if all(each[0] is not asked for asked, _ in fitting)]
    removed += [Removed(candidate, why) for candidate, _, why in misfits]
    return fitting, soonest_at


def _fixed_first(rule: Rule, allowed: Sequence[Allowed], bound_to: str | None) -> Allowed | None:
    """The target that must come first, where order alone decides and not every other may follow: its failure opens no way for the rest."""
    if rule.fallback == "any" or rule.objective != "ordered" or rule.slo != NO_SLO:
        return None
    left = [each for each in allowed if bound_to is None or each.name == bound_to]
    return left[0] if left and all(each.weight is None for each in left) else None


def _typical_output(fitting: Sequence[tuple[Allowed, Live]]) -> float:
    """Where a model has no history, its answer is thought as long as the others'."""
    known = [mean for _, state in fitting if (mean := state.forecast.output_mean) is not None]
    return sum(known) / len(known) if known else TYPICAL_OUTPUT


# --- in which order -----------------------------------------------------------------------------------------------------
def _predicted(rule: Rule, ask: Ask, fitting: list[tuple[Allowed, Live]], removed: list[Removed]) -> list[tuple[Allowed, Prediction]]:
    """What the request would see at each target, without those that would cost too much."""
    slo, max_nusd = rule.slo, rule.max_nusd
    typical, asked = _typical_output(fitting), asked_of(ask, slo)
    predicted = [(candidate, predict(ask, candidate, state, slo, typical, asked)) for candidate, state in fitting]
    if max_nusd is None:
        return predicted
    left = []
    for candidate, seen in predicted:
        cost = seen.effective_nusd
        if cost is not None and cost <= max_nusd:
            left.append((candidate, seen))
            continue
        told = "its price is not known" if cost is None else f"about ${cost / 1e9:.6f}"
        removed.append(Removed(candidate, f"max_usd_per_request: {told}", seen))
    return left


def _ranked(rule: Rule, predicted: list[tuple[Allowed, Prediction]], miss: float) -> list[_Ranked]:
    """Each target with its key: the smaller, the better. What is not known comes after what is, in the list's order.

    Where cost decides, a target that is LIKELY to meet the SLO may come first, and the chance that it does not is part of its price.
    """
    objective = rule.objective
    by_odds = objective == "cheapest" and rule.slo != NO_SLO
    if by_odds:
        miss *= max((seen.effective_nusd or 0.0 for _, seen in predicted), default=0.0)
    ranked: list[_Ranked] = []
    for candidate, seen in predicted:
        p, cost = seen.p, seen.effective_nusd
        if by_odds and p is not None and p >= LIKELY:
            ranked.append((0, (UNKNOWN if cost is None else cost) + miss * (1.0 - p), candidate.index, candidate, seen))
            continue
        group = 0
        if not seen.meets:  # in order, nobody is passed over for want of measurements: nothing would ever measure it again
            group = 2 if p is not None else 1 if objective != "ordered" else 0
        key = UNKNOWN
        if group == 2:
            key = -(p or 0.0)
        elif objective == "ordered":
            key = 0.0  # by place
        elif objective == "cheapest":
            key = UNKNOWN if cost is None else cost
        elif objective == "fastest":
            key = UNKNOWN if seen.ttft_s is None else seen.ttft_s
        elif seen.tokens_per_s is not None:
            key = -seen.tokens_per_s
        ranked.append((group, key, candidate.index, candidate, seen))
    return _weighed(rule, ranked) if objective == "weighted" else ranked


def _weighed(rule: Rule, ranked: list[_Ranked]) -> list[_Ranked]:
    """Each quantity as a ratio to the best target's, so that dollars and seconds can be added; an unknown one counts as twice the worst.

    What costs nothing counts 0, and the best that costs something 1: else nothing could weigh against a free engine.
    """
    weights, seen = rule.weights, [each[4] for each in ranked]
    columns = (
        (weights.cost, [each.effective_nusd for each in seen]),
        (weights.latency, [each.ttft_s for each in seen]),
        (weights.throughput, [1 / each.tokens_per_s if each.tokens_per_s else None for each in seen]),
    )
    scores = [0.0] * len(ranked)
    for factor, values in columns:
        known = [value for value in values if value is not None]
        if not known or not factor:
            continue
        least, most = min((value for value in known if value), default=1.0), max(known)
        for place, value in enumerate(values):
            scores[place] += factor * (2 * most / least if value is None else value / least)
    return [each if each[0] == 2 else (each[0], score, *each[2:]) for each, score in zip(ranked, scores, strict=True)]


_WHY = {
    "ordered": "first in order",
    "cheapest": "cheapest",
    "fastest": "fastest",
    "throughput": "highest throughput",
    "weighted": "best by weight",
}


def _break_tie(rule: Rule, ask: Ask, ranked: list[_Ranked], listed_first: Allowed) -> str:
    """Chooses among equals, and by weight, in a way that the request's id alone decides. Returns why the first is first.

    `listed_first`: in the model's list. In order, another one goes first where that one is not ready, or not likely to keep the SLO.
    """
    group, key, _, _, _ = ranked[0]
    why = _WHY[rule.objective]
    if rule.objective == "ordered":
        weighted = [each for each in ranked if each[3].weight is not None and each[0] == group]
        if ranked[0][3] is not listed_first:
            why = "next in order"
        if weighted:
            _to_front(ranked, _drawn(ask, weighted))
            why = f"its weight of {ranked[0][3].weight:g}"
    elif group != 2 and key != UNKNOWN and len(ranked) > 1:
        margin = NEAR * abs(key)
        equals = [each for each in ranked if each[1] - key <= margin and each[0] == group]
        if len(equals) > 1:
            equals.sort(key=itemgetter(2))  # whatever hair's breadth lies between them
            _to_front(ranked, equals[crc32(ask.request_id.encode()) % len(equals)])
    if rule.slo == NO_SLO:
        return why
    p = ranked[0][4].p
    if p is None:
        return f"{why}; the SLO's odds are not known yet"
    if group == 0:
        return f"{why} of those that meet the SLO" if ranked[0][4].meets else f"{why} of those likely to meet the SLO, at {p:.0%}"
    return f"most likely to meet the SLO, at {p:.0%}"


def _choose_replica(ask: Ask, ranked: list[_Ranked], live: Mapping[str, Live]) -> None:
    """Among the first one's replicas that keep the SLO as it does (policy/replica.py)."""
    group, first = ranked[0][0], ranked[0][3]
    alike = [each for each in ranked if each[3].replica_of == first.replica_of and each[0] == group]
    chosen = choose([Replica(each[3].name, live[each[3].name].load, live[each[3].name].wait_s) for each in alike], ask)
    _to_front(ranked, next(each for each in alike if each[3].name == chosen))


def _drawn(ask: Ask, weighted: list[_Ranked]) -> _Ranked:
    total = sum(each[3].weight or 0.0 for each in weighted)
    point = crc32(ask.request_id.encode()) / 2**32 * total
    for each in weighted:
        point -= each[3].weight or 0.0
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
    if draw >= rule.explore * MOST_EXPLORED or not (rule.fallback == "any" or (rule.fallback == "local" and ranked[0][3].owned)):
        return False
    worth = [each for each in ranked[1:] if draw < rule.explore * _worth(rule, ranked[0], each)]
    if not worth:
        return False
    _to_front(ranked, worth[crc32(b"which" + ask.request_id.encode()) % len(worth)])
    return True


def _worth(rule: Rule, best: _Ranked, each: _Ranked) -> float:
    """How often to measure, in times the rule's share: seldom what is late, often what seems to be in time again."""
    seen, cost = each[4], best[4].effective_nusd
    if rule.counts_cost and cost is not None and not _at_most(seen.effective_nusd, cost * EXPLORE_PRICE if cost else UNKNOWN):
        return 0.0
    if rule.objective == "cheapest" and rule.slo != NO_SLO and best[0] == 0:
        if not _at_most(seen.effective_nusd, best[1]):
            return 0.0  # the dearer one would not win however well it did
    elif seen.samples >= KNOWN and each[0] != 2:
        return 0.0
    if seen.p is None:
        return 1.0
    return LEAST_EXPLORED + (MOST_EXPLORED - LEAST_EXPLORED) * seen.p**4


def _at_most(cost_nusd: float | None, limit: float) -> bool:
    return cost_nusd is not None and cost_nusd <= limit
