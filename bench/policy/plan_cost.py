"""What one plan costs: forecasts, predictions and the ranking, statistics warm. The median of many runs, and the same with a prompt that varies."""

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns

from policy.ask import Ask
from policy.plan import plan
from policy.predict import Live
from policy.residency import Candidate, Rates, admit
from policy.rule import Rule, Slo
from policy.stats import TargetStats

RUNS, EACH = 200, 20
RULE = Rule(objective="cheapest", slo=Slo(ttft_s=1.0, deadline_s=30.0), explore=0.02)
GOAL_US = 30.0


def planner(count: int, prompts: tuple[int, ...]) -> Callable[[int], None]:
    candidates = tuple(Candidate(index, f"target-{index}", False, rates=Rates(500.0 + index, 2000.0, 50.0)) for index in range(count))
    admitted = admit(RULE, candidates)
    stats = [TargetStats() for _ in candidates]
    for number in range(500):
        for index, each in enumerate(stats):
            each.observe(
                number * 0.1,
                streamed=True,
                prompt_tokens=100 + number % 40 * 100,
                load=number % 6,
                ttft_s=0.2 + 0.01 * index + 0.001 * (number % 50),
                total_s=2.0,
                output_tokens=150,
                input_tokens=500,
                cached_tokens=0,
            )

    def made(number: int) -> None:
        ask = Ask(f"req-{number}", True, prompts[number % len(prompts)], 500)
        live = [Live(each.forecast(50.0, streamed=True, prompt_tokens=ask.prompt_tokens, load=2)) for each in stats]
        plan(RULE, ask, admitted, live, 50.0)

    return made


def cost_us(work: Callable[[int], None]) -> float:
    for number in range(200):
        work(number)
    took = []
    for run in range(RUNS):
        began = perf_counter_ns()
        for number in range(EACH):
            work(run * EACH + number)
        took.append((perf_counter_ns() - began) / EACH / 1000)
    return median(took)


def main() -> None:
    for count in (3, 20):
        for told, prompts in (("one length of prompt", (500,)), ("prompts of all lengths", (80, 500, 2000, 9000))):
            us = cost_us(planner(count, prompts))
            print(f"a plan over {count:2} targets, {told:23} {us:7.2f} us   ({us / count:.2f} us a target; the goal is {GOAL_US:.0f} for 20)")


if __name__ == "__main__":
    main()
