"""Cold targets get measured now and then, within a share of the requests, a limit on price, and a budget of errors and money."""

import pytest

from policy.ask import Ask
from policy.explore import GRACE, HALF_LIFE_S, ExploreBudget
from policy.plan import Plan
from policy.rule import Objective, Rule, Slo, Weights
from tests.policy.targets import NOW, Fed, order, planned, usd

IDS = [f"req-{number:032x}" for number in range(4_000)]
CENT = 10_000_000.0


def explored(rule: Rule, targets: list[Fed]) -> list[Plan]:
    plans = [planned(rule, targets, Ask(each, True, 1000, 100), may_explore=True) for each in IDS]
    return [plan for plan in plans if plan.exploring]


def rule(share: float = 0.02, **more: object) -> Rule:
    return Rule(objective="cheapest", explore=share, **more)


def test_a_cold_target_comes_first_for_its_share_of_the_requests() -> None:
    found = explored(rule(), [Fed("warm", usd(1, 5)), Fed("cold", usd(2, 10), samples=0)])
    assert len(found) / len(IDS) == pytest.approx(0.02, abs=0.005)
    assert {tuple(order(plan)) for plan in found} == {("cold", "warm")}
    assert {plan.why for plan in found} == {plan.attempts[0].reason for plan in found} == {"exploring"}


def test_several_cold_targets_share_the_measurements() -> None:
    found = explored(rule(0.2), [Fed("warm", usd(1, 5)), Fed("a", usd(2, 10), samples=0), Fed("b", usd(2, 10), samples=0)])
    firsts = [order(plan)[0] for plan in found]
    assert firsts.count("a") / len(firsts) == pytest.approx(0.5, abs=0.05) and set(firsts) == {"a", "b"}


def test_a_target_that_missed_the_slo_is_measured_again() -> None:
    """What was slow for an hour may be well by now."""
    found = explored(rule(slo=Slo(ttft_s=1.0)), [Fed("slow", usd(1, 5), ttft_s=9.0), Fed("good", usd(1, 5))])
    assert {order(plan)[0] for plan in found} == {"slow"} and {plan.slo_met for plan in found} == {False}


@pytest.mark.parametrize("ttft_s", [0.5, 9.0], ids=["it did well", "it was slow"])
def test_a_target_that_was_not_asked_for_hours_is_measured(ttft_s: float) -> None:
    silent = Fed("silent", ttft_s=ttft_s, samples=0)
    for _ in range(30):
        silent.answered(ttft_s, 0.01, 100, now=NOW - 3 * 3600.0)
    found = explored(Rule(objective="fastest", explore=0.02, slo=Slo(ttft_s=1.0)), [Fed("asked"), silent])
    assert {order(plan)[0] for plan in found} == {"silent"} and len(found) / len(IDS) == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize(
    "targets",
    [
        [Fed("warm", usd(1, 5)), Fed("warm too", usd(2, 10))],
        [Fed("warm", usd(1, 5)), Fed("dear", usd(4, 20), samples=0)],
        [Fed("warm", usd(1, 5)), Fed("unpriced", samples=0)],
        [Fed("alone", usd(1, 5), samples=0)],
        [Fed("cold", usd(1, 5), samples=0), Fed("warm", usd(2, 10))],
    ],
    ids=["all known", "too dear", "price not known", "alone", "first already"],
)
def test_nothing_is_explored_that_is_not_worth_it(targets: list[Fed]) -> None:
    assert not explored(rule(), targets)


@pytest.mark.parametrize(
    ("objective", "dear_is_measured"),
    [("fastest", True), ("throughput", True), ("ordered", True), ("weighted", False), ("cheapest", False)],
)
def test_a_price_bars_a_measurement_only_where_cost_decides(objective: Objective, dear_is_measured: bool) -> None:
    found = explored(Rule(objective=objective, explore=0.1), [Fed("warm", usd(1, 5)), Fed("dear", usd(4, 20), samples=0)])
    assert bool(found) is dear_is_measured


def test_weights_without_a_cost_measure_the_dear_too() -> None:
    rule = Rule(objective="weighted", weights=Weights(cost=0.0), explore=0.1)
    assert explored(rule, [Fed("warm", usd(1, 5)), Fed("unpriced", samples=0)])


def test_nothing_is_explored_without_a_share_or_without_a_budget() -> None:
    targets = [Fed("warm", usd(1, 5)), Fed("cold", usd(2, 10), samples=0)]
    assert not explored(rule(0.0), targets)
    assert not any(planned(rule(1.0), targets, Ask(each, True, 1000)).exploring for each in IDS[:100])


def test_nothing_is_explored_that_would_leave_the_request_without_a_fallback() -> None:
    """A measurement that fails must cost the caller nothing but time."""
    targets = [Fed("warm", usd(1, 5)), Fed("cold", usd(2, 10), samples=0)]
    assert not explored(rule(fallback="none"), targets) and not explored(rule(fallback="local"), targets)
    assert explored(rule(fallback="local"), [Fed("cpu", owned=True, samples=30), Fed("other", owned=True, samples=0)])


# --- the budget -------------------------------------------------------------------------------------------------------
def test_measurements_cost_no_more_than_their_share_of_what_is_spent() -> None:
    budget = ExploreBudget()
    made = 0
    for _ in range(1000):
        exploring = budget.allows(NOW, 0.02)
        made += exploring
        budget.answered(2 * CENT if exploring else CENT, CENT if exploring else None)
    assert 18 <= made <= 22


def test_a_measurement_that_was_cheaper_than_the_best_costs_nothing() -> None:
    budget = ExploreBudget()
    for _ in range(100):
        budget.answered(CENT, -CENT)
        budget.explored(failed=False)
    assert budget.allows(NOW, 0.0)


def test_exploration_rests_when_its_targets_fail_and_begins_again_after_a_while() -> None:
    budget = ExploreBudget()
    assert budget.allows(NOW, 0.02)
    failures = 0
    while budget.allows(NOW, 0.02):
        budget.explored(failed=True)
        failures += 1
    assert failures <= GRACE
    assert budget.allows(NOW + 3 * HALF_LIFE_S, 0.02)


def test_few_errors_among_many_measurements_do_not_stop_it() -> None:
    budget = ExploreBudget()
    for number in range(100):
        budget.explored(failed=number % 5 == 0)
    assert budget.allows(NOW, 0.02)
