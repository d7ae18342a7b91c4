"""A decision as it is told: the JSON of `GET /v1/decisions/{id}` and of `turnout explain`."""

import json
from typing import Any

import msgspec
import pytest

from policy.ask import Ask
from policy.decision import Decision, decision
from policy.rule import Rule, Slo
from tests.policy.targets import Fed, planned, usd

RULE = Rule(name="interactive", objective="cheapest", slo=Slo(ttft_s=0.8, deadline_s=30.0), residency=("eu",))
ASK = Ask("r", True, 1000, 200)
TARGETS = [
    Fed("slow/m", usd(1, 5), ttft_s=3.0, region="eu"),
    Fed("fast/m", usd(3, 15), ttft_s=0.2, region="eu"),
    Fed("us/m", usd(1, 5), region="us"),
    Fed("mute/m", usd(1, 5), region="eu", context_tokens=100),
]


def told(rule: Rule = RULE, targets: list[Fed] = TARGETS) -> dict[str, Any]:
    made = decision(rule, ASK, planned(rule, targets, ASK), "chat")
    found = json.loads(msgspec.json.encode(made))
    assert msgspec.convert(found, Decision) == made
    return dict(found)


def test_it_says_what_was_asked_by_which_policy_and_who_was_chosen_and_why() -> None:
    found = told()
    candidates = found.pop("candidates")
    assert found == {
        "policy": "interactive",
        "objective": "cheapest",
        "slo": {"ttft_p95_ms": 800.0, "tokens_per_s": None, "deadline_ms": 30000.0},
        "model": "chat",
        "prompt_tokens": 1000,
        "max_tokens": 200,
        "streamed": True,
        "chosen": "fast/m",
        "why": "cheapest of those that meet the SLO",
        "slo_met": True,
    }
    assert [(each["target"], each["verdict"], each["rule"]) for each in candidates] == [
        ("fast/m", "chosen", "cheapest of those that meet the SLO"),
        ("slow/m", "fallback", "fallback"),
        ("us/m", "removed", "residency: [eu]"),
        ("mute/m", "removed", "context: about 1000 tokens, it takes 100"),
    ]


def test_every_candidate_that_was_weighed_comes_with_its_prediction_in_plain_units() -> None:
    chosen = told()["candidates"][0]
    assert chosen == {
        "target": "fast/m",
        "owned": False,
        "verdict": "chosen",
        "rule": "cheapest of those that meet the SLO",
        "p_slo": 1.0,
        "ttft_ms": 200.0,
        "ttft_p95_ms": pytest.approx(200, rel=0.2),
        "finish_s": pytest.approx(1.2, rel=0.02),
        "finish_p95_s": pytest.approx(1.2, rel=0.2),
        "tokens_per_s": 100.0,
        "output_tokens": 100.0,
        "cost_usd": 0.0045,
        "list_cost_usd": 0.0045,
        "samples": 30.0,
    }


def test_what_an_engine_of_our_own_costs_is_not_known_and_counts_as_nothing() -> None:
    found = told(Rule(objective="cheapest"), [Fed("fast/m", usd(3, 15)), Fed("cpu", owned=True)])
    assert [(each["target"], each["cost_usd"], each["list_cost_usd"]) for each in found["candidates"]] == [
        ("cpu", None, None),
        ("fast/m", 0.0045, 0.0045),
    ]


def test_what_was_removed_unweighed_has_no_numbers() -> None:
    removed = told()["candidates"][2]
    assert {name for name, value in removed.items() if value is not None} == {"target", "owned", "verdict", "rule"}


def test_without_a_promise_there_is_no_slo() -> None:
    found = told(Rule(name="plain"), TARGETS)
    assert found["slo"] is None and found["slo_met"] is None and found["why"] == "first in order"


def test_when_nobody_is_left_nobody_is_chosen() -> None:
    found = told(Rule(residency="local_only"), TARGETS)
    assert found["chosen"] is None and found["why"] == "no target is left"
    assert {each["verdict"] for each in found["candidates"]} == {"removed"}
