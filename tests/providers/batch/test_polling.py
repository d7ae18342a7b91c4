"""How often a job is asked for."""

from hypothesis import given
from hypothesis import strategies as st

from providers.batch.polling import PACE, Pace, pause_s
from providers.batch.port import Limits

_chance = st.floats(0, 1)
_pace = st.builds(Pace, first_s=st.floats(1, 60), most_s=st.floats(60, 600), factor=st.floats(1, 3), jitter=st.floats(0, 0.5))


@given(pace=_pace, quiet=st.integers(0, 10_000), chance=_chance, retry_after_s=st.none() | st.floats(0, 3600))
def test_a_pause_is_within_its_bounds_and_never_under_what_was_asked(pace: Pace, quiet: int, chance: float, retry_after_s: float | None) -> None:
    pause = pause_s(pace, quiet, retry_after_s, chance)
    assert pause >= pace.first_s * (1 - pace.jitter) - 1e-9
    assert pause >= (retry_after_s or 0.0)
    assert pause <= max(pace.most_s * (1 + pace.jitter), (retry_after_s or 0.0) + pace.jitter * pace.first_s) + 1e-9


@given(quiet=st.integers(0, 100), chance=_chance)
def test_a_job_that_does_not_change_is_asked_for_less_and_less_often(quiet: int, chance: float) -> None:
    assert pause_s(PACE, quiet + 1, None, chance) >= pause_s(PACE, quiet, None, chance)


@given(retry_after_s=st.none() | st.floats(0, 100))
def test_jobs_that_were_begun_together_are_not_asked_for_together(retry_after_s: float | None) -> None:
    assert pause_s(PACE, 0, retry_after_s, 0.0) != pause_s(PACE, 0, retry_after_s, 0.9)


def test_a_row_costs_its_share_of_the_live_price() -> None:
    half = Limits(rows=1, size=1, endpoints=frozenset())
    assert [half.cost_nusd(nusd) for nusd in (0, 1, 3, 1000, None)] == [0, 1, 2, 500, None]
    assert Limits(rows=1, size=1, endpoints=frozenset(), percent_off=None).cost_nusd(1000) is None
