"""`turnout replay --fail-if`: what is written, and when it fails."""

from typing import Any

import pytest

from gateway.replay.conditions import FIGURES, condition

TIMES = {"recorded_p50_ms": 100.0, "replayed_p50_ms": 100.0, "recorded_p95_ms": 500.0, "replayed_p95_ms": 600.0}
TOLD: dict[str, Any] = {
    "cost": {"recorded_usd": "10.000000000", "replayed_usd": "11.500000000"},
    "ttft": TIMES,
    "end": TIMES,
    "slo": {"recorded": 0.98, "replayed": 0.95},
    "failed": {"recorded": 0.0, "replayed": 0.01},
    "no_evidence": {"share": 0.25},
    "budgets": [{"recorded_beyond": None, "replayed_beyond": "2026-11-26T00:00:00+00:00"}],
}


@pytest.mark.parametrize(
    "text",
    [
        *("cost>+10%", "cost > 11", "cost>11usd", "cost>=+1.5", "cost<+20%", "p95_ttft>+10%", "p95_ttft>+50ms", "p95_ttft>550", "p95_ttft>0.5s"),
        *("p95_end>=600ms", "p50_ttft<=100ms", "slo<95.5%", "slo<-2%", "slo<-0.02", "slo<0.96", "failed>0.5%", "failed>+0.005"),
        *("no_evidence>20%", "breaches>0", "breaches>+0"),
    ],
)
def test_a_condition_that_is_so_fails(text: str) -> None:
    why = condition(text).fails(TOLD)
    assert why is not None and why.startswith(f"{text}: ") and "not known" not in why


@pytest.mark.parametrize(
    "text", ["cost>+15.1%", "cost>12", "cost<-1%", "p95_ttft>+20.1%", "p95_ttft>601ms", "slo<95%", "slo<-4%", "no_evidence>25%", "breaches>1"]
)
def test_a_condition_that_is_not_so_does_not(text: str) -> None:
    assert condition(text).fails(TOLD) is None


def test_the_reason_has_both_sides_and_the_change() -> None:
    assert condition("cost>+10%").fails(TOLD) == "cost>+10%: $10.000000 to $11.500000, +15.00%"
    assert condition("p95_ttft>550ms").fails(TOLD) == "p95_ttft>550ms: 600 ms"


@pytest.mark.parametrize("text", ["cost>+10%", "p95_ttft>800ms", "slo<95%", "no_evidence>20%", "failed>+1%"])
def test_what_is_not_known_fails(text: str) -> None:
    unknown = {part: dict.fromkeys(told) if isinstance(told, dict) else [] for part, told in TOLD.items()}
    assert condition(text).fails(unknown) == f"{text}: not known"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cost", "'cost' is no condition; write a figure, a comparison and a value, such as cost>+10%"),
        ("cost=+10%", "is no condition"),
        ("cost>ten", "is no condition"),
        ("", "is no condition"),
        ("price>+10%", "'price' is not one of cost, p50_ttft, p95_ttft"),
        ("cost>10%", "cost is in US dollars; a change in percent has a sign, such as cost>+10%"),
        ("p95_ttft>10%", "p95_ttft is in ms or s"),
        ("slo<900ms", "slo is in percent"),
        ("no_evidence>+5%", "nothing was recorded that no_evidence could change against"),
    ],
)
def test_what_is_no_condition_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        condition(text)
    assert says in str(error.value)


def test_every_figure_can_be_asked_for() -> None:
    assert all(condition(f"{name}>0").figure == name for name in FIGURES)
