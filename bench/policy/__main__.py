"""`python -m bench.policy [HOURS [SEED]]`: every strategy in every scenario, as tables. HOURS of simulated time for each scenario; 1 if not told."""

import sys

from bench.policy.scenarios import scenarios
from bench.policy.simulate import Result, compare
from bench.policy.strategies import CLAIRVOYANT, STRATEGIES

HEAD = "| strategy | attained | of the clairvoyant's | $ per 1k | times its | $ per 1k attained | failed |\n|---|---|---|---|---|---|---|"


def table(results: dict[str, Result]) -> str:
    best = results[CLAIRVOYANT]
    rows = [
        f"| {name} | {each.attainment:.1%} | {each.attainment / best.attainment:.3f} | {each.usd_per_1k:.3f} "
        f"| {each.cost_nusd / best.cost_nusd:.2f} | {each.usd_per_1k_attained:.3f} | {each.failed / each.requests:.2%} |"
        for name, each in results.items()
    ]
    return "\n".join([HEAD, *rows])


def main() -> None:
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    overall: dict[str, Result] = {}
    for scenario in scenarios(seed, hours):
        results = compare(scenario, STRATEGIES, seed)
        overall = {name: overall.get(name, Result()) + each for name, each in results.items()}
        print(f"\n{scenario.name}: {scenario.about}; {len(scenario.requests)} requests\n\n{table(results)}", flush=True)
    print(f"\noverall: {overall[CLAIRVOYANT].requests} requests\n\n{table(overall)}")


if __name__ == "__main__":
    main()
