"""What a request would see at a target: the times as they were measured, the queue added; the price as it will be paid."""

import pytest

from policy.ask import Ask
from policy.predict import TYPICAL_OUTPUT, asked_of, predict
from policy.prediction import Prediction
from policy.residency import Allowed, Candidate, admit
from policy.rule import NO_SLO, Rule, Slo
from policy.stats import TargetStats
from tests.policy.targets import NOW, Fed, state, usd

BUCKET = 0.2  # quantiles are right within 19 %


def allowed(candidate: Candidate) -> Allowed:
    return admit(Rule(), (candidate,)).allowed[0]


def seen(target: Fed, ask: Ask | None = None, slo: Slo = NO_SLO, now: float = NOW) -> Prediction:
    ask = ask or Ask("r", True, 1000)
    return predict(ask, allowed(target.candidate(0)), state(target, ask, now), slo, TYPICAL_OUTPUT, asked_of(ask, slo))


def test_a_streamed_answer_begins_as_others_did_and_ends_after_its_tokens() -> None:
    found = seen(Fed("x", ttft_s=0.4, token_s=0.02, output=100))
    assert found.ttft_s == pytest.approx(0.4) and found.ttft_p95_s == pytest.approx(0.4, rel=BUCKET)
    assert found.output_tokens == pytest.approx(100) and found.tokens_per_s == pytest.approx(50)
    assert found.finish_s == pytest.approx(0.4 + 100 * 0.02, rel=0.02)
    assert found.finish_p95_s is not None and found.finish_p95_s >= found.finish_s * (1 - BUCKET)


def test_a_unary_answer_is_there_when_it_is_whole() -> None:
    found = seen(Fed("x", ttft_s=0.4, token_s=0.02, output=101), Ask("r", False, 1000))
    assert found.ttft_s == found.finish_s == pytest.approx(2.4)
    assert found.ttft_p95_s == found.finish_p95_s == pytest.approx(2.4, rel=BUCKET)


def test_a_limit_on_a_unary_answer_shortens_its_time() -> None:
    """400 tokens take 8 s; 50 of them an eighth. A limit beyond what the model says changes nothing."""
    target = Fed("x", ttft_s=0.02, token_s=0.02, output=400)
    found = seen(target, Ask("r", False, 1000, max_tokens=50))
    assert found.finish_s == found.ttft_s == pytest.approx(1.0, rel=0.05)
    assert found.finish_p95_s == pytest.approx(1.0, rel=BUCKET)
    assert seen(target, Ask("r", False, 1000, max_tokens=4000)).finish_s == pytest.approx(8.0)


def test_a_limit_of_nothing_is_a_limit_too() -> None:
    found = seen(Fed("x"), Ask("r", False, 1000, max_tokens=0), Slo(ttft_s=1.0))
    assert found.finish_s == 0.0 and found.meets


def test_a_short_unary_answer_keeps_a_promise_that_a_long_one_would_not() -> None:
    target = Fed("x", ttft_s=0.02, token_s=0.02, output=400)
    for slo in (Slo(deadline_s=2.0), Slo(ttft_s=0.1, tokens_per_s=60)):
        assert not seen(target, Ask("r", False, 1000), slo).meets
    assert seen(target, Ask("r", False, 1000, max_tokens=50), Slo(deadline_s=2.0)).meets
    assert seen(target, Ask("r", False, 1000, max_tokens=50), Slo(ttft_s=0.3, tokens_per_s=40)).meets


@pytest.mark.parametrize("streamed", [True, False])
def test_an_engine_s_queue_is_waited_for_first(streamed: bool) -> None:
    ask = Ask("r", streamed, 1000)
    at_once, queued = seen(Fed("cpu", owned=True), ask), seen(Fed("cpu", owned=True).now(wait_s=2.0), ask)
    assert queued.ttft_s == pytest.approx((at_once.ttft_s or 0) + 2.0)
    assert queued.finish_p95_s == pytest.approx((at_once.finish_p95_s or 0) + 2.0)


def test_of_a_target_without_history_nothing_is_known_but_its_list_price() -> None:
    found = seen(Fed("x", usd(1, 5), samples=0), slo=Slo(ttft_s=1.0))
    assert (found.p, found.ttft_s, found.ttft_p95_s, found.finish_s, found.finish_p95_s, found.tokens_per_s) == (None,) * 6
    assert not found.meets and found.samples == 0
    assert found.output_tokens == TYPICAL_OUTPUT
    assert found.cost_nusd == found.list_nusd == pytest.approx(1000 * 1e3 + TYPICAL_OUTPUT * 5e3)


def test_a_client_s_limit_shortens_what_a_model_would_say() -> None:
    assert seen(Fed("x", output=400), Ask("r", True, 1000, max_tokens=50)).output_tokens == pytest.approx(50)
    assert seen(Fed("x", samples=0), Ask("r", True, 1000, max_tokens=50)).output_tokens == 50


