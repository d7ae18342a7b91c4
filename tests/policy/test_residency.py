"""Where a request's data may go: a forbidden target has no type that a plan could hold, whatever the rule, the request and the moment."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.ask import Ask
from policy.forecast import Forecast
from policy.plan import plan
from policy.predict import Live
from policy.residency import Allowed, Candidate, Rates, admit, permits
from policy.rule import Fallback, Objective, Residency, Rule, Slo
from policy.stats import TargetStats
from tests.policy.targets import NOW

REGIONS = ["", "eu", "eu-west-1", "eu-central-1", "europe", "us", "us-east-1", "EU"]


@pytest.mark.parametrize(
    ("residency", "region", "owned", "permitted"),
    [
        ("any", "", False, True),
        ("any", "us", False, True),
        ("local_only", "eu", False, False),
        ("local_only", "", True, True),
        (("eu",), "eu", False, True),
        (("eu",), "eu-west-1", False, True),
        (("eu",), "europe", False, False),
        (("eu",), "us", False, False),
        (("eu",), "", False, False),
        (("eu",), "", True, True),
        (("eu-west-1",), "eu", False, False),
        (("eu-west-1",), "eu-west-1", False, True),
        (("eu-west-1",), "eu-west-10", False, False),
        (("us", "eu"), "eu-west-1", False, True),
        ((), "eu", False, False),
        ((), "", True, True),
    ],
)
def test_a_residency_permits_what_it_names_and_nothing_else(residency: Residency, region: str, owned: bool, permitted: bool) -> None:
    assert permits(residency, Candidate(0, "x", owned, region)) is permitted


def test_what_is_forbidden_is_told_with_the_rule() -> None:
    candidates = (Candidate(0, "us", False, "us"), Candidate(1, "nowhere", False), Candidate(2, "cpu", True))
    admitted = admit(Rule(residency=("eu", "ch")), candidates)
    assert [each.name for each in admitted.allowed] == ["cpu"]
    assert {each.candidate.name: each.rule for each in admitted.removed} == dict.fromkeys(("us", "nowhere"), "residency: [eu, ch]")


def test_an_allowed_target_keeps_all_that_the_configuration_says_of_it() -> None:
    whole = Candidate(3, "x", False, "eu", Rates(1.0, 2.0, 0.5, 4.0), 8000, frozenset({"tools"}), 0.25, 0.5)
    (allowed,) = admit(Rule(residency=("eu",)), (whole,)).allowed
    assert type(allowed) is Allowed
    assert all(getattr(allowed, name) == getattr(whole, name) for name in Candidate.__struct_fields__)


def fed(ttft_s: float, failures: int) -> Forecast:
    stats = TargetStats()
    for _ in range(5):
        stats.observe(
            NOW, streamed=True, prompt_tokens=100, load=0, ttft_s=ttft_s, total_s=2 * ttft_s, output_tokens=9, input_tokens=9, cached_tokens=0
        )
    for _ in range(failures):
        stats.failed(NOW, streamed=True, code="upstream_error", limited=False)
    return stats.forecast(NOW, streamed=True, prompt_tokens=100, load=0)


FORECASTS = [Forecast(), *(fed(ttft_s, failures) for ttft_s in (0.01, 1.0, 30.0) for failures in (0, 10))]
residencies = st.one_of(st.sampled_from(["any", "local_only"]), st.lists(st.sampled_from(REGIONS), max_size=3).map(tuple))
needs = st.frozensets(st.sampled_from(["tools", "images", "n"]))
seconds = st.one_of(st.none(), st.floats(0.001, 60))
rules = st.builds(
    Rule,
    objective=st.sampled_from(get_args(Objective)),
    slo=st.builds(Slo, seconds, seconds, seconds),
    max_nusd=st.one_of(st.none(), st.integers(0, 10**9)),
    fallback=st.sampled_from(get_args(Fallback)),
    residency=residencies,
    explore=st.sampled_from([0.0, 0.5, 1.0]),
)
asks = st.builds(
    Ask,
    request_id=st.text(max_size=8),
    streamed=st.booleans(),
    prompt_tokens=st.integers(0, 10**6),
    max_tokens=st.one_of(st.none(), st.integers(0, 10**5)),
    needs=needs,
    bound_to=st.one_of(st.none(), st.sampled_from(["t0", "t1", "t2"])),
    warm=st.dictionaries(st.sampled_from(["t0", "t1"]), st.integers(0, 10**5)),
    batch=st.booleans(),
)
lives = st.builds(
    Live,
    forecast=st.sampled_from(FORECASTS),
    ready_at=st.sampled_from([0.0, NOW + 5]),
    busy=st.just("busy"),
    wait_s=st.floats(0, 60),
    load=st.integers(0, 100),
)
money = st.floats(0, 1e5)


@st.composite
def targets(draw: st.DrawFn) -> tuple[tuple[Candidate, ...], list[Live]]:
    count = draw(st.integers(0, 5))
    found = tuple(
        Candidate(
            index,
            f"t{index}",
            draw(st.booleans()),
            draw(st.sampled_from(REGIONS)),
            draw(st.one_of(st.none(), st.builds(Rates, money, money, money, money))),
            draw(st.one_of(st.none(), st.integers(1, 10**6))),
            draw(needs),
            draw(st.one_of(st.none(), st.floats(0.1, 100))),
        )
        for index in range(count)
    )
    return found, draw(st.lists(lives, min_size=count, max_size=count))


@settings(max_examples=150, deadline=None)
@given(rules, asks, targets(), st.booleans())
def test_no_rule_and_no_live_state_ever_plans_a_forbidden_target(
    rule: Rule, ask: Ask, given_: tuple[tuple[Candidate, ...], list[Live]], may_explore: bool
) -> None:
    candidates, live = given_
    admitted = admit(rule, candidates)
    found = plan(rule, ask, admitted, [live[each.index] for each in admitted.allowed], NOW, may_explore)
    for attempt in found.attempts:
        assert type(attempt.candidate) is Allowed
        assert permits(rule.residency, attempt.candidate)
        assert ask.bound_to in (None, attempt.candidate.name)
        assert live[attempt.candidate.index].ready_at <= NOW
    names = [each.candidate.name for each in found.attempts] + [each.candidate.name for each in found.removed]
    assert sorted(names) == sorted(each.name for each in candidates)
    if rule.fallback != "any":
        assert all(each.candidate.owned and rule.fallback == "local" for each in found.attempts[1:])
