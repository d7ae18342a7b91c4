"""Live statistics of a target: by prompt length and load, fading, adding up between processes, in a few KB."""

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.forecast import KNOWN, Forecast
from policy.stats import FAILURE_HALF_LIFE_S, HALF_LIFE_S, TargetStats

START = 1_000_000.0  # time.monotonic() counts from the machine's start
ATTEMPT = st.fixed_dictionaries(
    {
        "after_s": st.floats(0.0, 300.0),
        "streamed": st.booleans(),
        "prompt_tokens": st.sampled_from([10, 500, 3000, 10_000, 50_000, 200_000]),
        "load": st.integers(0, 40),
        "ttft_s": st.floats(0.01, 10.0),
        "decode_s": st.floats(0.0, 60.0),
        "output_tokens": st.integers(1, 4000),
        "cached_tokens": st.integers(0, 1000),
        "failed": st.sampled_from([None, None, None, "upstream_error", "upstream_rate_limited"]),
    }
)
HISTORY = st.lists(ATTEMPT, max_size=8)
FEW = settings(max_examples=25, deadline=None)


def answered(stats: TargetStats, now: float = START, **told: Any) -> None:
    plain: dict[str, Any] = {
        "streamed": True,
        "prompt_tokens": 100,
        "load": 0,
        "ttft_s": 0.2,
        "total_s": 1.2,
        "output_tokens": 51,
        "input_tokens": 100,
        "cached_tokens": 0,
    }
    stats.observe(now, **{**plain, **told})


def expected(stats: TargetStats, now: float = START, streamed: bool = True, prompt_tokens: int = 100, load: int = 0) -> Forecast:
    return stats.forecast(now, streamed=streamed, prompt_tokens=prompt_tokens, load=load)


def lived(stats: TargetStats, history: list[dict[str, Any]]) -> None:
    for each in history:
        at, streamed, code = START + each["after_s"], each["streamed"], each["failed"]
        if code is not None:
            stats.failed(at, streamed=streamed, code=code, limited=code == "upstream_rate_limited")
            continue
        answered(
            stats,
            at,
            streamed=streamed,
            prompt_tokens=each["prompt_tokens"],
            load=each["load"],
            ttft_s=each["ttft_s"] if streamed else None,
            total_s=each["ttft_s"] + each["decode_s"],
            output_tokens=each["output_tokens"],
            input_tokens=1000,
            cached_tokens=each["cached_tokens"],
        )


EXACT = ("samples", "ttft_mean_s", "token_s_mean", "total_mean_s", "output_mean", "error_rate", "limited_rate", "cache_share", "waste_factor")


def exact(forecast: Forecast) -> dict[str, float]:
    return {name: value for name in EXACT if (value := getattr(forecast, name)) is not None}


def assert_same(one: TargetStats, other: TargetStats, now: float) -> None:
    """Sums are exact; a bucket's share of them is rounded, within 3 %, each time it is sent."""
    for streamed in (False, True):
        for prompt_tokens, load in ((10, 0), (3000, 2), (200_000, 40)):
            left, right = expected(one, now, streamed, prompt_tokens, load), expected(other, now, streamed, prompt_tokens, load)
            known, alike = exact(left), exact(right)
            assert known.keys() == alike.keys() and known == pytest.approx(alike, rel=1e-6, abs=1e-9)
            for seconds in (0.05, 0.5, 5.0, 50.0):
                assert (left.within(seconds) or 0.0) == pytest.approx(right.within(seconds) or 0.0, abs=0.05)


# --- adding up ------------------------------------------------------------------------------------------------------------
def merged(*parts: TargetStats, now: float) -> TargetStats:
    made = TargetStats()
    for part in parts:
        made.merge(part.dump(now), now)
    return made


