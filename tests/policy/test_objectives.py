"""What decides between the targets that are left: the SLO first, then the objective; ties and weights by the request's id alone."""

from collections import Counter
from typing import get_args

import msgspec
import pytest

from policy.ask import Ask
from policy.plan import Plan
from policy.residency import Rates
from policy.rule import Objective, Rule, Slo, Weights
from tests.policy.targets import ASK, Fed, order, planned, usd

DEAR, CHEAP = usd(10, 50), usd(1, 5)
IDS = [f"req-{number:032x}" for number in range(10_000)]
SECOND = Slo(ttft_s=1.0)


def three() -> list[Fed]:
    """Each the best at something: the first in order, the cheapest, and the one that is dear, soonest to begin and fastest."""
    return [
        Fed("first", usd(5, 25), ttft_s=0.5, token_s=0.02),
        Fed("cheap", CHEAP, ttft_s=3.0, token_s=0.05),
        Fed("fast", DEAR, ttft_s=0.1, token_s=0.005),
    ]


def chosen(rule: Rule, targets: list[Fed], ask: Ask = ASK) -> str:
    return order(planned(rule, targets, ask))[0]


def shares(rule: Rule, targets: list[Fed]) -> dict[str, float]:
    """Who comes first, over many requests."""
    found = Counter(chosen(rule, targets, Ask(each, True, 1000, 200)) for each in IDS)
    return {name: count / len(IDS) for name, count in found.items()}


WINNERS: list[tuple[Objective, Slo | None, list[str], str]] = [
    ("ordered", None, ["first", "cheap", "fast"], "first in order"),
    ("cheapest", None, ["cheap", "first", "fast"], "cheapest"),
    ("fastest", None, ["fast", "first", "cheap"], "fastest"),
    ("throughput", None, ["fast", "first", "cheap"], "highest throughput"),
    ("weighted", None, ["fast", "first", "cheap"], "best by weight"),
    ("ordered", SECOND, ["first", "fast", "cheap"], "first in order of those that meet the SLO"),
    ("cheapest", SECOND, ["first", "fast", "cheap"], "cheapest of those that meet the SLO"),
    ("fastest", SECOND, ["fast", "first", "cheap"], "fastest of those that meet the SLO"),
    ("throughput", SECOND, ["fast", "first", "cheap"], "highest throughput of those that meet the SLO"),
    ("weighted", SECOND, ["fast", "first", "cheap"], "best by weight of those that meet the SLO"),
]


@pytest.mark.parametrize(("objective", "slo", "expected", "why"), WINNERS, ids=[f"{row[0]}{'-slo' if row[1] else ''}" for row in WINNERS])
def test_each_objective_orders_the_targets_by_what_it_wants(objective: Objective, slo: Slo | None, expected: list[str], why: str) -> None:
    found = planned(Rule(objective=objective, slo=slo or Slo()), three())
    assert order(found) == expected and found.why == why and found.attempts[0].reason == why
    assert found.slo_met is (True if slo else None)


@pytest.mark.parametrize("streamed", [True, False])
def test_the_cheapest_of_those_that_meet_the_slo_wins_over_a_cheaper_one_that_does_not(streamed: bool) -> None:
    targets = [Fed("slow", CHEAP, ttft_s=9.0), Fed("middle", usd(5, 25), ttft_s=0.3), Fed("dear", DEAR, ttft_s=0.1)]
    rule = Rule(objective="cheapest", slo=Slo(ttft_s=1.0))
    assert order(planned(rule, targets, Ask("r", streamed, 1000))) == ["middle", "dear", "slow"]


PROMISES = [Slo(ttft_s=1.0), Slo(tokens_per_s=50.0), Slo(deadline_s=4.0), Slo(1.0, 50.0, 4.0)]


@pytest.mark.parametrize("slo", PROMISES, ids=["ttft", "tokens", "deadline", "all"])
def test_every_promise_leaves_the_slow_one_behind(slo: Slo) -> None:
    found = planned(Rule(objective="cheapest", slo=slo), [Fed("slow", CHEAP, ttft_s=2.0, token_s=0.05), Fed("fast", DEAR)])
    assert order(found) == ["fast", "slow"] and found.slo_met


