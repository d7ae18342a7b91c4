"""Live statistics of a target: percentiles within 19 % of the exact ones, from a few numbers; no value can break them."""

from math import ceil, inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.stats import LogBuckets, TargetStats

TIMES = st.floats(1e-7, 1e6)
SHARES = st.floats(0.0, 1.0)


def buckets(*values: float) -> LogBuckets:
    made = LogBuckets()
    for value in values:
        made.add(value)
    return made


@given(st.lists(TIMES, min_size=1, max_size=200), SHARES)
def test_a_quantile_is_within_19_percent_above_the_exact_one(values: list[float], share: float) -> None:
    exact = sorted(values)[max(0, ceil(share * len(values)) - 1)]
    found = buckets(*values).quantile(share)
    assert found is not None and exact * (1 - 1e-9) <= found <= exact * 1.19


@given(st.lists(TIMES, min_size=1, max_size=50))
def test_quantiles_rise_with_their_share(values: list[float]) -> None:
    made = buckets(*values)
    found = [made.quantile(share / 10) for share in range(11)]
    assert found == sorted(found, key=lambda value: value or 0.0)


@given(st.lists(TIMES, max_size=50), st.lists(TIMES, max_size=50))
def test_adding_two_is_adding_their_counts(one: list[float], other: list[float]) -> None:
    both, left, right = buckets(*one, *other), buckets(*one), buckets(*other)
    assert both.total == left.total + right.total
    assert both.counts == {b: left.counts.get(b, 0) + right.counts.get(b, 0) for b in left.counts.keys() | right.counts.keys()}


def test_nothing_added_has_no_quantile() -> None:
    assert LogBuckets().quantile(0.5) is None


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-12, 5e-324, 1e-300, nan, -inf])
def test_a_value_that_is_no_time_counts_as_almost_nothing(value: float) -> None:
    found = buckets(value).quantile(0.5)
    assert found is not None and 0 < found < 1e-8


@pytest.mark.parametrize("value", [1e10, 1.7976931348623157e308, inf])
def test_a_value_beyond_any_time_counts_as_a_very_long_one(value: float) -> None:
    found = buckets(value).quantile(0.5)
    assert found is not None and 1e9 < found < 1.3e9


@given(st.floats())
def test_no_value_breaks_it(value: float) -> None:
    made = buckets(value, 1.0)
    assert made.total == 2 and made.quantile(1.0) is not None


@pytest.mark.parametrize("value", [0.25, 0.5, 1.0, 2.0, 1024.0])
def test_a_power_of_two_is_in_the_bucket_that_begins_with_it(value: float) -> None:
    assert buckets(value).counts != buckets(value * 0.999).counts
    assert buckets(value).counts == buckets(value * 1.18).counts


def test_a_million_times_fit_in_few_buckets() -> None:
    assert len(buckets(*(step / 1000 for step in range(1, 100_000))).counts) <= 4 * 17 + 1


def test_successes_and_failures_are_counted_with_their_codes() -> None:
    stats = TargetStats()
    stats.succeeded(0.1, 1.0, 50)
    stats.succeeded(0.2, 2.0, 0)
    for code in ("upstream_error", "upstream_error", "upstream_rate_limited"):
        stats.failed(code)
    told = stats.summary()
    assert told["attempts"] == 5 and told["output_tokens"] == 50
    assert told["failures"] == {"upstream_error": 2, "upstream_rate_limited": 1}


def test_failures_do_not_touch_the_times() -> None:
    stats = TargetStats()
    stats.failed("upstream_error")
    assert stats.summary() == {
        "attempts": 1,
        "failures": {"upstream_error": 1},
        "output_tokens": 0,
        "ttft_p50_ms": None,
        "ttft_p95_ms": None,
        "total_p50_ms": None,
        "total_p95_ms": None,
    }


def test_the_summary_is_in_milliseconds() -> None:
    stats = TargetStats()
    for _ in range(94):
        stats.succeeded(0.1, 1.0, 1)
    for _ in range(6):
        stats.succeeded(1.0, 10.0, 1)
    told = stats.summary()
    for name, exact in (("ttft_p50_ms", 100), ("ttft_p95_ms", 1000), ("total_p50_ms", 1000), ("total_p95_ms", 10_000)):
        found = told[name]
        assert isinstance(found, float) and exact <= found <= exact * 1.19


def test_a_summary_is_a_copy() -> None:
    stats = TargetStats()
    told = stats.summary()
    stats.failed("upstream_error")
    assert told["failures"] == {}