@FEW
@given(HISTORY, HISTORY)
def test_two_objects_together_say_what_one_would_that_saw_everything(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    first, second, both = TargetStats(), TargetStats(), TargetStats()
    lived(first, one)
    lived(second, other)
    lived(both, one + other)
    now = START + 300
    first.merge(second.dump(now), now)
    assert_same(first, both, now)


@FEW
@given(st.tuples(HISTORY, HISTORY, HISTORY))
def test_the_order_of_merging_does_not_matter(histories: tuple[list[dict[str, Any]], ...]) -> None:
    a, b, c = TargetStats(), TargetStats(), TargetStats()
    for part, history in zip((a, b, c), histories, strict=True):
        lived(part, history)
    now = START + 300
    assert_same(merged(a, b, c, now=now), merged(c, a, b, now=now), now)
    assert_same(merged(merged(a, b, now=now), c, now=now), merged(a, merged(b, c, now=now), now=now), now)


@FEW
@given(HISTORY, st.floats(0.0, 1e6))
def test_a_dump_means_the_same_by_another_clock(history: list[dict[str, Any]], clock: float) -> None:
    here, there = TargetStats(), TargetStats()
    lived(here, history)
    there.merge(here.dump(START + 300), clock)
    again = TargetStats()
    again.merge(there.dump(clock + 100), START + 400)
    assert_same(again, here, START + 400)


def test_what_others_know_is_in_the_forecast_and_not_in_the_dump() -> None:
    own, others = TargetStats(), TargetStats()
    answered(own, ttft_s=0.1)
    answered(others, ttft_s=0.3)
    before = own.dump(START)
    own.set_others(others)
    assert expected(own).samples == pytest.approx(2) and expected(own).ttft_mean_s == pytest.approx(0.2)
    assert own.dump(START) == before


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x90", b"null", bytes(100)])
def test_a_dump_that_is_none_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError, match="no dump"):
        TargetStats().merge(junk, START)


def test_a_dump_is_below_8_kb_however_varied_the_traffic_was() -> None:
    random, stats, now = Random(4), TargetStats(), START
    for _ in range(100_000):
        now += 0.01
        streamed, ttft_s = random.random() < 0.5, random.lognormvariate(-1, 1)
        answered(
            stats,
            now,
            streamed=streamed,
            prompt_tokens=int(2 ** random.uniform(0, 18)),
            load=int(2 ** random.uniform(0, 6)) - 1,
            ttft_s=ttft_s if streamed else None,
            total_s=ttft_s + random.lognormvariate(1, 1),
            output_tokens=int(2 ** random.uniform(0, 12)),
        )
    assert len(stats.dump(now)) < 8_000


# --- fading ---------------------------------------------------------------------------------------------------------------
def test_an_answer_weighs_half_after_its_half_life() -> None:
    stats = TargetStats()
    for _ in range(40):
        answered(stats)
    assert expected(stats, START + HALF_LIFE_S).samples == pytest.approx(20)


def test_a_new_answer_outweighs_one_of_a_half_life_ago() -> None:
    stats = TargetStats()
    answered(stats, START, ttft_s=0.1)
    answered(stats, START + HALF_LIFE_S, ttft_s=0.4)
    assert expected(stats, START + HALF_LIFE_S).ttft_mean_s == pytest.approx(0.3)


def test_failures_fade_faster_than_answers() -> None:
    stats = TargetStats()
    for _ in range(100):
        stats.failed(START, streamed=True, code="upstream_error", limited=False)
    assert expected(stats).error_rate > 0.95
    assert expected(stats, START + 10 * FAILURE_HALF_LIFE_S).error_rate < 0.06


def test_an_outage_is_over_for_the_forecast_some_minutes_after_its_end() -> None:
    stats = TargetStats()
    for second in range(60):
        stats.failed(START + second, streamed=True, code="upstream_error", limited=False)
    for second in range(60, 360):
        answered(stats, START + second)
    assert expected(stats, START + 360).error_rate < 0.05
    assert expected(stats, START + 360).waste_factor < 1.05


def test_ages_of_days_and_years_break_nothing() -> None:
    stats = TargetStats()
    for days in (0, 1, 30, 3000):
        now = START + days * 86_400
        answered(stats, now)
        stats.failed(now, streamed=True, code="upstream_error", limited=False)
        assert expected(stats, now).samples == pytest.approx(1, abs=0.01)
        assert 0.2 < expected(stats, now).error_rate < 0.3
    assert expected(stats, now + 1e9).samples < 1e-9


def test_attempts_may_be_told_in_the_past() -> None:
    stats = TargetStats()
    answered(stats, START)
    answered(stats, START - HALF_LIFE_S)
    stats.failed(START - 86_400, streamed=True, code="upstream_error", limited=False)
    assert expected(stats).samples == pytest.approx(1.5)


# --- what a forecast says ----------------------------------------------------------------------------------------------------
def test_nothing_is_known_of_a_cold_target() -> None:
    cold = expected(TargetStats())
    assert cold.samples == cold.error_rate == cold.limited_rate == 0.0 and cold.waste_factor == 1.0
    assert {cold.ttft_mean_s, cold.ttft_p95_s, cold.token_s_mean, cold.total_mean_s, cold.output_mean, cold.cache_share} == {None}
    assert cold.within(1.0) is None and cold.expected_output(100) is None


