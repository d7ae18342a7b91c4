"""`python -m bench.policy [HOURS [SEED]] [--why]`: every strategy in every scenario, as tables. HOURS (1): of simulated time for each.

`--why`: instead, what `cheapest` misses and what it pays, by cause.
"""

import sys

from bench.policy import why
from bench.policy.scenarios import scenarios
from bench.policy.simulate import Result, compare
from bench.policy.strategies import CLAIRVOYANT, MEASURED, STRATEGIES
from bench.policy.world import Chance

HEAD = "| strategy | attained | of the clairvoyant's | $ per 1k | times its | $ per 1k attained | failed |\n|---|---|---|---|---|---|---|"


def table(results: dict[str, Result]) -> str:
    best = results[CLAIRVOYANT]
    rows = [
        f"| {name} | {each.attainment:.1%} | {each.attainment / best.attainment:.3f} | {each.usd_per_1k:.3f} "
        f"| {each.cost_nusd / best.cost_nusd:.2f} | {each.usd_per_1k_attained:.3f} | {each.failed / each.requests:.2%} |"
        for name, each in results.items()
    ]
    return "\n".join([HEAD, *rows])


def causes(seed: int, hours: float) -> None:
    overall: dict[str, why.Sum] = {}
    for scenario in scenarios(seed, hours):
        found = why.Attributed(scenario, Chance(seed), MEASURED).causes()
        for cause, each in found.items():
            overall.setdefault(cause, why.Sum()).add(each)
        print(f"\n{scenario.name}\n\n{why.table(found)}", flush=True)
    print(f"\noverall\n\n{why.table(overall)}")


def main() -> None:
    told = [each for each in sys.argv[1:] if each != "--why"]
    hours = float(told[0]) if told else 1.0
    seed = int(told[1]) if len(told) > 1 else 1
    if "--why" in sys.argv:
        causes(seed, hours)
        return
    overall: dict[str, Result] = {}
    for scenario in scenarios(seed, hours):
        results = compare(scenario, STRATEGIES, seed)
        overall = {name: overall.get(name, Result()) + each for name, each in results.items()}
        print(f"\n{scenario.name}: {scenario.about}; {len(scenario.requests)} requests\n\n{table(results)}", flush=True)
    print(f"\noverall: {overall[CLAIRVOYANT].requests} requests\n\n{table(overall)}")


if __name__ == "__main__":
    main()
