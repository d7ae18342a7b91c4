"""Which targets to try for one request, in which order, and why: a pure function of rule, request and what is known of each target.

residency     what is forbidden never gets here (policy/residency.py)
fit           bound state, capabilities, context length, price limit
ready         open breakers, cooling keys, stopped engines, full queues
predicted     what the request would see at each target that is left (policy/predict.py)
SLO           those predicted to meet it come first; then those of which too little is known; then the rest, the likeliest first
objective     the order among those that meet it; under `ordered` also among those of which too little is known
batch         of a batch's rows the target that its plan has them for goes first, whatever the objective
exploration   now and then a target of which little is known goes first, so that it gets known
fallback      what may follow the first: any, local or none
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

import msgspec

from policy.ask import Ask
from policy.predict import Live
from policy.prediction import Prediction
from policy.ranking import (
    MOST_EXPLORED,
    UNKNOWN,
    Ranked,
    RankKey,
    Whole,
    dearest,
    equals_of,
    explore_draw,
    predicted,
    rank,
    ready,
    typical_output,
    which_draw,
    worth,
)
from policy.replica import Replica, choose
from policy.residency import Admitted, Allowed, Removed
from policy.rule import NO_SLO, Rule
from policy.slack import Miss

PLANNED = "planned by its batch"
DEAR = Miss()
WORSE = 0.25  # of a key, by which the best may be worse than one that is not looked at


class Planned(msgspec.Struct, frozen=True, gc=False):
    candidate: Allowed
    reason: str
    prediction: Prediction


class Plan(msgspec.Struct, frozen=True):
    """`attempts` in the order to try them. `why`: what decided between them. `slo_met`: whether the first is predicted to meet the SLO.

    `soonest_at`: when the first of those that are not ready will be (monotonic seconds); None: nobody is waited for.
    `exploring`: the first is there to be measured. `beaten`: one that was not looked at was better by far than the best of those that were.
    `dearest_nusd`: what the request would cost at its dearest target; 0: that does not matter.
    """

    attempts: tuple[Planned, ...]
    removed: tuple[Removed, ...]
    why: str
    slo_met: bool | None = None
    soonest_at: float | None = None
    exploring: bool = False
    beaten: bool = False
    dearest_nusd: float = 0.0


def plan(  # noqa: PLR0913
    rule: Rule,
    ask: Ask,
    admitted: Admitted,
    live: Sequence[Live],
    now: float,
    may_explore: bool = False,
    miss: Miss = DEAR,
    whole: Whole | None = None,
) -> Plan:
    """`live[i]` belongs to `admitted.allowed[i]`. `may_explore`: the exploration's budget has room. `miss`: `policy.slack.Slack.miss`.

    `whole`: where `admitted` is a part of a longer list, what is known of it all.
    """
    removed = list(admitted.removed)
    fitting, soonest_at = ready(rule, ask, admitted.allowed, live, now, removed)
    typical = typical_output(fitting) if whole is None else whole.typical_output
    predictions = predicted(rule, ask, fitting, removed, typical)
    dearest_nusd = dearest(predictions, whole) if rule.weighs_lateness else 0.0
    ranked = rank(rule, predictions, miss.nusd(dearest_nusd), whole)
    if not ranked:
        return Plan((), tuple(removed), "no target is left", None, soonest_at)
    ranked.sort()
    beaten = whole is not None and _is_beaten(ranked[0], whole.following)
    why = _break_tie(rule, ask, ranked, admitted.allowed[0], None if whole is None else whole.drawn)
    if ranked[0][3].replica_of:
        _choose_replica(ask, ranked, dict(zip((each.name for each in admitted.allowed), live, strict=True)))
    if ask.planned is not None and (named := _named(ranked, ask.planned)) is not None:
        _to_front(ranked, named)
        why, may_explore = PLANNED, False
    measured = None if whole is None else whole.measured
    exploring = may_explore and rule.explore > 0 and len(ranked) > 1 and _explore(rule, ask, ranked, measured)
    _, _, _, first, prediction = ranked[0]
    why = "exploring" if exploring else why
    attempts: tuple[Planned, ...] = (Planned(first, why, prediction),)
    if len(ranked) > 1:
        attempts += _followers(rule, ranked[1:], whole, removed)
    slo_met = None if prediction.p is None else prediction.meets
    return Plan(attempts, tuple(removed), why, slo_met, soonest_at, exploring, beaten, dearest_nusd)


def _named(ranked: Sequence[Ranked], name: str) -> Ranked | None:
    return next((each for each in ranked if each[3].name == name), None)


def _followers(rule: Rule, ranked: list[Ranked], whole: Whole | None, removed: list[Removed]) -> tuple[Planned, ...]:
    """Those of the others that may follow the first."""
    fallback = rule.fallback
    if whole is not None and (following := whole.following) is not None:  # who is not looked at goes before them; an engine may serve a hedge even so
        ranked = [each for each in ranked if each[:3] < following or each[3].owned]
    if fallback != "any":
        removed += [Removed(each[3], f"fallback: {fallback}", each[4]) for each in ranked if fallback == "none" or not each[3].owned]
        ranked = [each for each in ranked if fallback == "local" and each[3].owned]
    return tuple([Planned(candidate, "fallback", seen) for _, _, _, candidate, seen in ranked])


def _is_beaten(best: Ranked, following: RankKey | None) -> bool:
    """Whether one that is not looked at was better by far; among equals, whether it stands before."""
    if following is None:
        return False
    group, key, index = following
    if best[0] != group:
        return best[0] > group
    return best[2] > index if best[1] == key else best[1] > key + WORSE * abs(key)


_WHY = {
    "ordered": "first in order",
    "cheapest": "cheapest",
    "fastest": "fastest",
    "throughput": "highest throughput",
    "weighted": "best by weight",
}


def _break_tie(rule: Rule, ask: Ask, ranked: list[Ranked], listed_first: Allowed, drawn: int | None) -> str:
    """Chooses among equals, and by weight, in a way that the request's id alone decides. Returns why the first is first.

    `drawn`: whom it chooses in a longer list, where that one is still among them.
    `listed_first`: in the model's list. In order, another one goes first where that one is not ready, or not likely to keep the SLO.
    """
    group, key, _, _, _ = ranked[0]
    why = _WHY[rule.objective]
    if rule.objective == "ordered":
        weighted = []
        for each in ranked:
            if each[3].weight is not None and each[0] == group:
                weighted.append(each)
        if ranked[0][3] is not listed_first:
            why = "next in order"
        if weighted:
            _to_front(ranked, _at(drawn, weighted) or _drawn(ask, weighted))
            why = f"its weight of {ranked[0][3].weight:g}"
    elif group != 2 and key != UNKNOWN and len(ranked) > 1:
        equals = equals_of(ranked)
        if len(equals) > 1:
            _to_front(ranked, _at(drawn, equals) or equals[crc32(ask.request_id.encode()) % len(equals)])
    if rule.slo == NO_SLO:
        return why
    p = ranked[0][4].p
    if p is None:
        return f"{why}; the SLO's odds are not known yet"
    if group == 0:
        return f"{why} of those that meet the SLO" if ranked[0][4].meets else f"{why} of those likely to meet the SLO, at {p:.0%}"
    return f"most likely to meet the SLO, at {p:.0%}"


def _at(index: int | None, ranked: Sequence[Ranked]) -> Ranked | None:
    return None if index is None else next((each for each in ranked if each[2] == index), None)


def _choose_replica(ask: Ask, ranked: list[Ranked], live: Mapping[str, Live]) -> None:
    """Among the first one's replicas that keep the SLO as it does (policy/replica.py)."""
    group, first = ranked[0][0], ranked[0][3]
    alike = [each for each in ranked if each[3].replica_of == first.replica_of and each[0] == group]
    seen = [(each[3].name, live[each[3].name]) for each in alike]
    chosen = choose([Replica(name, now.load, now.wait_s, now.slots) for name, now in seen], ask)
    _to_front(ranked, next(each for each in alike if each[3].name == chosen))


