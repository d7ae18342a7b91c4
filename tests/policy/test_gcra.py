"""A bucket never lets more through than its limit and one minute's worth, and what it tells about waiting is true."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from policy.gcra import Bucket, left, wait_s, window_end, window_start

LIMIT = 600  # ten a second


def taken(bucket: Bucket, units: int, limit: int, now: float) -> bool:
    fits = wait_s(bucket.drain(limit, now), units, limit) == 0
    if fits:
        bucket.level += units
    return fits


def test_an_empty_bucket_takes_a_minutes_worth_at_once_and_no_more() -> None:
    bucket = Bucket()
    assert [taken(bucket, 1, LIMIT, 5.0) for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]


def test_what_is_larger_than_a_minutes_worth_never_fits() -> None:
    assert wait_s(0.0, LIMIT + 1, LIMIT) is None


def test_a_bucket_is_empty_again_after_a_minute_and_saves_nothing_more() -> None:
    bucket = Bucket(LIMIT, 0.0)
    assert bucket.drain(LIMIT, 60.0) == 0.0
    assert left(bucket.drain(LIMIT, 3_600.0), LIMIT).remaining == LIMIT


def test_a_clock_that_goes_back_changes_nothing() -> None:
    bucket = Bucket(100.0, 50.0)
    assert bucket.drain(LIMIT, 20.0) == 100.0 and bucket.drain(LIMIT, 51.0) == 90.0


def test_what_is_left_and_until_when_is_told_in_whole_units_and_seconds() -> None:
    told = left(150.5, LIMIT)
    assert (told.limit, told.remaining, told.reset_s) == (600, 449, 15.05)


@given(limit=st.integers(1, 10**6), arrivals=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1_000)), max_size=60))
def test_over_any_span_no_more_is_let_through_than_the_limit_and_one_minutes_worth(limit: int, arrivals: list[tuple[float, int]]) -> None:
    bucket, now, through = Bucket(), 0.0, []
    for pause, units in arrivals:
        now += pause
        if taken(bucket, units, limit, now):
            through.append((now, units))
    for first in range(len(through)):
        total = 0
        for at, units in through[first:]:
            total += units
            assert total <= limit + (at - through[first][0]) * limit / 60 + 0.01


@given(limit=st.integers(1, 10**6), level=st.floats(0, 10**6), units=st.integers(1, 10**6))
def test_who_waits_as_long_as_told_gets_in_and_who_waits_shorter_does_not(limit: int, level: float, units: int) -> None:
    wait = wait_s(min(level, limit), units, limit)
    if wait is None:
        return
    assert wait_s(Bucket(min(level, limit), 0.0).drain(limit, wait), units, limit) == 0
    if wait * limit / 60 > 1e-3:
        assert wait_s(Bucket(min(level, limit), 0.0).drain(limit, wait * 0.99), units, limit) != 0


@given(
    limit=st.integers(60, 10**5),
    requests=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 300), st.floats(0, 1), st.floats(0, 90)), max_size=60),
)
def test_true_use_stays_within_the_limit_and_a_minutes_worth_whatever_was_estimated(
    limit: int, requests: list[tuple[float, int, float, float]]
) -> None:
    """Each request reserves an upper bound, lasts for a while, and gives back what it did not use."""
    bucket, now, used = Bucket(), 0.0, 0.0
    ends: list[tuple[float, int, float]] = []
    for pause, bound, share, lasts in requests:
        now += pause
        for end, its_bound, its_use in sorted(each for each in ends if each[0] <= now):
            bucket.correct(its_use - its_bound, limit, end)
        ends = [each for each in ends if each[0] > now]
        if taken(bucket, bound, limit, now):
            ends.append((now + lasts, bound, bound * share))
            used += bound * share
            assert used <= limit + now * limit / 60 + 0.01


@given(st.datetimes(datetime(1970, 1, 1), datetime(2400, 1, 1)))
def test_windows_begin_and_end_as_the_calendar_has_them(moment: datetime) -> None:
    at = moment.replace(tzinfo=UTC)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    begin = {"day": day, "week": day - timedelta(days=day.weekday()), "month": month}
    end = {"day": day + timedelta(days=1), "week": begin["week"] + timedelta(days=7), "month": (month + timedelta(days=32)).replace(day=1)}
    seconds = at.timestamp()
    assert {window: window_start(window, seconds) for window in begin} == {window: each.timestamp() for window, each in begin.items()}  # type: ignore[arg-type]
    assert {window: window_end(window, seconds) for window in end} == {window: each.timestamp() for window, each in end.items()}  # type: ignore[arg-type]


def test_a_total_never_began_and_never_ends() -> None:
    assert window_start("total", 1e9) == 0 and window_end("total", 1e9) is None
