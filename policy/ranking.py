"""Which of a model's targets may be asked, and in which order: what a plan is made of. Pure."""

from collections.abc import Sequence
from operator import itemgetter
from zlib import crc32

import msgspec

from policy.ask import Ask
from policy.forecast import KNOWN
from policy.predict import TYPICAL_OUTPUT, Live, asked_of, predict, predict_all
from policy.prediction import Prediction
from policy.residency import Allowed, Removed
from policy.rule import NO_SLO, Rule
from policy.slack import LIKELY

FEWEST_BYTES = 6 / 4  # a prompt estimated at 4 bytes a token may have 6: what exceeds a context even so is sure to
EXPLORE_PRICE = 3.0  # where cost decides, a target may be measured at up to so many times the price of the best
MOST_EXPLORED, LEAST_EXPLORED = 1.0, 0.05  # times the rule's share: of who is in time again, or unknown, and of who has no hope
UNKNOWN = float("inf")
HOPELESS = 0.005  # odds that are told as 0 %: what is left of them says nothing
NEAR = 0.02  # keys that differ by less are a tie
BOUND = "the request's state is bound to another target"

# a target in the ranking: its group (0: meets the SLO, or may; 1: too little is known; 2: does not), its key, its place in the list
Ranked = tuple[int, float, int, Allowed, Prediction]
RankKey = tuple[int, float, int]  # the first three of them
Scales = tuple[tuple[float, float] | None, ...]  # of price, time to first token, time per token: the least and the most; None: nothing is known


class Whole(msgspec.Struct, frozen=True):
    """What is known of a long list of targets, of which a plan looks at some (policy/shortlist.py).

    `typical_output`, `dearest_nusd`, `scales`: as they come out of all of them. `following`: group, key and index of the best that is not looked
    at. `drawn`, `measured`: the indices of those that the request's id draws among all, for its first attempt and for a measurement.
    """

    typical_output: float
    dearest_nusd: float
    scales: Scales
    following: RankKey | None = None
    drawn: int | None = None
    measured: int | None = None