def _drawn(ask: Ask, weighted: list[Ranked]) -> Ranked:
    total = sum(each[3].weight or 0.0 for each in weighted)
    point = crc32(ask.request_id.encode()) / 2**32 * total
    for each in weighted:
        point -= each[3].weight or 0.0
        if point < 0:
            return each
    return weighted[-1]


def _to_front(ranked: list[Ranked], chosen: Ranked) -> None:
    ranked.remove(chosen)
    ranked.insert(0, chosen)


def _explore(rule: Rule, ask: Ask, ranked: list[Ranked], measured: int | None) -> bool:
    """Puts a target that is worth measuring first, for a share of the requests; True when it did. `measured`: whom to, of a longer list.

    Worth it: little is known of it, or it would win but for a latency that may have passed. The one it is put before must be allowed to
    follow: a measurement that fails costs the caller time, not the answer.
    """
    draw = explore_draw(ask)
    if draw >= rule.explore * MOST_EXPLORED or not (rule.fallback == "any" or (rule.fallback == "local" and ranked[0][3].owned)):
        return False
    found = [each for each in ranked[1:] if draw < rule.explore * worth(rule, ranked[0], each)]
    if not found:
        return False
    _to_front(ranked, _at(measured, found) or found[which_draw(ask) % len(found)])
    return True
