"""A plan holds only what its rule allows and what fits the request; whatever it leaves out is named with the rule that removed it."""

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.ask import Ask
from policy.plan import Plan, plan
from policy.predict import Live
from policy.residency import Admitted, Candidate, admit
from policy.rule import Fallback, Rule
from tests.policy.targets import ASK, COLD, NOW, Fed, left_out, order, planned, usd

RESIDENCIES = ("any", "local_only")
RULES = [Rule(fallback=fallback, residency=residency) for fallback, residency in product(get_args(Fallback), RESIDENCIES)]
RULE_NAMES = [f"fallback {rule.fallback}, residency {rule.residency}" for rule in RULES]
OWNERSHIPS = [owned for size in range(5) for owned in product([True, False], repeat=size)]
PRICE = usd(1, 5)


def candidates(owned: tuple[bool, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(index, f"{'engine' if own else 'managed'}-{index}", own) for index, own in enumerate(owned))


def made(rule: Rule, owned: tuple[bool, ...]) -> Plan:
    """The plan over targets of which nothing is known, all ready."""
    admitted = admit(rule, candidates(owned))
    cold = Live(COLD.forecast(NOW, streamed=True, prompt_tokens=ASK.prompt_tokens, load=0))
    return plan(rule, ASK, admitted, [cold] * len(admitted.allowed), NOW)


def places(found: Plan) -> tuple[list[int], list[int]]:
    return [attempt.candidate.index for attempt in found.attempts], [gone.candidate.index for gone in found.removed]


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_every_candidate_is_either_planned_or_removed_and_order_is_kept(rule: Rule) -> None:
    for owned in OWNERSHIPS:
        kept, gone = places(made(rule, owned))
        assert sorted(kept + gone) == list(range(len(owned))) and kept == sorted(kept)


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_every_removal_names_a_rule_that_is_in_force(rule: Rule) -> None:
    in_force = {"residency: local_only": rule.residency == "local_only", f"fallback: {rule.fallback}": rule.fallback != "any"}
    for owned in OWNERSHIPS:
        for gone in made(rule, owned).removed:
            assert in_force[gone.rule]
            assert not (gone.rule == "residency: local_only" and gone.candidate.owned)


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_the_first_in_the_plan_is_the_first_that_residency_allows(rule: Rule) -> None:
    for owned in OWNERSHIPS:
        allowed = [c.name for c in candidates(owned) if c.owned or rule.residency == "any"]
        assert order(made(rule, owned))[:1] == allowed[:1]


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_fallback_none_plans_one_target_at_most(residency: str) -> None:
    for owned in OWNERSHIPS:
        assert len(made(Rule(fallback="none", residency=residency), owned).attempts) <= 1


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_fallback_local_falls_back_to_owned_engines_alone(residency: str) -> None:
    for owned in OWNERSHIPS:
        assert all(attempt.candidate.owned for attempt in made(Rule(fallback="local", residency=residency), owned).attempts[1:])


MIXED = (False, True, False, True)
EXPECTED = [
    ("any", "any", ["managed-0", "engine-1", "managed-2", "engine-3"], {}),
    ("local", "any", ["managed-0", "engine-1", "engine-3"], {"managed-2": "fallback: local"}),
    ("none", "any", ["managed-0"], dict.fromkeys(("engine-1", "managed-2", "engine-3"), "fallback: none")),
    ("any", "local_only", ["engine-1", "engine-3"], dict.fromkeys(("managed-0", "managed-2"), "residency: local_only")),
    ("local", "local_only", ["engine-1", "engine-3"], dict.fromkeys(("managed-0", "managed-2"), "residency: local_only")),
    (
        "none",
        "local_only",
        ["engine-1"],
        {**dict.fromkeys(("managed-0", "managed-2"), "residency: local_only"), "engine-3": "fallback: none"},
    ),
]


@pytest.mark.parametrize(("fallback", "residency", "kept", "gone"), EXPECTED, ids=[f"{row[0]}-{row[1]}" for row in EXPECTED])
def test_a_mixed_list_is_planned_as_the_table_says(fallback: Fallback, residency: str, kept: list[str], gone: dict[str, str]) -> None:
    found = made(Rule(fallback=fallback, residency=residency), MIXED)
    assert order(found) == kept and left_out(found) == gone


def test_the_reasons_say_which_is_the_first_and_which_are_fallbacks() -> None:
    assert [attempt.reason for attempt in made(Rule(), MIXED).attempts] == ["first in order", "fallback", "fallback", "fallback"]


def test_nothing_is_planned_when_residency_forbids_everything() -> None:
    found = made(Rule(residency="local_only"), (False, False))
    assert not found.attempts and len(found.removed) == 2 and found.soonest_at is None


def test_no_candidates_make_an_empty_plan() -> None:
    assert plan(Rule(), ASK, Admitted((), ()), (), NOW) == Plan((), (), "no target is left")


@given(st.lists(st.booleans(), max_size=30), st.sampled_from(RULES))
def test_a_plan_of_any_length_keeps_order_and_loses_nobody(owned: list[bool], rule: Rule) -> None:
    kept, gone = places(made(rule, tuple(owned)))
    assert kept == sorted(kept) and sorted(kept + gone) == list(range(len(owned)))


# --- fit --------------------------------------------------------------------------------------------------------------
def test_a_target_whose_context_is_surely_too_short_is_left_out_and_told_so() -> None:
    found = planned(Rule(), [Fed("small", PRICE, context_tokens=600), Fed("large", PRICE, context_tokens=8000)])
    assert order(found) == ["large"]
    assert left_out(found) == {"small": "context: about 1000 tokens, it takes 600"}


def test_a_context_that_the_estimate_exceeds_by_less_than_it_may_err_is_tried() -> None:
    assert order(planned(Rule(), [Fed("small", PRICE, context_tokens=700), Fed("large", PRICE)])) == ["small", "large"]


def test_a_target_that_lacks_what_the_request_needs_is_left_out_and_told_so() -> None:
    ask = Ask("req-1", True, 1000, needs=frozenset({"tools", "images"}))
    found = planned(Rule(), [Fed("mute", PRICE, lacks=frozenset({"tools", "audio"})), Fed("able", PRICE)], ask)
    assert order(found) == ["able"] and left_out(found) == {"mute": "cannot: tools"}


def test_when_nobody_fits_by_what_is_known_the_one_that_takes_most_is_asked_all_the_same() -> None:
    """The provider says best why not; what is known of it may be out of date."""
    found = planned(Rule(), [Fed("one", PRICE, context_tokens=10), Fed("two", PRICE, context_tokens=20)])
    assert order(found) == ["two"] and left_out(found) == {"one": "context: about 1000 tokens, it takes 10"}


def test_nobody_is_asked_who_neither_fits_nor_is_ready() -> None:
    found = planned(Rule(), [Fed("one", PRICE, context_tokens=10).now(ready_at=NOW + 3.0, busy="x")])
    assert not found.attempts and found.soonest_at == NOW + 3.0


def test_a_request_bound_to_a_target_is_planned_for_no_other() -> None:
    found = planned(Rule(), [Fed("one", PRICE), Fed("two", PRICE)], Ask("req-1", True, 1000, bound_to="two"))
    assert order(found) == ["two"] and left_out(found) == {"one": "the request's state is bound to another target"}


def test_a_request_bound_to_a_forbidden_target_is_planned_for_none() -> None:
    found = planned(Rule(residency="local_only"), [Fed("one", PRICE), Fed("cpu", owned=True)], Ask("req-1", True, 1000, bound_to="one"))
    assert not found.attempts


# --- readiness --------------------------------------------------------------------------------------------------------
def test_a_target_that_is_not_ready_is_left_out_with_its_reason() -> None:
    found = planned(Rule(), [Fed("one", PRICE).now(ready_at=NOW + 2.0, busy="not ready: x"), Fed("two", PRICE)])
    assert order(found) == ["two"] and left_out(found) == {"one": "not ready: x"} and found.soonest_at == NOW + 2.0


def test_when_nobody_is_ready_the_plan_says_when_the_first_will_be() -> None:
    found = planned(Rule(), [Fed("one", PRICE).now(ready_at=NOW + 9.0, busy="x"), Fed("two", PRICE).now(ready_at=NOW + 4.0, busy="y")])
    assert not found.attempts and found.soonest_at == NOW + 4.0


def test_a_misfit_does_not_stand_in_for_a_target_that_is_soon_ready() -> None:
    found = planned(Rule(), [Fed("one", PRICE).now(ready_at=NOW + 1.0, busy="x"), Fed("small", PRICE, context_tokens=10)])
    assert not found.attempts and found.soonest_at == NOW + 1.0


@pytest.mark.parametrize(("fallback", "kept"), [("any", ["two", "cpu"]), ("local", ["cpu"]), ("none", [])])
def test_a_first_that_is_not_ready_opens_no_way_that_its_failure_would_not(fallback: Fallback, kept: list[str]) -> None:
    targets = [Fed("one", PRICE).now(ready_at=NOW + 1.0, busy="x"), Fed("two", PRICE), Fed("cpu", owned=True)]
    assert order(planned(Rule(fallback=fallback), targets)) == kept


# --- price limit ------------------------------------------------------------------------------------------------------
def test_a_target_predicted_to_cost_more_than_the_limit_is_left_out() -> None:
    found = planned(Rule(max_nusd=2_000_000), [Fed("dear", usd(10, 50)), Fed("cheap", PRICE)])  # 1000 in, 100 out: $0.015, $0.0015
    assert order(found) == ["cheap"]
    assert left_out(found)["dear"].startswith("max_usd_per_request: about $0.0150")


def test_a_target_without_a_price_keeps_no_price_limit() -> None:
    found = planned(Rule(max_nusd=2_000_000), [Fed("unpriced"), Fed("cpu", owned=True)])
    assert order(found) == ["cpu"] and left_out(found) == {"unpriced": "max_usd_per_request: its price is not known"}