# --- who may be asked ---------------------------------------------------------------------------------------------------
def ready(
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
            removed.append(Removed(candidate, BOUND))
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
    if misfits:
        if not fitting and soonest_at is None:
            fitting, soonest_at = _largest(misfits, now)
            misfits = [each for each in misfits if all(each[0] is not asked for asked, _ in fitting)]
        removed += [Removed(candidate, why) for candidate, _, why in misfits]
    return fitting, soonest_at


def _largest(misfits: list[tuple[Allowed, Live, str]], now: float) -> tuple[list[tuple[Allowed, Live]], float | None]:
    """Where nobody fits by what is known the target itself says best why not; and when the first of them is ready, if none is."""
    most = max(each[0].context_tokens or 0 for each in misfits)
    fitting = [(each, state) for each, state, _ in misfits if state.ready_at <= now and (each.context_tokens or most) == most]
    return fitting, None if fitting else min(state.ready_at for _, state, _ in misfits)


def _fixed_first(rule: Rule, allowed: Sequence[Allowed], bound_to: str | None) -> Allowed | None:
    """The target that must come first, where order alone decides and not every other may follow: its failure opens no way for the rest."""
    if rule.fallback == "any" or rule.objective != "ordered" or rule.slo != NO_SLO:
        return None
    left = [each for each in allowed if bound_to is None or each.name == bound_to]
    return left[0] if left and all(each.weight is None for each in left) else None


def typical_output(fitting: Sequence[tuple[Allowed, Live]]) -> float:
    """Where a model has no history, its answer is thought as long as the others'."""
    known, total = 0, 0.0
    for _, state in fitting:
        mean = state.forecast.output_mean
        if mean is not None:
            known += 1
            total += mean
    return total / known if known else TYPICAL_OUTPUT


# --- in which order -----------------------------------------------------------------------------------------------------
def predicted(rule: Rule, ask: Ask, fitting: list[tuple[Allowed, Live]], removed: list[Removed], typical: float) -> list[tuple[Allowed, Prediction]]:
    """What the request would see at each target, without those that would cost too much. `typical`: tokens of an answer without a history."""
    slo, max_nusd = rule.slo, rule.max_nusd
    found = predict_all(ask, fitting, slo, typical, asked_of(ask, slo))
    if max_nusd is None:
        return found
    left = []
    for candidate, seen in found:
        cost = seen.effective_nusd
        if cost is not None and cost <= max_nusd:
            left.append((candidate, seen))
            continue
        told = "its price is not known" if cost is None else f"about ${cost / 1e9:.6f}"
        removed.append(Removed(candidate, f"max_usd_per_request: {told}", seen))
    return left


def rank(rule: Rule, found: list[tuple[Allowed, Prediction]], late_nusd: float, whole: Whole | None = None) -> list[Ranked]:
    """Each target with its key: the smaller, the better. What is not known comes after what is, in the list's order.

    Where cost decides, a target that is LIKELY to meet the SLO may come first, and the chance that it does not is part of its price.
    `late_nusd`: what a late answer costs then.
    """
    objective = rule.objective
    by_odds = rule.weighs_lateness
    ranked: list[Ranked] = []
    for candidate, seen in found:
        p, cost = seen.p, seen.effective_nusd
        if by_odds and p is not None and p >= LIKELY:
            ranked.append((0, (UNKNOWN if cost is None else cost) + late_nusd * (1.0 - p), candidate.index, candidate, seen))
            continue
        group = 0
        if not seen.meets:  # in order, nobody is passed over for want of measurements: nothing would ever measure it again
            group = 2 if p is not None else 1 if objective != "ordered" else 0
        key = UNKNOWN
        if group == 2:
            key = -p if p is not None and p >= HOPELESS else _takes_s(rule, seen)  # whoever has odds comes before
        elif objective == "ordered":
            key = 0.0  # by place
        elif objective == "cheapest":
            key = UNKNOWN if cost is None else cost
        elif objective == "fastest":
            key = UNKNOWN if seen.ttft_s is None else seen.ttft_s
        elif seen.tokens_per_s is not None:
            key = -seen.tokens_per_s
        ranked.append((group, key, candidate.index, candidate, seen))
    if objective != "weighted":
        return ranked
    return _weighed(rule, ranked, scales([seen for _, seen in found]) if whole is None else whole.scales)


def _takes_s(rule: Rule, seen: Prediction) -> float:
    """How near a target comes to a promise that it will not keep: to the first token where that is promised, else to the end."""
    taken_s = seen.ttft_s if rule.slo.ttft_s is not None else seen.finish_s
    return UNKNOWN if taken_s is None else taken_s


def dearest(found: Sequence[tuple[Allowed, Prediction]], whole: Whole | None = None) -> float:
    """The price of the dearest, in nano-dollars; of a longer list, its dearest."""
    return max([0.0 if whole is None else whole.dearest_nusd, *[seen.effective_nusd or 0.0 for _, seen in found]])


def _columns(seen: Sequence[Prediction]) -> tuple[list[float | None], ...]:
    """Price, time to first token, time per token."""
    return (
        [each.effective_nusd for each in seen],
        [each.ttft_s for each in seen],
        [1 / each.tokens_per_s if each.tokens_per_s else None for each in seen],
    )


def scales(seen: Sequence[Prediction]) -> Scales:
    """Of each column the least that is not 0, and the most; None: nothing is known."""
    known = [[value for value in values if value is not None] for values in _columns(seen)]
    return tuple((min((value for value in values if value), default=1.0), max(values)) if values else None for values in known)


def _weighed(rule: Rule, ranked: list[Ranked], scales: Scales) -> list[Ranked]:
    """Each quantity as a ratio to the best target's, so that dollars and seconds can be added; an unknown one counts as twice the worst.

    What costs nothing counts 0, and the best that costs something 1: else nothing could weigh against a free engine.
    """
    weights = rule.weights
    scores = [0.0] * len(ranked)
    factors = (weights.cost, weights.latency, weights.throughput)
    for factor, values, scale in zip(factors, _columns([each[4] for each in ranked]), scales, strict=True):
        if scale is None or not factor:
            continue
        least, most = scale
        for place, value in enumerate(values):
            scores[place] += factor * (2 * most / least if value is None else value / least)
    return [each if each[0] == 2 else (each[0], score, *each[2:]) for each, score in zip(ranked, scores, strict=True)]


def equals_of(ranked: Sequence[Ranked]) -> list[Ranked]:
    """The best and those that come as near as makes no difference, in the order of the model's list. `ranked`: sorted, its best's key known."""
    group, key, _, _, _ = ranked[0]
    margin = NEAR * abs(key)
    return sorted([each for each in ranked if each[1] - key <= margin and each[0] == group], key=itemgetter(2))


def explore_draw(ask: Ask) -> float:
    """From 0 to 1: below a target's worth times the rule's share, the request measures it."""
    return crc32(b"explore" + ask.request_id.encode()) / 2**32


def which_draw(ask: Ask) -> int:
    """Which of those that are worth it."""
    return crc32(b"which" + ask.request_id.encode())


def worth(rule: Rule, best: Ranked, each: Ranked) -> float:
    """How often to measure, in times the rule's share: seldom what is late, more often what seems to be in time again."""
    seen, cost = each[4], best[4].effective_nusd
    if rule.counts_cost and cost is not None and not _at_most(seen.effective_nusd, cost * EXPLORE_PRICE if cost else UNKNOWN):
        return 0.0
    if rule.weighs_lateness and best[0] == 0:
        if not _at_most(seen.effective_nusd, best[1]):
            return 0.0  # the dearer one would not win however well it did
    elif seen.samples >= KNOWN and each[0] != 2:
        return 0.0
    if seen.p is None:
        return MOST_EXPLORED
    return LEAST_EXPLORED + (MOST_EXPLORED - LEAST_EXPLORED) * seen.p**4


def _at_most(cost_nusd: float | None, limit: float) -> bool:
    return cost_nusd is not None and cost_nusd <= limit
