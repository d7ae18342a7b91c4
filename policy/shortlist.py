"""Whom of a long list of targets a plan looks at, so that a request costs the same however long it is. Pure.

Of up to FEW targets every request looks at all. Of more, a look at all of them, ranked as a plan ranks them, is kept for HOLDS_S for requests that
are alike (the same rule, a prompt and a limit of about the same length); the plan of one request is then made of some, as they are at that moment:

the NEAREST by rank         more than a request has attempts
the NEAREST_OWNED engines   of the gateway's own, which `fallback: local` and a hedge look for
the first in the list       `ordered` says whether it was passed over
the best one's replicas     the least busy first, among which its prefix cache decides
whom the request's id draws among equals, by weight, for a measurement: among all, as without this
who has its prompt          the longest first
the one that its batch's plan has it for

Everybody is looked at anew when nobody of these is left, or the best of them is worse by far than the best of the others was (`Plan.beaten`).
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

import msgspec

from policy.ask import NOTHING, Ask
from policy.predict import Live
from policy.ranking import (
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
    scales,
    typical_output,
    which_draw,
    worth,
)
from policy.residency import Admitted, Candidate, Removed
from policy.rule import Rule
from policy.slack import Miss

FEW = 20
NEAREST = 8
NEAREST_OWNED = 3
MOST_REPLICAS = 16
MOST_WARM = 3
HOLDS_S = 1.0
MOST_LOOKS = 256  # of one model
NUMBERED = ("context", "max_usd_per_request", "budget")  # rules whose text has the request's own numbers


class LeftOut(msgspec.Struct, frozen=True):
    """So many targets that a decision does not name, and why."""

    rule: str
    targets: int


class Look(msgspec.Struct, frozen=True):
    """Every target of a model at one moment (monotonic seconds), ranked for one kind of request. Places are those in `admitted.allowed`.

    `nearest`: looked at by every request. `equals`: of the best. `weighted`: who takes part in a draw by weight, and their weights added up.
    `worth`: who is worth measuring, and how much, negative, the most first. `stood`: what stood in whose way.
    """

    made_at: float
    admitted: Admitted
    places: Mapping[str, int]
    nearest: frozenset[int]
    whole: Whole
    equals: tuple[int, ...] = ()
    weighted: tuple[tuple[int, ...], tuple[float, ...]] = ((), ())
    worth: tuple[tuple[int, ...], tuple[float, ...]] = ((), ())
    stood: Mapping[int, str] = {}


class Likeness(NamedTuple):
    """What a look depends on. `priced`: those without a price are out, as a budget counts."""

    rule: Rule
    streamed: bool
    prompt_bits: int
    limit_bits: int
    needs: frozenset[str]
    choices: int
    batch: bool
    priced: bool


def likeness(rule: Rule, ask: Ask, priced: bool) -> Likeness:
    limit = 0 if ask.max_tokens is None else ask.max_tokens.bit_length()
    return Likeness(rule, ask.streamed, ask.prompt_tokens.bit_length(), limit, ask.needs, ask.choices, ask.batch, priced)


class Looks:
    """The looks at one model's targets; the oldest go first."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Likeness, Look] = {}

    def find(self, alike: Likeness, now: float) -> Look | None:
        look = self._kept.get(alike)
        return None if look is None or now - look.made_at >= HOLDS_S else look

    def keep(self, alike: Likeness, look: Look) -> Look:
        self._kept.pop(alike, None)
        if len(self._kept) >= MOST_LOOKS:
            del self._kept[next(iter(self._kept))]
        self._kept[alike] = look
        return look


