"""What rows of batches leave of their team's limits."""

import pytest

from policy.batch_share import BUSY_S, Asked, waits_s
from policy.quota import Left, Limits, Scope, Standing


def standing(requests: Left | None = None, tokens: Left | None = None, concurrency: int | None = None, running: int = 0) -> Standing:
    return Standing(Scope("team", "red", Limits(concurrency=concurrency)), running, requests, tokens, ())


@pytest.mark.parametrize(
    ("found", "wait_s"),
    [
        (standing(), 0.0),
        (standing(Left(60, 60, 0.0)), 0.0),
        (standing(Left(60, 31, 29.0)), 0.0),
        (standing(Left(60, 30, 30.0)), 1.0),
        (standing(Left(60, 0, 60.0)), 31.0),
        (standing(Left(60, 60, 0.0), Left(6000, 2400, 36.0)), 7.0),
        (standing(Left(2, 2, 0.0)), 0.0),
        (standing(Left(2, 1, 30.0)), 30.0),
        (standing(Left(1, 1, 0.0)), 0.0),
        (standing(Left(0, 0, 0.0)), 0.0),
        (standing(concurrency=4, running=1), 0.0),
        (standing(concurrency=4, running=2), BUSY_S),
        (standing(concurrency=1), 0.0),
    ],
)
def test_half_of_a_limit_is_left_to_live_requests(found: Standing, wait_s: float) -> None:
    assert waits_s(found, 100, Asked()) == pytest.approx(wait_s)


def test_a_row_that_is_more_than_half_waits_for_the_whole_bucket() -> None:
    assert waits_s(standing(tokens=Left(1000, 1000, 0.0)), 900, Asked()) == 0.0
    assert waits_s(standing(tokens=Left(1000, 900, 6.0)), 900, Asked()) == pytest.approx(6.0)


def test_what_was_let_through_and_is_not_seen_yet_counts() -> None:
    found = standing(Left(60, 32, 28.0), Left(6000, 6000, 0.0), concurrency=10)
    assert waits_s(found, 100, Asked(1, 100)) == 0.0 and waits_s(found, 100, Asked(2, 200)) == BUSY_S
    assert waits_s(found, 100, Asked(0, 2950)) == BUSY_S
    assert waits_s(found, 100, Asked(5, 0)) >= BUSY_S