def test_a_minority_of_slow_answers_above_one_in_twenty_breaks_a_p95() -> None:
    slow = Fed("often", CHEAP)
    for _ in range(5):
        slow.answered(ttft_s=5.0, token_s=0.01, output=100)
    found = planned(Rule(objective="cheapest", slo=SECOND), [slow, Fed("always", DEAR)])
    assert order(found)[0] == "always"


@pytest.mark.parametrize("objective", get_args(Objective))
def test_when_none_meets_the_slo_the_likeliest_wins_and_it_is_said(objective: Objective) -> None:
    late = Fed("late", CHEAP, ttft_s=5.0)
    later = Fed("sometimes", DEAR, ttft_s=5.0)
    for _ in range(10):
        later.answered(ttft_s=0.3, token_s=0.01, output=100)
    found = planned(Rule(objective=objective, slo=SECOND), [late, later])
    assert order(found) == ["sometimes", "late"] and found.slo_met is False
    assert found.why == "most likely to meet the SLO, at 25%"


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("slo", [Slo(ttft_s=0.1), Slo(ttft_s=0.1, deadline_s=0.2)], ids=["first token", "end too"])
def test_of_those_without_hope_the_nearest_comes_first_not_the_cheapest(slo: Slo, streamed: bool) -> None:
    targets = [Fed("slowest", CHEAP, ttft_s=40.0), Fed("slow", CHEAP, ttft_s=20.0), Fed("near", DEAR, ttft_s=12.0)]
    found = planned(Rule(objective="cheapest", slo=slo), targets, Ask("r", streamed, 1000, 100))
    assert order(found) == ["near", "slow", "slowest"] and found.why == "most likely to meet the SLO, at 0%"


def test_any_hope_is_better_than_none() -> None:
    some = Fed("some", DEAR, ttft_s=30.0)
    for _ in range(10):
        some.answered(ttft_s=0.3, token_s=0.01, output=100)
    assert order(planned(Rule(objective="cheapest", slo=SECOND), [Fed("near", CHEAP, ttft_s=4.0), some])) == ["some", "near"]


def test_a_queue_s_wait_counts_against_the_slo() -> None:
    queued = Fed("cpu", owned=True).now(wait_s=3.0)
    assert order(planned(Rule(objective="cheapest", slo=SECOND), [queued, Fed("fast", DEAR)])) == ["fast", "cpu"]


def test_a_target_of_which_nothing_is_known_comes_after_those_that_meet_the_slo() -> None:
    cold = Fed("cold", CHEAP, samples=0)
    targets = [cold, Fed("warm", DEAR), Fed("slow", CHEAP, ttft_s=9.0)]
    assert order(planned(Rule(objective="cheapest", slo=SECOND), targets)) == ["warm", "cold", "slow"]


def test_in_order_the_first_is_not_passed_over_for_want_of_measurements() -> None:
    """Nothing would ever measure it again: after a bad hour that has faded it would be out for good."""
    found = planned(Rule(slo=SECOND), [Fed("cold", CHEAP, samples=0), Fed("warm", DEAR)])
    assert order(found) == ["cold", "warm"] and found.slo_met is None
    assert found.why == "first in order; the SLO's odds are not known yet"


def test_in_order_a_first_that_is_known_to_miss_the_slo_is_passed_over() -> None:
    assert order(planned(Rule(slo=SECOND), [Fed("slow", CHEAP, ttft_s=9.0), Fed("warm", DEAR)])) == ["warm", "slow"]


@pytest.mark.parametrize("objective", get_args(Objective))
def test_where_nothing_is_known_of_anyone_the_slo_s_odds_are_said_to_be_unknown(objective: Objective) -> None:
    found = planned(Rule(objective=objective, slo=SECOND), [Fed("one", CHEAP, samples=0), Fed("two", DEAR, samples=0)])
    assert order(found) == ["one", "two"] and found.slo_met is None and "not known" in found.why


def test_a_rule_that_promises_nothing_decides_as_one_without_an_slo() -> None:
    found = planned(Rule(objective="cheapest", slo=Slo(None, None, None)), three())
    assert found.why == "cheapest" and found.slo_met is None


