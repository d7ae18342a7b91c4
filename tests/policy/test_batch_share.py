"""What rows of batches leave of their team's limits."""

import pytest

from policy.batch_share import waits_s
from policy.quota import Left, Scope, Standing


def standing(requests: Left | None = None, tokens: Left | None = None) -> Standing:
    return Standing(Scope("team", "red"), 0, requests, tokens, ())


@pytest.mark.parametrize(
    ("found", "wait_s"),
    [
        (standing(), 0.0),
        (standing(Left(60, 60, 0.0)), 0.0),
        (standing(Left(60, 30, 30.0)), 0.0),
        (standing(Left(60, 29, 31.0)), 1.0),
        (standing(Left(60, 0, 60.0)), 30.0),
        (standing(Left(60, 60, 0.0), Left(6000, 2000, 40.0)), 10.0),
        (standing(Left(1, 1, 0.0)), 0.0),
        (standing(Left(1, 0, 60.0)), 30.0),
        (standing(Left(0, 0, 0.0)), 0.0),
    ],
)
def test_half_of_a_minute_is_left_to_live_requests(found: Standing, wait_s: float) -> None:
    assert waits_s(found) == wait_s