def test_a_target_that_is_asked_every_20_minutes_is_remembered() -> None:
    stats = TargetStats()
    for number in range(4):
        answered(stats, START + 1200.0 * number)
    seen = expected(stats, START + 1200.0 * 4)
    assert seen.samples < KNOWN and seen.remembered


def test_what_another_process_remembers_is_remembered() -> None:
    stats, other = TargetStats(), TargetStats()
    for _ in range(3):
        answered(other)
    stats.merge(other.dump(START + 3600), 7_200.0)
    assert expected(stats, 7_200.0).remembered and not expected(stats, 7_200.0 + 86_400).remembered


def test_a_slow_minority_shows_in_the_p95() -> None:
    stats = TargetStats()
    for number in range(200):
        answered(stats, ttft_s=4.0 if number % 17 == 0 else 0.2, total_s=5.0)
    seen = expected(stats)
    assert seen.ttft_p50_s is not None and seen.ttft_p50_s < 0.25
    assert seen.ttft_p95_s is not None and seen.ttft_p95_s > 3.3
    assert (seen.within(1.0) or 0.0) == pytest.approx(188 / 200)


def test_streamed_and_unary_answers_are_kept_apart() -> None:
    stats = TargetStats()
    answered(stats, streamed=False, ttft_s=None, total_s=8.0, output_tokens=80)
    unary, streamed = expected(stats, streamed=False), expected(stats)
    assert unary.total_mean_s == pytest.approx(8.0) and unary.token_s_mean == pytest.approx(0.1)
    assert unary.ttft_mean_s is None and unary.within(9.6) == 1.0 and unary.within(6.0) == 0.0
    assert streamed.samples == 0.0 and streamed.total_mean_s is None


def test_the_time_between_tokens_leaves_the_first_token_out() -> None:
    stats = TargetStats()
    answered(stats, ttft_s=2.0, total_s=3.0, output_tokens=51)
    assert expected(stats).token_s_mean == pytest.approx(0.02)


def test_an_answer_of_one_token_says_nothing_of_the_time_between_two() -> None:
    stats = TargetStats()
    answered(stats, output_tokens=1)
    assert expected(stats).token_s_mean is None and expected(stats).output_mean == 1


def test_unknown_counts_stay_unknown() -> None:
    stats = TargetStats()
    answered(stats, output_tokens=None, input_tokens=None, cached_tokens=None)
    seen = expected(stats)
    assert (seen.output_mean, seen.cache_share, seen.token_s_mean) == (None, None, None)
    assert seen.ttft_mean_s == pytest.approx(0.2)


@pytest.mark.parametrize(("shorter", "longer"), [(256, 257), (1024, 1025), (4096, 4097), (16_384, 16_385), (65_536, 65_537)])
def test_prompt_lengths_are_told_apart(shorter: int, longer: int) -> None:
    stats = TargetStats()
    for _ in range(30):
        answered(stats, prompt_tokens=shorter, ttft_s=0.1)
        answered(stats, prompt_tokens=longer, ttft_s=5.0)
    assert expected(stats, prompt_tokens=shorter).ttft_mean_s == pytest.approx(0.1, rel=0.2)
    assert expected(stats, prompt_tokens=longer).ttft_mean_s == pytest.approx(5.0, rel=0.2)


@pytest.mark.parametrize(("lighter", "heavier"), [(0, 1), (1, 2), (3, 4), (7, 8), (15, 16)])
def test_loads_are_told_apart(lighter: int, heavier: int) -> None:
    stats = TargetStats()
    for _ in range(30):
        answered(stats, load=lighter, ttft_s=0.1)
        answered(stats, load=heavier, ttft_s=5.0)
    assert expected(stats, load=lighter).ttft_mean_s == pytest.approx(0.1, rel=0.2)
    assert expected(stats, load=heavier).ttft_mean_s == pytest.approx(5.0, rel=0.2)


def test_a_cell_without_answers_takes_its_neighbours() -> None:
    stats = TargetStats()
    for _ in range(30):
        answered(stats, load=1)
    assert expected(stats, load=2).samples > 3 and expected(stats, load=2).ttft_mean_s == pytest.approx(0.2)


def test_a_target_is_known_in_every_cell_once_it_gave_a_few_answers_in_any() -> None:
    stats = TargetStats()
    for answers in range(1, 6):
        answered(stats, prompt_tokens=100, load=0)
        far = expected(stats, prompt_tokens=100_000, load=20)
        assert far.samples == pytest.approx(min(KNOWN, answers))