def test_each_of_the_answers_that_a_request_wants_is_paid_for() -> None:
    found = seen(Fed("x", usd(1, 5), samples=0), Ask("r", True, 1000, max_tokens=20, choices=50))
    assert found.cost_nusd == pytest.approx(1000 * 1e3 + 50 * 20 * 5e3)


def test_an_owned_engine_costs_nothing_more_and_its_own_cost_is_not_known() -> None:
    found = seen(Fed("cpu", owned=True))
    assert (found.effective_nusd, found.cost_nusd, found.list_nusd) == (0, None, None)


def test_without_a_price_no_cost_is_known() -> None:
    found = seen(Fed("x"))
    assert found.cost_nusd is None and found.list_nusd is None


def test_what_was_cached_before_is_likely_to_be_again() -> None:
    found = seen(Fed("x", usd(1, 5, cached=0.1), cached=0.8))
    assert found.list_nusd == pytest.approx(1000 * 1e3 + 100 * 5e3)
    assert found.cost_nusd == pytest.approx(200 * 1e3 + 800 * 1e2 + 100 * 5e3)


def test_a_conversation_s_own_prefix_counts_when_it_is_more_than_the_habit() -> None:
    ask = Ask("r", True, 1000, warm={"x": 900})
    assert seen(Fed("x", usd(1, 5, cached=0.1)), ask).cost_nusd == pytest.approx(100 * 1e3 + 900 * 1e2 + 100 * 5e3)


def test_failures_that_are_paid_for_multiply_the_price_but_not_the_attempt_s() -> None:
    found = seen(Fed("x", usd(1, 5), samples=8, failures=10, paid=True))  # 10 of 20, with the prior
    assert found.effective_nusd == pytest.approx((found.list_nusd or 0) * 2)
    assert found.cost_nusd == found.list_nusd


def test_failures_that_bill_nothing_leave_the_price_as_it_is() -> None:
    found = seen(Fed("x", usd(1, 5), samples=8, failures=10))
    assert found.cost_nusd == found.effective_nusd == found.list_nusd


def test_half_the_answers_in_time_is_one_half() -> None:
    target = Fed("x", ttft_s=0.1)
    for _ in range(30):
        target.answered(ttft_s=4.0, token_s=0.01, output=100)
    assert seen(target, slo=Slo(ttft_s=1.0)).p == pytest.approx(0.5, abs=0.01)


def test_failures_beyond_chance_lower_the_odds() -> None:
    assert seen(Fed("x", samples=28, failures=30), slo=Slo(ttft_s=1.0)).p == pytest.approx(0.65, abs=0.01)  # 30 - 1.645 * sqrt(30) of 60
    assert seen(Fed("x", samples=280, failures=300), slo=Slo(ttft_s=1.0)).p == pytest.approx(0.53, abs=0.01)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_failure_or_two_among_a_few_attempts_are_chance(failures: int) -> None:
    assert (seen(Fed("x", samples=10, failures=failures), slo=Slo(ttft_s=1.0)).p or 0.0) >= 0.95


def test_an_old_outage_fades_from_the_odds() -> None:
    target = Fed("x", samples=30, failures=30)
    assert not seen(target, slo=Slo(ttft_s=1.0)).meets
    assert seen(target, slo=Slo(ttft_s=1.0), now=NOW + 600).meets


LATER_S = 3 * 3600.0  # an answer weighs nothing by then


def test_a_target_that_kept_a_promise_is_taken_to_keep_it_hours_later() -> None:
    found = seen(Fed("x"), slo=Slo(ttft_s=1.0), now=NOW + LATER_S)
    assert found.meets and found.samples < 0.01


def test_one_that_did_not_is_unknown_hours_later() -> None:
    slow = Fed("x", ttft_s=5.0)
    assert seen(slow, slo=Slo(ttft_s=1.0)).p == 0.0
    assert seen(slow, slo=Slo(ttft_s=1.0), now=NOW + LATER_S).p is None


@pytest.mark.parametrize(("samples", "days", "known"), [(1, 0.01, False), (3, 0.2, True), (3, 1, False), (30, 3, True), (30, 30, False)])
def test_the_more_answers_a_target_gave_the_longer_it_is_known(samples: int, days: float, known: bool) -> None:
    assert seen(Fed("x", samples=samples), slo=Slo(ttft_s=1.0), now=NOW + days * 86_400).meets == known


def test_one_answer_that_is_late_after_a_long_silence_makes_a_target_unknown_again() -> None:
    target = Fed("x")
    target.answered(ttft_s=5.0, token_s=0.01, output=100, now=NOW + LATER_S)
    assert seen(target, slo=Slo(ttft_s=1.0), now=NOW + LATER_S).p is None


@pytest.mark.parametrize("slo", [Slo(ttft_s=1.0), Slo(tokens_per_s=50), Slo(deadline_s=5.0)], ids=["ttft", "tokens", "deadline"])
def test_a_target_without_history_has_no_odds_for_any_promise(slo: Slo) -> None:
    assert seen(Fed("x", samples=0), slo=slo).p is None