# --- effective price ----------------------------------------------------------------------------------------------------
CHEAPEST = Rule(objective="cheapest")


def test_cached_input_makes_a_dearer_target_the_cheapest() -> None:
    plain, caching = Fed("plain", usd(3, 5)), Fed("caching", usd(4, 5, cached=0.4), cached=0.9)
    assert chosen(CHEAPEST, [plain, caching]) == "caching"
    assert chosen(CHEAPEST, [plain, Fed("caching", usd(4, 5, cached=0.4))]) == "plain"


def test_a_verbose_model_is_dearer_than_its_list_price() -> None:
    terse, verbose = Fed("terse", usd(1, 6), output=100), Fed("verbose", usd(1, 5), output=400)
    assert chosen(CHEAPEST, [verbose, terse], Ask("r", True, 1000)) == "terse"


def test_the_client_s_own_limit_ends_verbosity() -> None:
    terse, verbose = Fed("terse", usd(1, 6), output=100), Fed("verbose", usd(1, 5), output=400)
    assert chosen(CHEAPEST, [verbose, terse], Ask("r", True, 1000, max_tokens=50)) == "verbose"


@pytest.mark.parametrize(("paid", "first"), [(True, "steady"), (False, "flaky")])
def test_failures_make_a_target_dearer_where_they_cost_money(paid: bool, first: str) -> None:
    flaky, steady = Fed("flaky", usd(1, 5), failures=20, paid=paid), Fed("steady", usd(1.2, 6))
    assert chosen(CHEAPEST, [flaky, steady]) == first


def test_a_batch_discount_changes_the_winner_for_what_may_wait() -> None:
    discounted, plain = Fed("discounted", usd(1.5, 7.5), batch_factor=0.5), Fed("plain", CHEAP)
    assert chosen(CHEAPEST, [discounted, plain], Ask("r", False, 1000, batch=True)) == "discounted"
    assert chosen(CHEAPEST, [discounted, plain], Ask("r", False, 1000)) == "plain"


def test_a_price_for_each_request_counts() -> None:
    metered = Fed("metered", Rates(1e3, 5e3, 1e3, request=1e6))
    assert chosen(CHEAPEST, [metered, Fed("plain", usd(1.1, 5.5))]) == "plain"


def test_an_engine_of_our_own_is_the_cheapest() -> None:
    assert chosen(CHEAPEST, [Fed("cheap", usd(0.01, 0.01)), Fed("cpu", owned=True)]) == "cpu"


def test_a_target_without_a_price_comes_after_those_with_one() -> None:
    assert order(planned(CHEAPEST, [Fed("unpriced"), Fed("dear", DEAR), Fed("other")])) == ["dear", "unpriced", "other"]


# --- weights of the objective -------------------------------------------------------------------------------------------
def weighted(cost: float = 0.0, latency: float = 0.0, throughput: float = 0.0) -> Rule:
    return Rule(objective="weighted", weights=Weights(cost, latency, throughput))


@pytest.mark.parametrize(("rule", "expected"), [(weighted(cost=1), "cheap"), (weighted(latency=1), "fast"), (weighted(throughput=1), "fast")])
def test_one_weight_alone_is_that_objective(rule: Rule, expected: str) -> None:
    assert chosen(rule, three()) == expected


def test_what_is_weighed_are_ratios_to_the_best() -> None:
    """Ten times the price against a thirtieth of the time."""
    assert chosen(weighted(cost=1, latency=1), [Fed("cheap", CHEAP, ttft_s=3.0), Fed("fast", DEAR, ttft_s=0.1)]) == "fast"
    assert chosen(weighted(cost=4, latency=1), [Fed("cheap", CHEAP, ttft_s=3.0), Fed("fast", DEAR, ttft_s=0.1)]) == "cheap"


@pytest.mark.parametrize(("engine_s", "expected"), [(0.15, "cpu"), (5.0, "cheap")])
def test_a_free_engine_wins_by_its_price_only_while_it_is_not_much_slower(engine_s: float, expected: str) -> None:
    targets = [Fed("cheap", CHEAP, ttft_s=0.1), Fed("dear", DEAR, ttft_s=0.1), Fed("cpu", owned=True, ttft_s=engine_s)]
    assert chosen(weighted(cost=1, latency=1), targets) == expected


