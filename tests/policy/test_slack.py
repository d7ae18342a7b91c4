"""What a late answer costs in the choice follows from how the promise was kept; a likely target is cheap only while misses are few."""

import pytest

from policy.plan import plan
from policy.residency import admit
from policy.rule import Rule, Slo
from policy.slack import LEAST_MISS, MOST_MISS, Slack
from tests.policy.targets import ASK, NOW, Fed, order, state, usd

RULE = Rule(objective="cheapest", slo=Slo(ttft_s=1.0))


def kept(late_of_a_hundred: int) -> Slack:
    slack = Slack()
    for number in range(1000):
        slack.answered(number * 0.1, late=number % 100 < late_of_a_hundred)
    return slack


def choice(miss: float) -> list[str]:
    """Between one that is late in an eighth of the cases, and one at three times its price that never is."""
    often, always = Fed("often", usd(1, 5), samples=70), Fed("always", usd(3, 15))
    for _ in range(10):
        often.answered(4.0, 0.01, 100)
    targets = [often, always]
    admitted = admit(RULE, tuple(each.candidate(index) for index, each in enumerate(targets)))
    return order(plan(RULE, ASK, admitted, [state(each, ASK, NOW) for each in targets], NOW, False, miss))


def test_a_late_answer_is_cheap_while_few_are_late() -> None:
    assert Slack().miss() == LEAST_MISS and kept(0).miss() == LEAST_MISS and kept(1).miss() == LEAST_MISS


def test_a_late_answer_is_dear_when_more_are_late_than_a_p95_allows() -> None:
    assert kept(8).miss() == MOST_MISS
    assert LEAST_MISS < kept(4).miss() < MOST_MISS


def test_old_misses_fade() -> None:
    slack = kept(8)
    for number in range(2000):
        slack.answered(3600.0 + number, late=False)
    assert slack.miss() == LEAST_MISS


@pytest.mark.parametrize(("miss", "first"), [(LEAST_MISS, "often"), (MOST_MISS, "always")])
def test_a_likely_target_is_taken_while_misses_are_few(miss: float, first: str) -> None:
    assert choice(miss)[0] == first
