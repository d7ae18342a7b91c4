"""What statistics cost: the median of taking in an answer, of a forecast that still holds, and of one made anew.

python bench/policy/stats_cost.py
"""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter_ns

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from policy.cells import REFRESH_S
from policy.stats import TargetStats

BATCH = 20
BATCHES = 500


def each_us(step: Callable[[int], object], batches: int = BATCHES) -> float:
    """The median over batches of what one step takes, in microseconds."""
    took = []
    for batch in range(batches):
        began = perf_counter_ns()
        for number in range(batch * BATCH, (batch + 1) * BATCH):
            step(number)
        took.append((perf_counter_ns() - began) / BATCH / 1e3)
    return median(took)


def main() -> None:
    random, stats = Random(1), TargetStats()
    answers = [
        (
            int(2 ** random.uniform(4, 15)),
            int(2 ** random.uniform(0, 4)) - 1,
            ttft_s := random.lognormvariate(-1, 0.5),
            ttft_s + random.lognormvariate(1, 0.5),
            int(2 ** random.uniform(3, 11)),
        )
        for _ in range(1_000)
    ]

    def observe(number: int) -> None:
        prompt_tokens, load, ttft_s, total_s, output_tokens = answers[number % 1_000]
        stats.observe(
            number * 0.01,
            streamed=True,
            prompt_tokens=prompt_tokens,
            load=load,
            ttft_s=ttft_s,
            total_s=total_s,
            output_tokens=output_tokens,
            input_tokens=prompt_tokens,
            cached_tokens=0,
        )

    end = BATCH * BATCHES * 0.01
    print(f"{'observe':24}{each_us(observe):8.2f} us   (goal: 5)")
    print(f"{'failed':24}{each_us(lambda _: stats.failed(end, streamed=True, code='upstream_error', limited=False)):8.2f} us")
    print(f"{'forecast that holds':24}{each_us(lambda _: stats.forecast(end, streamed=True, prompt_tokens=900, load=2)):8.2f} us")
    for name, prompt_tokens in (("forecast made anew", 900), ("  of a cell without own", 100_000)):
        anew = each_us(lambda number, n=prompt_tokens: stats.forecast(end + number * (REFRESH_S + 1), streamed=True, prompt_tokens=n, load=2), 10)
        print(f"{name:24}{anew:8.2f} us")
    print(f"{'a dump':24}{len(stats.dump(end)):8} bytes")


if __name__ == "__main__":
    main()