def test_far_neighbours_alone_count_no_more_than_that() -> None:
    stats = TargetStats()
    for _ in range(100):
        answered(stats, prompt_tokens=100, load=0)
    assert expected(stats, prompt_tokens=100_000, load=20).samples == KNOWN


def test_own_answers_soon_count_more_than_the_neighbours() -> None:
    stats = TargetStats()
    for _ in range(1000):
        answered(stats, load=0, ttft_s=0.1)
    for _ in range(6):
        answered(stats, load=1, ttft_s=10.0)
    assert (expected(stats, load=1).ttft_p50_s or 0) > 8


def test_an_answer_is_expected_no_longer_than_it_may_be() -> None:
    stats = TargetStats()
    for tokens in (100, 1000):
        answered(stats, output_tokens=tokens)
    seen = expected(stats)
    assert seen.expected_output(None) == pytest.approx(550)
    assert seen.expected_output(10_000) == pytest.approx(550)
    assert seen.expected_output(200) == pytest.approx(150, rel=0.1)
    assert seen.expected_output(10) == pytest.approx(10)


def test_limits_are_no_failures() -> None:
    stats = TargetStats()
    for _ in range(8):
        stats.failed(START, streamed=True, code="upstream_rate_limited", limited=True)
    assert expected(stats).error_rate == 0.0 and expected(stats).limited_rate == pytest.approx(0.8)


def test_one_failure_is_no_certainty() -> None:
    stats = TargetStats()
    stats.failed(START, streamed=True, code="upstream_error", limited=False)
    assert expected(stats).error_rate == pytest.approx(1 / 3)


def test_the_attempts_for_an_answer_have_a_bound() -> None:
    stats = TargetStats()
    for _ in range(1000):
        stats.failed(START, streamed=True, code="upstream_error", limited=False, paid=True)
    assert expected(stats).waste_factor == 5.0


def test_a_failure_that_bills_nothing_is_no_paid_attempt() -> None:
    stats = TargetStats()
    stats.failed(START, streamed=True, code="upstream_error", limited=False)
    assert expected(stats).waste_factor == 1.0


def test_the_cached_share_is_of_prompts_of_that_length() -> None:
    stats = TargetStats()
    answered(stats, prompt_tokens=100, input_tokens=100, cached_tokens=0)
    answered(stats, prompt_tokens=10_000, input_tokens=10_000, cached_tokens=9000)
    assert expected(stats, prompt_tokens=100).cache_share == 0.0
    assert expected(stats, prompt_tokens=10_000).cache_share == pytest.approx(0.9)
    assert expected(stats, prompt_tokens=1000).cache_share == pytest.approx(9000 / 10_100)


# --- its level ------------------------------------------------------------------------------------------------------------------
def spell(stats: TargetStats, start: float, ttft_s: float, answers: int, loads: int = 1) -> float:
    """A request a second, each forecast before it is answered; gives the time after."""
    for number in range(answers):
        now = start + number
        expected(stats, now, load=number % loads)
        answered(stats, now, ttft_s=ttft_s, load=number % loads)
    return start + answers


def test_a_target_that_turns_slow_is_known_to_be_after_a_few_answers() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.2, answers=300)
    now = spell(stats, now, 2.0, answers=6)
    assert (expected(stats, now + 1).within(0.5) or 0.0) < 0.1


def test_a_target_that_is_quick_again_is_known_to_be_after_a_few_answers_in_any_cell() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.2, answers=300, loads=3)
    now = spell(stats, now, 2.0, answers=30, loads=3)
    now = spell(stats, now, 0.2, answers=12, loads=2)
    assert (expected(stats, now + 1, load=2).within(0.5) or 0.0) > 0.95


def test_a_slow_answer_now_and_then_is_no_new_level() -> None:
    stats = TargetStats()
    now = START
    for _ in range(15):
        now = spell(stats, now, 0.2, answers=15)
        now = spell(stats, now, 20.0, answers=1)
    assert expected(stats, now + 1).ttft_p50_s == pytest.approx(0.2, rel=0.19)


def test_a_target_that_nobody_asks_comes_back_to_what_its_cells_say() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.2, answers=300)
    now = spell(stats, now, 2.0, answers=10)
    assert expected(stats, now + 1200).ttft_p50_s == pytest.approx(0.2, rel=0.19)


def test_a_target_that_gets_slower_by_and_by_is_followed() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.4, answers=300)
    for step in range(10):
        now = spell(stats, now, 0.4 * 1.07**step, answers=30)
    assert expected(stats, now + 1).ttft_p50_s == pytest.approx(0.4 * 1.07**9, rel=0.15)


