"""Distributions in log-scale buckets: quantiles within 19 % of the exact ones, exact means, sums that may be taken in any order."""

from math import ceil, inf, log2, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.sketch import STEPS, Distribution, Packed, Sketch

VALUES = st.floats(1e-7, 1e6)
MANY = st.lists(VALUES, min_size=1, max_size=60)
SHARES = st.floats(0.0, 1.0)


def sketch(*values: float, weight: float = 1.0) -> Sketch:
    made = Sketch()
    for value in values:
        made.add(value, weight)
    return made


def distribution(*values: float) -> Distribution:
    return Distribution([(sketch(*values), 1.0)])


def weights(made: Sketch) -> dict[int, float]:
    return {made.first + at: weight for at, weight in enumerate(made.counts) if weight}


@given(MANY, SHARES)
def test_a_quantile_is_within_19_percent_of_the_exact_one(values: list[float], share: float) -> None:
    exact = sorted(values)[max(0, ceil(share * len(values) - 1e-9) - 1)]
    found = distribution(*values).quantile(share)
    assert found is not None and exact / 1.19 <= found <= exact * 1.19


@given(MANY)
def test_the_mean_is_exact(values: list[float]) -> None:
    assert distribution(*values).mean == pytest.approx(sum(values) / len(values))


@given(MANY, VALUES, VALUES)
def test_the_share_within_a_value_rises_with_it(values: list[float], one: float, other: float) -> None:
    made = distribution(*values)
    low, high = made.within(min(one, other)), made.within(max(one, other))
    assert low is not None and high is not None and 0.0 <= low <= high <= 1.0


@given(MANY, st.floats(0.01, 1.0))
def test_as_many_are_within_a_quantile_as_it_says(values: list[float], share: float) -> None:
    made = distribution(*values)
    quantile = made.quantile(share)
    assert quantile is not None and made.within(quantile * (1 + 1e-9)) == pytest.approx(share, abs=1e-6)


@given(MANY, VALUES)
def test_the_mean_up_to_a_limit_is_within_19_percent_of_the_exact_one(values: list[float], limit: float) -> None:
    exact = sum(min(value, limit) for value in values) / len(values)
    found = distribution(*values).mean_up_to(limit)
    assert found is not None and found <= limit * (1 + 1e-9) and exact / 1.42 <= found <= exact * 1.19


@given(MANY)
def test_without_a_limit_in_reach_the_mean_is_the_whole_mean(values: list[float]) -> None:
    made = distribution(*values)
    assert made.mean_up_to(1e9) == pytest.approx(made.mean)


@given(MANY, MANY, MANY)
def test_the_order_of_sums_does_not_matter(one: list[float], two: list[float], three: list[float]) -> None:
    left, right = sketch(*one), sketch(*three)
    left.merge(sketch(*two))
    left.merge(sketch(*three))
    right.merge(sketch(*one))
    right.merge(sketch(*two))
    assert weights(left) == weights(right) == weights(sketch(*one, *two, *three))
    assert left.value_sum == pytest.approx(right.value_sum)


@given(MANY, st.floats(1e-3, 1e3))
def test_what_is_packed_and_unpacked_is_the_same_within_3_percent(values: list[float], factor: float) -> None:
    made = sketch(*values)
    again = Sketch.unpack(made.pack(factor))
    assert again.total == pytest.approx(made.total * factor) and again.value_sum == pytest.approx(made.value_sum * factor)
    expected = weights(made)
    assert weights(again).keys() == expected.keys()
    assert all(weight == pytest.approx(expected[at] * factor, rel=0.06) for at, weight in weights(again).items())


def test_an_empty_sketch_packs_to_an_empty_one() -> None:
    assert weights(Sketch.unpack(Sketch().pack(1.0))) == {}


@pytest.mark.parametrize(
    "packed",
    [
        Packed(10**9, 1.0, 1.0, b"\xff"),
        Packed(119, 1.0, 1.0, b"\xff\xff"),
        Packed(0, 1.0, 1.0, b""),
        Packed(0, 1.0, 1.0, b"\x00"),
        Packed(0, -1.0, 1.0, b"\xff"),
        Packed(0, nan, 1.0, b"\xff"),
        Packed(0, inf, 1.0, b"\xff"),
        Packed(0, 1.0, -1.0, b"\xff"),
        Packed(0, 1.0, nan, b"\xff"),
    ],
)
def test_what_no_sketch_packs_to_is_refused(packed: Packed) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Sketch.unpack(packed)


def test_nothing_added_has_no_answers() -> None:
    nothing = Distribution([(Sketch(), 1.0)])
    assert (nothing.quantile(0.5), nothing.within(1.0), nothing.mean, nothing.mean_up_to(10.0)) == (None, None, None, None)


@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, -1e-12, 5e-324, 1e-300, nan, -inf])
def test_a_value_that_is_no_size_counts_as_almost_nothing(value: float) -> None:
    found = distribution(value).quantile(0.5)
    assert found is not None and 0 < found < 1e-8


@pytest.mark.parametrize("value", [1e10, 1.7976931348623157e308, inf])
def test_a_value_beyond_any_size_counts_as_a_very_large_one(value: float) -> None:
    found = distribution(value).quantile(0.5)
    assert found is not None and 0.8e9 < found < 1.3e9


@given(st.floats(), st.floats())
def test_no_value_breaks_it(value: float, asked: float) -> None:
    made = distribution(value, 1.0)
    assert made.total == 2 and made.quantile(1.0) is not None and 0.0 <= (made.within(asked) or 0.0) <= 1.0


@pytest.mark.parametrize("value", [0.25, 0.5, 1.0, 2.0, 1024.0])
def test_a_power_of_two_is_in_the_bucket_that_begins_with_it(value: float) -> None:
    assert weights(sketch(value)) != weights(sketch(value * 0.999))
    assert weights(sketch(value)) == weights(sketch(value * 1.18))


def test_a_hundred_thousand_times_fit_in_few_buckets() -> None:
    assert len(sketch(*(step / 1000 for step in range(1, 100_000))).counts) <= 4 * 17 + 1


@given(MANY, st.floats(0.25, 4.0))
def test_what_is_carried_has_the_same_weight_and_its_mean_so_many_times_as_large(values: list[float], times: float) -> None:
    here = sketch(*values)
    there = here.carried(times)
    assert there.total == here.total and sum(there.counts) == pytest.approx(sum(here.counts))
    assert Distribution([(there, 1.0)]).mean == pytest.approx(times * sum(values) / len(values))


@given(st.floats(1e-3, 1e3), st.floats(0.25, 4.0))
def test_what_is_carried_lies_around_where_it_is_carried_to(value: float, times: float) -> None:
    """Within the bucket of the value itself; the share of the next one is what is left of the way, so that a little is carried a little."""
    here, there = sketch(value), sketch(value).carried(times)
    middle = sum(at * weight for at, weight in weights(there).items())
    start = next(iter(weights(here)))
    assert middle - start == pytest.approx(log2(times) * STEPS, abs=1e-6)
