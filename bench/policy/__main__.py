"""`python -m bench.policy [HOURS [SEED]] [--why]`: every strategy in every scenario, as tables. HOURS (1): of simulated time for each.

SEED `61-65`: `cheapest` and the baselines on each of these seeds, with the means and standard deviations between them.
`--why`: instead, what `cheapest` misses and what it pays, by cause.
"""

import sys
from collections.abc import Sequence
from statistics import mean, stdev

from bench.policy import why
from bench.policy.scenarios import scenarios
from bench.policy.simulate import Result, compare
from bench.policy.strategies import BASELINES, CLAIRVOYANT, MEASURED, STRATEGIES
from bench.policy.world import Chance

HEAD = "| strategy | attained | of the clairvoyant's | $ per 1k | times its | $ per 1k attained | failed |\n|---|---|---|---|---|---|---|"

PROOF_HEAD = "| strategy | attained | sd | of the clairvoyant's | times its cost | sd | $ per 1k attained |\n|---|---|---|---|---|---|---|"
Figures = tuple[float, float, float, float]  # share attained, of the clairvoyant's, times its cost, $ per 1k attained


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


def proof(seeds: range, hours: float) -> None:
    """Shares of the clairvoyant's attainment and multiples of its cost, by seed and together."""
    names = (CLAIRVOYANT, "cheapest", *BASELINES)
    strategies = {name: STRATEGIES[name] for name in names}
    found: dict[str, list[Figures]] = {name: [] for name in names}
    for seed in seeds:
        total: dict[str, Result] = {}
        for scenario in scenarios(seed, hours):
            total = {name: total.get(name, Result()) + each for name, each in compare(scenario, strategies, seed).items()}
        best = total[CLAIRVOYANT]
        for name, each in total.items():
            found[name].append((each.attainment, each.attainment / best.attainment, each.cost_nusd / best.cost_nusd, each.usd_per_1k_attained))
        print(f"seed {seed}: " + "; ".join(f"{name} {of[-1][0]:.2%} at {of[-1][2]:.3f}" for name, of in found.items()), flush=True)
    print(f"\n{PROOF_HEAD}")
    for name, of in found.items():
        attained, of_best, times, price = zip(*of, strict=True)
        spreads = f"{_sd(attained):.2%} | {mean(of_best):.4f} | {mean(times):.3f} | {_sd(times):.3f}"
        print(f"| {name} | {mean(attained):.2%} | {spreads} | {mean(price):.3f} |")


def _sd(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    told = [each for each in sys.argv[1:] if each != "--why"]
    hours = float(told[0]) if told else 1.0
    first, _, last = (told[1] if len(told) > 1 else "1").partition("-")
    if last:
        proof(range(int(first), int(last) + 1), hours)
        return
    seed = int(first)
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
