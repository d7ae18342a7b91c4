"""In simulated time, on a small share of `make bench-policy`: near one who knows the future, and ahead of what other gateways do."""

import pytest

from bench.policy.__main__ import proof
from bench.policy.scenarios import scenarios
from bench.policy.simulate import Result, compare
from bench.policy.strategies import BASELINES, CLAIRVOYANT, MEASURED, STRATEGIES
from bench.policy.why import Attributed, table
from bench.policy.world import Chance

SEED, HOURS = 1, 0.5
SHOWN = ("prices", "slow", "flapping", "engine", "conversations")
COMPARED = {name: STRATEGIES[name] for name in (CLAIRVOYANT, "cheapest", *BASELINES)}


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    total: dict[str, Result] = {}
    for scenario in scenarios(SEED, HOURS):
        if scenario.name in SHOWN:
            total = {name: total.get(name, Result()) + each for name, each in compare(scenario, COMPARED, SEED).items()}
    return total


def test_cheapest_attains_nearly_what_a_clairvoyant_does_at_nearly_its_cost(results: dict[str, Result]) -> None:
    ours, best = results["cheapest"], results[CLAIRVOYANT]
    assert ours.attainment >= 0.95 * best.attainment and ours.cost_nusd <= 1.10 * best.cost_nusd


@pytest.mark.parametrize("name", BASELINES)
def test_an_attained_answer_costs_less_than_with_any_baseline(results: dict[str, Result], name: str) -> None:
    assert results["cheapest"].usd_per_1k_attained < results[name].usd_per_1k_attained


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_attains_as_much_for_as_little(results: dict[str, Result], name: str) -> None:
    ours, other = results["cheapest"], results[name]
    assert ours.attainment > other.attainment or ours.cost_nusd < other.cost_nusd


def test_the_same_seed_gives_the_same_figures() -> None:
    scenario = scenarios(SEED, 0.05)[0]
    assert compare(scenario, COMPARED, SEED) == compare(scenario, COMPARED, SEED)


def test_every_miss_and_every_nano_dollar_has_its_cause() -> None:
    """What `--why` tells apart adds up to what the same run tells as a whole."""
    (scenario,) = [each for each in scenarios(5, 0.2) if each.name == "flapping"]
    run = Attributed(scenario, Chance(5), MEASURED)
    causes = run.causes()
    assert sum(each.requests for each in causes.values()) == run.result.requests == len(scenario.requests)
    assert sum(each.missed for each in causes.values()) == run.result.requests - run.result.attained
    assert sum(each.spent for each in causes.values()) == pytest.approx(run.result.cost_nusd)
    assert all(name in table(causes) for name in causes)


def test_several_seeds_are_told_one_by_one_and_together(capsys: pytest.CaptureFixture[str]) -> None:
    proof(range(1, 3), 0.01)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["seed 1", "seed 2"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[5:]]
    assert [row[0] for row in rows] == [*COMPARED]
    assert rows[0][3:6] == ["1.0000", "1.000", "0.000"], "the clairvoyant beside itself"
