"""When a second attempt starts beside the first, on whom, and what all of them together may cost."""

import pytest

from policy.ask import Ask
from policy.hedge import HALF_LIFE_S, LEAST_S, HedgeBudget, hedge
from policy.plan import Plan
from policy.rule import Rule, Slo
from tests.policy.targets import NOW, Fed, planned, usd

P95 = Rule(hedge_after="p95")
CENT = 10_000_000.0


def two(rule: Rule = P95) -> Plan:
    return planned(rule, [Fed("first", usd(1, 5), ttft_s=0.4), Fed("second", usd(1, 5), ttft_s=0.1)])


def test_the_second_starts_after_the_first_s_predicted_p95() -> None:
    found = hedge(P95, two(), (), NOW, HedgeBudget())
    assert found is not None and found.planned.candidate.name == "second"
    assert found.after_s == two().attempts[0].prediction.ttft_p95_s == pytest.approx(0.4, rel=0.2)


def test_a_fixed_time_is_taken_as_it_is() -> None:
    found = hedge(Rule(hedge_after=0.15), two(), (), NOW, HedgeBudget())
    assert found is not None and found.after_s == 0.15


def test_there_is_no_time_so_short_that_both_start_as_one() -> None:
    found = hedge(Rule(hedge_after=0.0), two(), (), NOW, HedgeBudget())
    assert found is not None and found.after_s == LEAST_S


def test_nothing_is_hedged_unless_the_rule_says_so() -> None:
    assert hedge(Rule(), two(), (), NOW, HedgeBudget()) is None


def test_nothing_is_hedged_without_a_second_target() -> None:
    assert hedge(P95, planned(P95, [Fed("first")]), (), NOW, HedgeBudget()) is None


def test_no_p95_is_guessed_for_a_first_of_which_nothing_is_known() -> None:
    assert hedge(P95, planned(P95, [Fed("first", samples=0), Fed("second")]), (), NOW, HedgeBudget()) is None


def test_a_fixed_time_needs_no_measurements() -> None:
    rule = Rule(hedge_after=0.15)
    assert hedge(rule, planned(rule, [Fed("first", samples=0), Fed("second")]), (), NOW, HedgeBudget()) is not None


@pytest.mark.parametrize(("idle", "expected"), [(("cpu",), "cpu"), ((), "second"), (("second",), "second")])
def test_an_idle_engine_of_our_own_is_the_best_second(idle: tuple[str, ...], expected: str) -> None:
    found = hedge(P95, planned(P95, [Fed("first"), Fed("second"), Fed("cpu", owned=True)]), idle, NOW, HedgeBudget())
    assert found is not None and found.planned.candidate.name == expected


def test_the_second_starts_at_once_when_the_first_is_likely_late_and_the_other_is_not() -> None:
    rule = Rule(hedge_after="p95", slo=Slo(ttft_s=1.0), explore=1.0)
    plan = planned(rule, [Fed("late", ttft_s=9.0), Fed("good")], Ask("req-33", True, 1000, 200), may_explore=True)
    assert [each.candidate.name for each in plan.attempts] == ["late", "good"]  # the late one is measured again
    found = hedge(rule, plan, (), NOW, HedgeBudget())
    assert found is not None and found.after_s == LEAST_S


def test_the_second_waits_its_time_when_it_is_likely_later_still() -> None:
    rule = Rule(hedge_after=0.2, slo=Slo(ttft_s=1.0))
    found = hedge(rule, planned(rule, [Fed("late", ttft_s=5.0), Fed("later", ttft_s=9.0)]), (), NOW, HedgeBudget())
    assert found is not None and found.after_s == 0.2


# --- what it may cost -----------------------------------------------------------------------------------------------
def test_second_runners_cost_no_more_than_their_share_of_what_is_spent() -> None:
    budget = HedgeBudget()
    started = 0
    for _ in range(1000):
        budget.spent(NOW, CENT)
        if budget.allows(NOW, 0.05, CENT):
            budget.hedged(NOW, CENT)
            started += 1
    assert 49 <= started <= 51


def test_without_prices_second_runners_are_a_share_of_the_requests() -> None:
    budget = HedgeBudget()
    started = 0
    for _ in range(1000):
        budget.spent(NOW, None)
        if budget.allows(NOW, 0.05, None):
            budget.hedged(NOW, None)
            started += 1
    assert 49 <= started <= 51


@pytest.mark.parametrize("cost_nusd", [CENT, None])
def test_one_second_runner_is_affordable_before_anything_was_spent_and_no_second_one(cost_nusd: float | None) -> None:
    budget = HedgeBudget()
    assert budget.allows(NOW, 0.05, cost_nusd)
    budget.hedged(NOW, cost_nusd)
    assert not budget.allows(NOW, 0.05, cost_nusd)


@pytest.mark.parametrize("cost_nusd", [CENT, None])
def test_a_share_of_nothing_lets_no_second_runner_go(cost_nusd: float | None) -> None:
    assert not HedgeBudget().allows(NOW, 0.0, cost_nusd)


def test_an_idle_engine_s_second_run_is_free_whatever_was_spent() -> None:
    budget = HedgeBudget()
    budget.hedged(NOW, CENT)
    assert budget.allows(NOW, 0.0, 0.0)


def test_an_engine_that_is_not_idle_is_hedged_on_for_a_share_of_the_requests() -> None:
    """It has no price, but others wait for it: when the first target turns slow, not all of its requests are doubled."""
    budget, plan = HedgeBudget(), planned(P95, [Fed("first"), Fed("cpu", owned=True)])
    started = 0
    for _ in range(1000):
        budget.spent(NOW, CENT)
        if (found := hedge(P95, plan, (), NOW, budget)) is not None:
            budget.hedged(NOW, found.cost_nusd)
            started += 1
    assert 49 <= started <= 51


def test_what_was_spent_long_ago_buys_nothing() -> None:
    budget = HedgeBudget()
    budget.spent(NOW, 100 * CENT)
    budget.hedged(NOW, 0.1 * CENT)
    assert budget.allows(NOW, 0.05, CENT)
    assert not budget.allows(NOW + 10 * HALF_LIFE_S, 0.05, CENT)


def test_nothing_is_hedged_that_the_budget_forbids() -> None:
    budget = HedgeBudget()
    budget.hedged(NOW, CENT)
    assert hedge(P95, two(), (), NOW, budget) is None
