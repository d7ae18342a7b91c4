"""An outage as a whole: plan, statistics and breaker together, a minute in a moment. All are served, and the primary is used again soon."""

import pytest

from policy.ask import Ask
from policy.breaker import Breaker
from policy.plan import plan
from policy.predict import Live
from policy.residency import Candidate, Rates, admit
from policy.rule import NO_SLO, Objective, Rule, Slo
from policy.stats import TargetStats

RATES = (Rates(1.0, 4.0, 0.1), Rates(2.0, 8.0, 0.2))  # the fallback is dearer,
TTFT_S = (0.2, 0.3)  # and slower
WARM_S, OUTAGE_S, AFTER_S = 200.0, 60.0, 120.0


class Gateway:
    """Two targets, the first of which is down for a while; requests that begin and end in the same moment."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.admitted = admit(rule, tuple(Candidate(index, name, False, rates=RATES[index]) for index, name in enumerate(("primary", "fallback"))))
        self.stats = (TargetStats(), TargetStats())
        self.breakers = (Breaker(), Breaker())
        self.failures = 0

    def answer(self, number: int, now: float, down: bool) -> int:
        """Which target answers; raises AssertionError when none does."""
        ask = Ask(f"req_{number}", streamed=True, prompt_tokens=100, max_tokens=100)
        made = plan(self.rule, ask, self.admitted, [self.live(index, now) for index in range(2)], now)
        for planned in made.attempts:
            index = planned.candidate.index
            breaker, stats = self.breakers[index], self.stats[index]
            held = breaker.begin(now)
            if index == 0 and down:
                breaker.failed(now, held, 0.0)
                stats.failed(now, streamed=True, code="upstream_error", limited=False)
                self.failures += 1
                continue
            breaker.answered(held)
            breaker.succeeded(now, held)
            ttft_s = TTFT_S[index]
            stats.observe(
                now, streamed=True, prompt_tokens=100, load=0, ttft_s=ttft_s, total_s=ttft_s + 1, output_tokens=50, input_tokens=100, cached_tokens=0
            )
            return index
        raise AssertionError(f"nobody answered at {now}")

    def live(self, index: int, now: float) -> Live:
        forecast = self.stats[index].forecast(now, streamed=True, prompt_tokens=100, load=0)
        ready_at = self.breakers[index].retry_at(now)
        return Live(forecast, ready_at, "breaker" if ready_at > now else "")


@pytest.mark.parametrize("every_s", [4.0, 1.0, 0.1])
@pytest.mark.parametrize("slo", [NO_SLO, Slo(ttft_s=0.8)], ids=["no SLO", "SLO"])
@pytest.mark.parametrize("objective", ["ordered", "cheapest", "fastest"])
def test_in_an_outage_of_60_s_all_are_served_and_the_primary_is_back_within_30_s(objective: Objective, slo: Slo, every_s: float) -> None:
    gateway = Gateway(Rule(objective=objective, slo=slo))
    down_at, up_at = 1000.0 + WARM_S, 1000.0 + WARM_S + OUTAGE_S
    back_at, after = None, []
    for number in range(int((WARM_S + OUTAGE_S + AFTER_S) / every_s)):
        now = 1000.0 + number * every_s
        index = gateway.answer(number, now, down_at <= now < up_at)
        if now >= up_at:
            after.append(index)
            back_at = now if back_at is None and index == 0 else back_at
    assert back_at is not None and back_at - up_at <= 30.0
    assert sum(after) <= 30.0 / every_s, "and it stays"
    assert gateway.failures <= 16


def test_one_failure_now_and_then_does_not_send_the_requests_elsewhere() -> None:
    gateway = Gateway(Rule(objective="ordered", slo=Slo(ttft_s=0.8)))
    used = [gateway.answer(number, 1000.0 + 4.0 * number, down=number % 15 == 14) for number in range(300)]
    assert used.count(1) <= 2 * 300 / 15


def test_a_target_that_fails_often_is_passed_over_under_an_slo_although_its_breaker_never_opens() -> None:
    gateway = Gateway(Rule(objective="ordered", slo=Slo(ttft_s=0.8)))
    used = [gateway.answer(number, 1000.0 + 0.1 * number, down=number % 4 == 3) for number in range(3000)]
    assert gateway.breakers[0].state(1300.0) == "closed"
    assert used.count(1) >= 0.8 * 3000
