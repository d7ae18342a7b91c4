"""The plan keeps the list's order and holds only what the rule allows; whatever it leaves out is named with the rule that removed it."""

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.plan import Candidate, Fallback, Plan, Residency, Rule, plan_ordered

RULES = [Rule(fallback=fallback, residency=residency) for fallback, residency in product(get_args(Fallback), get_args(Residency))]
RULE_NAMES = [f"fallback {rule.fallback}, residency {rule.residency}" for rule in RULES]
OWNERSHIPS = [owned for size in range(5) for owned in product([True, False], repeat=size)]


def candidates(owned: tuple[bool, ...]) -> tuple[Candidate, ...]:
    return tuple(Candidate(index, f"{'engine' if own else 'managed'}-{index}", own) for index, own in enumerate(owned))


def planned(plan: Plan) -> list[str]:
    return [attempt.candidate.name for attempt in plan.attempts]


def removed(plan: Plan) -> dict[str, str]:
    return {gone.candidate.name: gone.rule for gone in plan.removed}


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_every_candidate_is_either_planned_or_removed_and_order_is_kept(rule: Rule) -> None:
    for owned in OWNERSHIPS:
        given_ = candidates(owned)
        plan = plan_ordered(rule, given_)
        kept = [attempt.candidate for attempt in plan.attempts]
        gone = [removal.candidate for removal in plan.removed]
        assert sorted(kept + gone, key=lambda c: c.index) == list(given_)
        assert kept == sorted(kept, key=lambda c: c.index) and gone == sorted(gone, key=lambda c: c.index)


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_every_removal_names_a_rule_that_is_in_force(rule: Rule) -> None:
    in_force = {"residency: local_only": rule.residency == "local_only", f"fallback: {rule.fallback}": rule.fallback != "any"}
    for owned in OWNERSHIPS:
        for gone in plan_ordered(rule, candidates(owned)).removed:
            assert in_force[gone.rule]
            assert not (gone.rule == "residency: local_only" and gone.candidate.owned)


@pytest.mark.parametrize("rule", RULES, ids=RULE_NAMES)
def test_the_first_in_the_plan_is_the_first_that_residency_allows(rule: Rule) -> None:
    for owned in OWNERSHIPS:
        allowed = [c for c in candidates(owned) if c.owned or rule.residency == "any"]
        assert [attempt.candidate for attempt in plan_ordered(rule, candidates(owned)).attempts][:1] == allowed[:1]


@pytest.mark.parametrize("fallback", get_args(Fallback))
def test_local_only_never_plans_a_managed_target(fallback: Fallback) -> None:
    for owned in OWNERSHIPS:
        assert all(attempt.candidate.owned for attempt in plan_ordered(Rule(fallback=fallback, residency="local_only"), candidates(owned)).attempts)


@pytest.mark.parametrize("residency", get_args(Residency))
def test_fallback_none_plans_one_target_at_most(residency: Residency) -> None:
    for owned in OWNERSHIPS:
        assert len(plan_ordered(Rule(fallback="none", residency=residency), candidates(owned)).attempts) <= 1


@pytest.mark.parametrize("residency", get_args(Residency))
def test_fallback_local_only_falls_back_to_owned_engines(residency: Residency) -> None:
    for owned in OWNERSHIPS:
        assert all(attempt.candidate.owned for attempt in plan_ordered(Rule(fallback="local", residency=residency), candidates(owned)).attempts[1:])


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
def test_a_mixed_list_is_planned_as_the_table_says(fallback: Fallback, residency: Residency, kept: list[str], gone: dict[str, str]) -> None:
    plan = plan_ordered(Rule(fallback=fallback, residency=residency), candidates(MIXED))
    assert planned(plan) == kept and removed(plan) == gone


def test_the_reasons_say_which_is_the_first_and_which_are_fallbacks() -> None:
    plan = plan_ordered(Rule(), candidates(MIXED))
    assert [attempt.reason for attempt in plan.attempts] == ["first in order", "fallback", "fallback", "fallback"]


def test_nothing_is_planned_when_residency_forbids_everything() -> None:
    plan = plan_ordered(Rule(residency="local_only"), candidates((False, False)))
    assert not plan.attempts and len(plan.removed) == 2


def test_no_candidates_make_an_empty_plan() -> None:
    assert plan_ordered(Rule(), ()) == Plan((), ())


@given(st.lists(st.booleans(), max_size=30), st.sampled_from(RULES))
def test_a_plan_of_any_length_keeps_order_and_loses_nobody(owned: list[bool], rule: Rule) -> None:
    plan = plan_ordered(rule, candidates(tuple(owned)))
    kept = [attempt.candidate.index for attempt in plan.attempts]
    gone = [removal.candidate.index for removal in plan.removed]
    assert kept == sorted(kept) and sorted(kept + gone) == list(range(len(owned)))