def test_an_unknown_quantity_weighs_more_than_the_worst_known() -> None:
    assert chosen(weighted(cost=1), [Fed("unpriced"), Fed("dear", DEAR), Fed("cheap", CHEAP)]) == "cheap"
    assert order(planned(weighted(cost=1), [Fed("unpriced"), Fed("dear", DEAR), Fed("cheap", CHEAP)]))[-1] == "unpriced"


# --- by the request's id ------------------------------------------------------------------------------------------------
def test_weights_share_the_requests_out() -> None:
    found = shares(Rule(), [Fed("stable", weight=95), Fed("canary", weight=5)])
    assert found["canary"] == pytest.approx(0.05, abs=0.01) and found["stable"] == pytest.approx(0.95, abs=0.01)


def test_a_target_without_a_weight_among_weighted_ones_is_never_first() -> None:
    assert set(shares(Rule(), [Fed("spare"), Fed("one", weight=1), Fed("two", weight=1)])) == {"one", "two"}


def test_those_that_are_left_share_the_requests_of_one_that_is_not_ready() -> None:
    targets = [Fed("a", weight=1), Fed("b", weight=1), Fed("down", weight=2).now(ready_at=2000.0, busy="x")]
    assert shares(Rule(), targets) == {"a": pytest.approx(0.5, abs=0.02), "b": pytest.approx(0.5, abs=0.02)}


def test_a_weight_under_an_slo_counts_among_those_that_meet_it() -> None:
    targets = [Fed("late", ttft_s=9.0, weight=8), Fed("a", weight=1), Fed("b", weight=3)]
    assert shares(Rule(slo=SECOND), targets) == {"a": pytest.approx(0.25, abs=0.02), "b": pytest.approx(0.75, abs=0.02)}


def test_equals_share_the_requests_evenly() -> None:
    found = shares(CHEAPEST, [Fed("a", CHEAP), Fed("b", CHEAP), Fed("c", CHEAP), Fed("dear", DEAR)])
    assert set(found) == {"a", "b", "c"} and all(share == pytest.approx(1 / 3, abs=0.02) for share in found.values())


def test_a_hair_s_difference_does_not_move_a_request_between_equals() -> None:
    """Else a canary's requests would change sides with every cent that a forecast moves."""
    before = [Fed("a", usd(1, 5)), Fed("b", usd(1.001, 5.005))]
    after = [Fed("a", usd(1.001, 5.005)), Fed("b", usd(1, 5))]
    asks = [Ask(each, True, 1000, 200) for each in IDS[:500]]
    assert [chosen(CHEAPEST, before, ask) for ask in asks] == [chosen(CHEAPEST, after, ask) for ask in asks]


@pytest.mark.parametrize("objective", get_args(Objective))
def test_the_same_request_is_planned_the_same_again(objective: Objective) -> None:
    targets = [Fed("a", CHEAP, weight=1), Fed("b", CHEAP, weight=1), Fed("c", CHEAP, weight=1)]

    def plans() -> list[Plan]:
        return [planned(Rule(objective=objective), targets, Ask(each, True, 1000)) for each in IDS[:50]]

    assert plans() == plans()


@pytest.mark.parametrize(("objective", "slo"), [(row[0], row[1]) for row in WINNERS])
def test_what_a_batch_has_planned_for_a_row_goes_first_and_the_rest_follows_as_ever(objective: Objective, slo: Slo | None) -> None:
    rule = Rule(objective=objective, slo=slo or Slo(), explore=0.5)
    plain = order(planned(rule, three()))
    for name in plain:
        found = planned(rule, three(), msgspec.structs.replace(ASK, planned=name), may_explore=True)
        assert order(found) == [name, *[each for each in plain if each != name]]
        assert found.why == found.attempts[0].reason == "planned by its batch" and not found.exploring


def test_a_planned_target_that_is_not_ready_leaves_the_choice_to_the_policy() -> None:
    away = [Fed("first", CHEAP), Fed("second", DEAR).now(ready_at=2000.0, busy="not ready")]
    found = planned(Rule(), away, msgspec.structs.replace(ASK, planned="second"))
    assert order(found) == ["first"] and found.why == "first in order"
