"""What a wait counts as that another runner's answer cut short."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.forecast import KNOWN, Forecast
from policy.overtaken import counts_as
from policy.sketch import Distribution, Sketch
from policy.stats import TargetStats

NOW = 1000.0


def known(*waits_s: float, samples: float = inf) -> Forecast:
    sketch = Sketch()
    sketch.add_all((wait_s, 1.0) for wait_s in waits_s)
    waits = Distribution([(sketch, 1.0)])
    return Forecast(samples=min(samples, waits.total), waits=waits)


def test_of_a_target_that_is_not_known_it_counts_twice() -> None:
    assert counts_as(Forecast(), 0.3) == pytest.approx(0.6)
    assert counts_as(known(0.2, samples=1), 0.3) == pytest.approx(0.6)


def test_of_a_known_one_it_counts_as_the_middle_of_its_longer_waits() -> None:
    took_s = counts_as(known(*[0.2] * 7, *[0.5] * 3), 0.3)
    assert took_s == pytest.approx(0.5, rel=0.1)


def test_beyond_all_that_is_known_it_counts_as_it_was() -> None:
    assert counts_as(known(*[0.2] * 9), 0.7) == pytest.approx(0.7)


def test_where_most_take_longer_it_counts_twice_and_where_nearly_all_do_it_says_nothing() -> None:
    assert counts_as(known(*[0.2] * 4, *[0.32] * 6), 0.3) == pytest.approx(0.6)
    assert counts_as(known(*[1.0] * 9), 0.01) is None


@given(st.lists(st.floats(0.01, 50.0), min_size=1, max_size=30), st.floats(0.01, 50.0))
def test_it_never_counts_as_less_than_it_was(waits_s: list[float], waited_s: float) -> None:
    took_s = counts_as(known(*waits_s), waited_s)
    assert took_s is None or took_s >= waited_s * 0.999


@pytest.mark.parametrize("known_s", [None, 0.2], ids=["new", "quick before"])
def test_a_target_that_always_loses_is_known_as_slow_in_the_end(known_s: float | None) -> None:
    stats = TargetStats()

    def saw(ttft_s: float) -> None:
        stats.observe(
            NOW,
            streamed=True,
            prompt_tokens=20,
            load=0,
            ttft_s=ttft_s,
            total_s=ttft_s,
            output_tokens=None,
            input_tokens=None,
            cached_tokens=None,
        )

    for _ in range(10 if known_s else 0):
        saw(known_s or 0.0)
    for _ in range(14):
        took_s = counts_as(stats.forecast(NOW, streamed=True, prompt_tokens=20, load=0), 0.303)
        if took_s is not None:
            saw(took_s)
    forecast = stats.forecast(NOW, streamed=True, prompt_tokens=20, load=0)
    in_time = forecast.within(0.4)
    assert forecast.samples >= KNOWN and in_time is not None and in_time < 0.9