@pytest.mark.parametrize("slo", [Slo(ttft_s=1.0), Slo(tokens_per_s=50), Slo(deadline_s=5.0)], ids=["ttft", "tokens", "deadline"])
def test_one_answer_is_too_little_to_know_the_odds(slo: Slo) -> None:
    assert seen(Fed("x", samples=1), slo=slo).p is None


def test_the_nearer_a_target_comes_to_a_promise_the_likelier_it_is() -> None:
    odds = [seen(Fed("x", token_s=token_s), slo=Slo(tokens_per_s=50)).p or 0.0 for token_s in (0.2, 0.05, 0.025, 0.015)]
    assert odds == sorted(odds) and odds[-1] == 1.0 and odds[-2] < 0.95


UNARY = Ask("r", False, 1000)
UNARY_ALONE = (False,)


@pytest.mark.parametrize("token_s", [0.005, 0.2], ids=["quick", "slow"])
def test_a_first_token_promised_of_a_unary_answer_is_the_one_that_the_target_s_streamed_answers_show(token_s: float) -> None:
    """However long its tokens take: they are not what is promised."""
    assert seen(Fed("x", ttft_s=0.5, token_s=token_s), UNARY, Slo(ttft_s=1.0)).meets
    assert seen(Fed("x", ttft_s=2.0, token_s=token_s), UNARY, Slo(ttft_s=1.0)).p == 0.0


STREAMED_ALONE = (True,)


def test_what_streamed_answers_show_is_known_before_the_first_unary_one() -> None:
    assert seen(Fed("x", ttft_s=0.6, modes=STREAMED_ALONE), UNARY, Slo(ttft_s=0.4)).p == 0.0
    assert seen(Fed("x", ttft_s=0.2, modes=STREAMED_ALONE), UNARY, Slo(ttft_s=0.4)).meets
    assert seen(Fed("x", ttft_s=0.6, samples=1, modes=STREAMED_ALONE), UNARY, Slo(ttft_s=0.4)).p is None, "one is too few here too"


def test_a_late_begin_breaks_whatever_else_is_promised_and_one_in_time_does_not_keep_it() -> None:
    both = Slo(ttft_s=0.4, deadline_s=30.0)
    assert seen(Fed("x", ttft_s=0.6, modes=STREAMED_ALONE), UNARY, both).p == 0.0
    assert seen(Fed("x", ttft_s=0.2, modes=STREAMED_ALONE), UNARY, both).p is None


def test_streamed_answers_that_were_late_long_ago_leave_a_unary_one_unknown() -> None:
    assert seen(Fed("x", ttft_s=0.6, modes=STREAMED_ALONE), UNARY, Slo(ttft_s=0.4), now=NOW + LATER_S).p is None


def test_of_a_target_that_streamed_nothing_a_unary_answer_s_tokens_get_50_ms_each() -> None:
    """A promise of 1 s to the first of 100 tokens is kept by a whole answer in 3 s, not by one in 30."""
    assert seen(Fed("x", ttft_s=1.0, token_s=0.02, output=100, modes=UNARY_ALONE), UNARY, Slo(ttft_s=1.0)).meets
    assert not seen(Fed("x", ttft_s=20.0, token_s=0.1, output=100, modes=UNARY_ALONE), UNARY, Slo(ttft_s=1.0)).meets


def test_an_answer_without_tokens_begins_when_it_is_whole() -> None:
    assert seen(Fed("x", ttft_s=0.5, output=None, modes=UNARY_ALONE), UNARY, Slo(ttft_s=1.0)).meets
    assert not seen(Fed("x", ttft_s=2.0, output=None, modes=UNARY_ALONE), UNARY, Slo(ttft_s=1.0)).meets


@pytest.mark.parametrize("ask", [UNARY, Ask("r", True, 1000)], ids=["unary", "streamed"])
def test_a_queue_of_longer_than_the_promise_leaves_no_hope(ask: Ask) -> None:
    assert seen(Fed("cpu", owned=True, ttft_s=0.1).now(wait_s=1.5), ask, Slo(ttft_s=1.0)).p == 0.0


def test_longer_prompts_and_higher_load_are_looked_up_as_they_were_measured() -> None:
    stats = TargetStats()
    for prompt_tokens, load, ttft_s in ((100, 0, 0.1), (50_000, 0, 2.0), (100, 20, 1.0)):
        for _ in range(30):
            stats.observe(
                NOW, streamed=True, prompt_tokens=prompt_tokens, load=load, ttft_s=ttft_s, total_s=ttft_s + 1, output_tokens=100, input_tokens=None,
                cached_tokens=None,
            )  # fmt: skip
    assert stats.forecast(NOW, streamed=True, prompt_tokens=100, load=0).ttft_mean_s == pytest.approx(0.1, rel=0.02)
    assert stats.forecast(NOW, streamed=True, prompt_tokens=50_000, load=0).ttft_mean_s == pytest.approx(2.0, rel=0.2)
    assert stats.forecast(NOW, streamed=True, prompt_tokens=100, load=20).ttft_mean_s == pytest.approx(1.0, rel=0.2)  # in the middle of 20 to 23