# --- at all of them -------------------------------------------------------------------------------------------------------
def look_at(rule: Rule, ask: Ask, admitted: Admitted, live: Sequence[Live], now: float, miss: Miss) -> Look:
    """As `policy.plan.plan` looks at them. `live[i]` belongs to `admitted.allowed[i]`."""
    ask = msgspec.structs.replace(ask, bound_to=None, warm=NOTHING)
    allowed = admitted.allowed
    removed: list[Removed] = []
    fitting, _ = ready(rule, ask, allowed, live, now, removed)
    typical = typical_output(fitting)
    seen = predicted(rule, ask, fitting, removed, typical)
    dearest_nusd = dearest(seen)
    ranked = rank(rule, seen, miss.nusd(dearest_nusd))
    ranked.sort()
    at = {each.index: place for place, each in enumerate(allowed)}
    nearest = {0, *(at[each[2]] for each in (*ranked[:NEAREST], *[each for each in ranked if each[3].owned][:NEAREST_OWNED]))}
    if ranked and (engine := ranked[0][3].replica_of):
        alike = sorted((live[at[each[2]]].load, at[each[2]]) for each in ranked if each[3].replica_of == engine)
        nearest.update(place for _, place in alike[:MOST_REPLICAS])
    following: RankKey | None = next((each[:3] for each in ranked if at[each[2]] not in nearest), None)
    return Look(
        made_at=now,
        admitted=admitted,
        places={each.name: place for place, each in enumerate(allowed)},
        nearest=frozenset(nearest),
        whole=Whole(typical, dearest_nusd, scales([each for _, each in seen]), following),
        equals=_equals(rule, ranked, at),
        weighted=_weighted(rule, ranked, at),
        worth=_worth(rule, ranked, at),
        stood={at[each.candidate.index]: each.rule for each in removed},
    )


def _equals(rule: Rule, ranked: Sequence[Ranked], at: Mapping[int, int]) -> tuple[int, ...]:
    if not ranked or rule.objective == "ordered" or ranked[0][0] == 2 or ranked[0][1] == UNKNOWN:
        return ()
    return tuple(at[each[2]] for each in equals_of(ranked))


def _weighted(rule: Rule, ranked: Sequence[Ranked], at: Mapping[int, int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if rule.objective != "ordered":
        return (), ()
    found = [each for each in ranked if each[3].weight is not None and each[0] == ranked[0][0]]
    return tuple(at[each[2]] for each in found), tuple(accumulate(each[3].weight or 0.0 for each in found))


def _worth(rule: Rule, ranked: Sequence[Ranked], at: Mapping[int, int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if not rule.explore:
        return (), ()
    found = sorted((-value, each[2]) for each in ranked[1:] if (value := worth(rule, ranked[0], each)))
    return tuple(at[index] for _, index in found), tuple(value for value, _ in found)


# --- for one request --------------------------------------------------------------------------------------------------------
def pick(look: Look, rule: Rule, ask: Ask) -> tuple[list[int], Whole]:
    """The places of the targets to look at, in the list's order; and what is known of all."""
    drawn, measured = _drawn(look, ask), _measured(look, rule, ask)
    picked = {*look.nearest, *(place for place in (drawn, measured) if place is not None)}
    if ask.planned is not None and ask.planned in look.places:
        picked.add(look.places[ask.planned])
    if ask.warm:
        warm = sorted((name for name in ask.warm if name in look.places), key=ask.warm.__getitem__, reverse=True)
        picked.update(look.places[name] for name in warm[:MOST_WARM])
    allowed = look.admitted.allowed
    indices = [None if place is None else allowed[place].index for place in (drawn, measured)]
    return sorted(picked), msgspec.structs.replace(look.whole, drawn=indices[0], measured=indices[1])


def _drawn(look: Look, ask: Ask) -> int | None:
    """Among equals or by weight, as a plan over all would."""
    draw = crc32(ask.request_id.encode())
    places, sums = look.weighted
    if places:
        return places[min(len(places) - 1, bisect_right(sums, draw / 2**32 * sums[-1]))]
    return look.equals[draw % len(look.equals)] if len(look.equals) > 1 else None


def _measured(look: Look, rule: Rule, ask: Ask) -> int | None:
    places, values = look.worth
    found = bisect_left(values, -explore_draw(ask) / rule.explore) if places else 0
    return places[which_draw(ask) % found] if found else None


def left_out(look: Look, named: Iterable[Candidate]) -> tuple[LeftOut, ...]:
    """Whom a plan does not name, by the reason."""
    places = {look.places[each.name] for each in named}
    stood = [rule for place, rule in look.stood.items() if place not in places]
    passed_over = len(look.admitted.allowed) - len(places) - len(stood)
    told = (LeftOut(f"not among the nearest {NEAREST}", passed_over),) if passed_over > 0 else ()
    return (*told, *counted([*(each.rule for each in look.admitted.removed), *stood]))


def counted(rules: Sequence[str]) -> tuple[LeftOut, ...]:
    """Rules that removed targets, the most frequent first; where a rule's text has numbers, by its name alone."""
    if not rules:
        return ()
    counts = Counter(name if (name := rule.partition(":")[0]) in NUMBERED else rule for rule in rules)
    return tuple(LeftOut(rule, targets) for rule, targets in counts.most_common())