def test_the_first_token_of_a_long_answer_says_at_once_how_slow_the_target_is() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.2, answers=300)
    for number in range(6):
        expected(stats, now + number)
        stats.began(now + number, prompt_tokens=100, load=0, ttft_s=2.0)
    assert (expected(stats, now + 6).within(0.5) or 0.0) < 0.1


def test_a_first_token_that_was_told_counts_once() -> None:
    stats = TargetStats()
    now = spell(stats, START, 0.2, answers=300)
    for number in range(6):
        expected(stats, now + number)
        answered(stats, now + number, ttft_s=2.0, begun=True)
    assert expected(stats, now + 6).ttft_p50_s == pytest.approx(0.2, rel=0.19)


# --- how fresh it is -----------------------------------------------------------------------------------------------------------
def test_what_is_new_shows_at_once_while_little_is_known() -> None:
    stats = TargetStats()
    assert expected(stats).samples == 0.0
    answered(stats)
    assert expected(stats).samples == pytest.approx(1)


def test_a_forecast_holds_for_half_a_second_where_much_is_known() -> None:
    stats = TargetStats()
    for _ in range(500):
        answered(stats)
    first = expected(stats)
    answered(stats)
    assert expected(stats, START + 0.49) is first
    assert expected(stats, START + 0.51) is not first


def test_a_forecast_holds_for_longer_when_nothing_came() -> None:
    stats = TargetStats()
    answered(stats)
    first = expected(stats)
    assert expected(stats, START + 4.9) is first
    assert expected(stats, START + 5.1) is not first


# --- the report ------------------------------------------------------------------------------------------------------------------
def test_a_report_counts_successes_and_failures_with_their_codes() -> None:
    stats = TargetStats()
    answered(stats, output_tokens=50)
    answered(stats, output_tokens=None)
    for code in ("upstream_error", "upstream_error", "upstream_rate_limited"):
        stats.failed(START, streamed=True, code=code, limited=False)
    told = stats.summary(START)
    assert told["attempts"] == 5 and told["output_tokens"] == 50
    assert told["failures"] == {"upstream_error": 2, "upstream_rate_limited": 1}


def test_a_request_that_was_rejected_is_in_the_report_and_not_in_the_error_rate() -> None:
    stats = TargetStats()
    stats.rejected("context_length_exceeded")
    assert stats.summary(START)["failures"] == {"context_length_exceeded": 1}
    assert expected(stats).error_rate == 0.0


def test_a_report_of_nothing_has_no_times() -> None:
    stats = TargetStats()
    stats.failed(START, streamed=False, code="upstream_error", limited=False)
    told = stats.summary(START)
    assert {told[name] for name in ("ttft_p50_ms", "ttft_p95_ms", "total_p50_ms", "total_p95_ms", "token_mean_ms", "cache_share")} == {None}


def test_a_report_is_in_milliseconds() -> None:
    stats = TargetStats()
    for number in range(100):
        answered(stats, ttft_s=1.0 if number < 6 else 0.1, total_s=10.0 if number < 6 else 1.0)
    told = stats.summary(START)
    for name, exact in (("ttft_p50_ms", 100), ("ttft_p95_ms", 1000), ("total_p50_ms", 1000), ("total_p95_ms", 10_000)):
        found = told[name]
        assert isinstance(found, float) and exact / 1.19 <= found <= exact * 1.19


def test_a_report_is_a_copy() -> None:
    stats = TargetStats()
    told = stats.summary(START)
    stats.failed(START, streamed=True, code="upstream_error", limited=False)
    assert told["failures"] == {}


@FEW
@given(HISTORY)
def test_answers_that_were_taken_in_together_come_to_what_they_do_one_by_one(history: list[dict[str, Any]]) -> None:
    """A summary takes in what came so far."""
    together, apart = TargetStats(), TargetStats()
    lived(together, history)
    for each in history:
        lived(apart, [each])
        apart.summary(START)
    now = START + 300.0
    for streamed in (False, True):
        mine, theirs = (each.forecast(now, streamed=streamed, prompt_tokens=3000, load=2) for each in (together, apart))
        assert mine.samples == pytest.approx(theirs.samples) and mine.error_rate == pytest.approx(theirs.error_rate)
        assert mine.total_mean_s == pytest.approx(theirs.total_mean_s) and mine.total_p95_s == pytest.approx(theirs.total_p95_s)
        assert mine.output_mean == pytest.approx(theirs.output_mean) and mine.cache_share == pytest.approx(theirs.cache_share)
    assert together.summary(now) == apart.summary(now)
