"""A plan that looks at some of a long list decides as one that looks at all; and says whom it did not look at."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

import msgspec
import pytest

from policy.ask import Ask
from policy.decision import MOST_TOLD, decision
from policy.plan import DEAR, Plan, plan
from policy.predict import Live
from policy.ranking import Whole
from policy.residency import Admitted, Candidate, admit
from policy.rule import Rule, Slo, Weights
from policy.shortlist import HOLDS_S, MOST_LOOKS, NEAREST, LeftOut, Look, Looks, left_out, likeness, look_at, pick
from tests.policy.targets import NOW, Fed, state, usd

MANY = 150
SLO = Slo(ttft_s=0.5)
RULES = {
    "ordered": Rule(),
    "ordered, SLO": Rule(slo=SLO),
    "cheapest": Rule(objective="cheapest"),
    "cheapest, SLO": Rule(objective="cheapest", slo=SLO),
    "cheapest, explored": Rule(objective="cheapest", slo=SLO, explore=0.2),
    "cheapest, price limit": Rule(objective="cheapest", max_nusd=4_000_000),
    "fastest": Rule(objective="fastest"),
    "fastest, explored": Rule(objective="fastest", explore=0.2),
    "throughput": Rule(objective="throughput"),
    "weighted": Rule(objective="weighted", weights=Weights(1.0, 2.0, 0.5)),
    "local": Rule(objective="fastest", fallback="local"),
    "none": Rule(objective="cheapest", fallback="none"),
}


def of_many(make: Callable[[int, Random], Fed], count: int = MANY) -> list[Fed]:
    luck = Random(7)
    return [make(number, luck) for number in range(count)]


def mixed(number: int, luck: Random) -> Fed:
    rates = usd(luck.choice((0.5, 1, 2, 3)), luck.choice((1, 4, 9)))
    times = {"ttft_s": luck.uniform(0.05, 1.5), "token_s": luck.uniform(0.005, 0.05), "output": luck.choice((50, 100, 150))}
    made = Fed(f"target-{number}", rates, samples=luck.choice((0, 2, 30)), failures=luck.choice((0, 0, 3)), owned=number % 40 == 39, **times)
    return made.now(ready_at=NOW + 5.0, busy="not ready: its breaker is open after failures") if number % 9 == 4 else made


TARGETS = of_many(mixed)


class Listed:
    """A long list under one rule, looked at once; `live` is as the targets were then."""

    def __init__(self, rule: Rule, targets: Sequence[Fed] = TARGETS, **ask: object) -> None:
        self.rule = rule
        self.admitted: Admitted = admit(rule, tuple(each.candidate(index) for index, each in enumerate(targets)))
        self.ask = msgspec.structs.replace(Ask("req", True, 1000, 200), **ask)
        self.live = [state(targets[each.index], self.ask) for each in self.admitted.allowed]
        self.look: Look = look_at(rule, self.ask, self.admitted, self.live, NOW, DEAR)

    def whole(self, ask: Ask) -> Plan:
        return plan(self.rule, ask, self.admitted, self.live, NOW, may_explore=True)

    def narrowed(self, ask: Ask, live: Sequence[Live] | None = None) -> tuple[Plan, list[int]]:
        places, whole = pick(self.look, self.rule, ask)
        return self.of(places, ask, whole, live), places

    def of(self, places: list[int], ask: Ask, whole: Whole, live: Sequence[Live] | None = None) -> Plan:
        now = self.live if live is None else live
        some = Admitted(tuple(self.admitted.allowed[place] for place in places), ())
        return plan(self.rule, ask, some, [now[place] for place in places], NOW, may_explore=True, whole=whole)


def named(made: Plan) -> list[Candidate]:
    return [each.candidate for each in (*made.attempts, *made.removed)]


def asks(count: int = 60) -> list[Ask]:
    return [Ask(f"request-{number}", True, 1000, 200) for number in range(count)]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_the_first_is_the_one_that_a_look_at_all_would_choose_and_for_the_same_reason(rule: Rule) -> None:
    listed = Listed(rule)
    for ask in asks():
        whole, (some, places) = listed.whole(ask), listed.narrowed(ask)
        assert (some.why, some.exploring) == (whole.why, whole.exploring)
        place = int(whole.exploring)  # whom to measure is drawn among the same, and whoever that is, the best is next
        assert (some.attempts[place], some.slo_met is None) == (whole.attempts[place], whole.slo_met is None)
        assert len(places) <= NEAREST + 6 and not some.beaten


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES.values() if not rule.explore], ids=[name for name, rule in RULES.items() if not rule.explore]
)
def test_who_follows_is_in_the_order_of_the_look_at_all(rule: Rule) -> None:
    listed = Listed(rule)
    for ask in asks(20):
        whole, some = listed.whole(ask).attempts[1:], listed.narrowed(ask)[0].attempts[1:]
        ranks = [whole.index(each) for each in some]
        assert ranks == sorted(ranks)
        assert some[:3] == whole[:3], "what a request with three attempts and a hedge gets to see"


def test_a_draw_among_equals_is_over_all_of_them() -> None:
    listed = Listed(RULES["cheapest"], of_many(lambda number, _: Fed(f"target-{number}", usd(1, 5))))
    chosen = Counter(listed.narrowed(ask)[0].attempts[0].candidate.name for ask in asks(1000))
    assert len(chosen) > 0.9 * MANY and max(chosen.values()) < 30


def test_a_measurement_is_drawn_among_all_that_are_worth_it() -> None:
    listed = Listed(Rule(objective="fastest", explore=0.2), of_many(lambda n, _: Fed(f"target-{n}", samples=30 if n == 70 else 0)))
    plans = [listed.narrowed(ask)[0] for ask in asks(1000)]
    measured = Counter(each.attempts[0].candidate.name for each in plans if each.exploring)
    assert 150 < sum(measured.values()) < 250 and len(measured) > 0.6 * MANY


def test_weights_are_shares_of_all_requests() -> None:
    listed = Listed(RULES["ordered"], of_many(lambda number, _: Fed(f"target-{number}", weight=50.0 if number == 140 else 1.0)))
    chosen = Counter(listed.narrowed(ask)[0].attempts[0].candidate.name for ask in asks(1000))
    assert 200 < chosen["target-140"] < 300 and len(chosen) > 0.8 * MANY


def test_who_has_the_prompt_is_looked_at() -> None:
    rates = usd(3, 15, 0.01)
    listed = Listed(RULES["cheapest"], of_many(lambda number, _: Fed(f"target-{number}", usd(2, 15) if number < 100 else rates)))
    ask = msgspec.structs.replace(listed.ask, warm={"target-120": 900})
    assert listed.narrowed(ask)[0].attempts[0].candidate.name == "target-120" == listed.whole(ask).attempts[0].candidate.name


def test_replicas_of_the_best_are_looked_at_the_least_busy_first() -> None:
    listed = Listed(RULES["cheapest"], of_many(lambda n, _: Fed(f"engine-{n}", owned=True, replica_of="engine").now(load=MANY - n)))
    assert listed.narrowed(listed.ask)[0].attempts[0].candidate.name == f"engine-{MANY - 1}"


def test_a_look_is_beaten_once_the_best_are_worse_than_the_best_of_the_others_was() -> None:
    listed = Listed(RULES["fastest"], of_many(lambda number, _: Fed(f"target-{number}", ttft_s=0.2 + 0.001 * number)))
    places, whole = pick(listed.look, listed.rule, listed.ask)
    late = Fed("late", ttft_s=2.0).stats.forecast(NOW, streamed=True, prompt_tokens=1000, load=0)
    slow = [msgspec.structs.replace(each, forecast=late) for each in listed.live]
    assert not listed.of(places, listed.ask, whole).beaten
    assert listed.of(places, listed.ask, whole, slow).beaten


def test_in_order_a_look_is_beaten_once_those_before_the_next_are_not_ready() -> None:
    listed = Listed(RULES["ordered"], of_many(lambda number, _: Fed(f"target-{number}")))
    down = [
        msgspec.structs.replace(each, ready_at=NOW + 2, busy="not ready: x") if place < NEAREST else each for place, each in enumerate(listed.live)
    ]
    ask = msgspec.structs.replace(listed.ask, warm={"target-99": 500})
    places, whole = pick(listed.look, listed.rule, ask)
    assert listed.of(places, ask, whole, down).beaten, "target-99 is ready, but target-8 stands before it"


def test_what_is_left_out_is_counted_by_its_reason() -> None:
    listed = Listed(Rule(objective="cheapest", residency=("eu",)), of_many(lambda n, _: Fed(f"t-{n}", usd(1, 5), region="eu" if n < 100 else "us")))
    made, _ = listed.narrowed(listed.ask)
    told = json.loads(msgspec.json.encode(decision(listed.rule, listed.ask, made, "m", lambda: left_out(listed.look, named(made)))))
    assert told["left_out"] == [
        {"rule": f"not among the nearest {NEAREST}", "targets": 100 - len(made.attempts)},
        {"rule": "residency: [eu]", "targets": MANY - 100},
    ]
    assert len(told["candidates"]) == len(made.attempts) <= NEAREST + 1


def test_numbers_of_a_request_do_not_split_the_counts() -> None:
    listed = Listed(RULES["cheapest, price limit"])
    stood = {each.rule for each in left_out(listed.look, named(listed.narrowed(listed.ask)[0]))}
    assert "max_usd_per_request" in stood and "not ready: its breaker is open after failures" in stood
    assert sum(each.targets for each in left_out(listed.look, [])) == MANY


def test_a_record_of_a_long_plan_is_some_kilobytes_and_names_the_first() -> None:
    listed = Listed(RULES["cheapest, SLO"])
    made = listed.whole(listed.ask)
    told = decision(listed.rule, listed.ask, made, "m")
    assert [each.target for each in told.candidates] == [each.candidate.name for each in made.attempts[:MOST_TOLD]]
    assert isinstance(told.left_out, tuple) and sum(each.targets for each in told.left_out) == MANY - MOST_TOLD
    assert len(msgspec.json.encode(told)) < 8_000
    assert len(decision(listed.rule, listed.ask, made, "m", most=None).candidates) == MANY


def test_a_record_of_few_targets_says_nothing_of_others() -> None:
    listed = Listed(RULES["cheapest"], TARGETS[:MOST_TOLD])
    assert b"left_out" not in msgspec.json.encode(decision(listed.rule, listed.ask, listed.whole(listed.ask), "m"))


def test_a_look_holds_for_a_while_and_for_requests_that_are_alike() -> None:
    listed, looks = Listed(RULES["cheapest"]), Looks()
    alike = likeness(listed.rule, listed.ask, priced=False)
    looks.keep(alike, listed.look)
    assert looks.find(alike, NOW + HOLDS_S / 2) is listed.look and looks.find(alike, NOW + HOLDS_S) is None
    same = likeness(
        Rule(objective="cheapest"), msgspec.structs.replace(listed.ask, request_id="other", prompt_tokens=900, max_tokens=190), priced=False
    )
    assert looks.find(same, NOW) is listed.look
    for change in ({"prompt_tokens": 4000}, {"max_tokens": 20}, {"streamed": False}, {"needs": frozenset({"tools"})}, {"choices": 2}):
        assert looks.find(likeness(listed.rule, msgspec.structs.replace(listed.ask, **change), priced=False), NOW) is None
    assert looks.find(likeness(RULES["fastest"], listed.ask, priced=False), NOW) is None


def test_looks_are_bounded() -> None:
    listed, looks = Listed(RULES["cheapest"]), Looks()
    kinds = [likeness(Rule(name=str(number)), listed.ask, priced=False) for number in range(MOST_LOOKS + 1)]
    for alike in kinds:
        looks.keep(alike, listed.look)
    assert looks.find(kinds[0], NOW) is None and looks.find(kinds[-1], NOW) is listed.look


def test_counts_are_told_as_they_are_stored() -> None:
    assert msgspec.json.encode(LeftOut("cannot: tools", 3)) == b'{"rule":"cannot: tools","targets":3}'
