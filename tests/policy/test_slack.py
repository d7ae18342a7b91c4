"""What a late answer costs in the choice follows from how the promise was kept; a likely target is cheap only while misses are few."""

import pytest

from policy.plan import plan
from policy.residency import admit
from policy.rule import Rule, Slo
from policy.slack import LEAST_MISS, MOST_MISS, Miss, Slack
from tests.policy.targets import ASK, NOW, Fed, order, state, usd

RULE = Rule(objective="cheapest", slo=Slo(ttft_s=1.0))


def kept(late_of_a_hundred: int) -> Slack:
    slack = Slack()
    for number in range(1000):
        slack.answered(number * 0.1, late=number % 100 < late_of_a_hundred)
    return slack


def choice(miss: Miss) -> list[str]:
    """Between one that is late in an eighth of the cases, and one at three times its price that never is."""
    often, always = Fed("often", usd(1, 5), samples=70), Fed("always", usd(3, 15))
    for _ in range(10):
        often.answered(4.0, 0.01, 100)
    targets = [often, always]
    admitted = admit(RULE, tuple(each.candidate(index) for index, each in enumerate(targets)))
    return order(plan(RULE, ASK, admitted, [state(each, ASK, NOW) for each in targets], NOW, False, miss))


def test_a_late_answer_is_cheap_while_few_are_late() -> None:
    assert all(slack.miss().times == LEAST_MISS for slack in (Slack(), kept(0), kept(4)))


def test_a_late_answer_is_dear_when_more_are_late_than_a_p95_allows() -> None:
    assert kept(12).miss().times == MOST_MISS
    assert LEAST_MISS < kept(8).miss().times < MOST_MISS


def test_old_misses_fade() -> None:
    slack = kept(12)
    for number in range(2000):
        slack.answered(3600.0 + number, late=False)
    assert slack.miss().times == LEAST_MISS


def test_a_late_answer_costs_the_same_whatever_the_request_does() -> None:
    slack = Slack()
    for number in range(100):
        slack.asked(number * 1.0, 1000.0 if number % 2 else 3000.0)
    assert slack.miss().usual_nusd == pytest.approx(2000.0, rel=0.02)
    assert slack.miss().nusd(50_000.0) == slack.miss().nusd(10.0) == pytest.approx(LEAST_MISS * 2000.0, rel=0.02)


def test_where_no_price_is_known_yet_the_request_itself_is_the_usual_one() -> None:
    slack = Slack()
    slack.asked(0.0, 0.0)
    assert slack.miss().usual_nusd is None and slack.miss().nusd(100.0) == LEAST_MISS * 100.0


def test_what_requests_cost_long_ago_fades() -> None:
    slack = Slack()
    for number in range(100):
        slack.asked(number * 1.0, 1000.0)
    for number in range(100):
        slack.asked(7200.0 + number, 5000.0)
    assert slack.miss().usual_nusd == pytest.approx(5000.0, rel=0.01)


@pytest.mark.parametrize(("miss", "first"), [(Miss(LEAST_MISS), "often"), (Miss(MOST_MISS), "always")])
def test_a_likely_target_is_taken_while_misses_are_few(miss: Miss, first: str) -> None:
    assert choice(miss)[0] == first
