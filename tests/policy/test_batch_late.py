"""When a provider's job is given up: at the last moment at which its rows are sure to be done elsewhere, unless it shows that it is in time."""

import pytest

from policy.batch_late import falls_behind, must_move, spare_s
from policy.batch_plan import Running, Way

AWAY = Way(target="p/m", kind="provider_batch", all_nusd=1, start_s=86400.0)
LIVE = Way(target="q/m", kind="realtime", all_nusd=2, rows_per_s=1.0)
DAY_S = 86400.0


def share(done: int | None, elapsed_s: float) -> Running:
    return Running(way=AWAY, rows=3600, elapsed_s=elapsed_s, done=done)


@pytest.mark.parametrize(
    ("done", "left_s", "moves"),
    [
        (None, 7200.0, False),  # an hour's work elsewhere, half as much again, and some to spare
        (None, 5400.0 + spare_s(DAY_S) + 1, False),
        (None, 5400.0 + spare_s(DAY_S) - 1, True),
        (3590, 5400.0, False),  # it is almost done
        (10, 5400.0, True),  # it is too slow
    ],
)
def test_a_job_is_moved_at_the_last_moment(done: int | None, left_s: float, moves: bool) -> None:
    assert must_move(share(done, DAY_S - left_s), left_s, DAY_S, [AWAY, LIVE]) is moves


def test_where_nobody_knows_how_long_the_others_take_it_goes_on_until_the_spare_time() -> None:
    unknown = Way(target="q/m", kind="realtime", all_nusd=2, rows_per_s=0.0, barred="its speed is not known")
    assert not must_move(share(None, 80_000), spare_s(DAY_S) + 1, DAY_S, [AWAY, unknown])
    assert must_move(share(None, 80_000), spare_s(DAY_S), DAY_S, [AWAY, unknown])


def test_where_the_others_could_never_have_done_it_in_time_it_goes_on_until_the_spare_time() -> None:
    slow = Way(target="q/m", kind="realtime", all_nusd=2, rows_per_s=1200 / DAY_S)
    assert not must_move(share(None, 60.0), DAY_S - 60.0, DAY_S, [AWAY, slow])
    assert not must_move(share(None, DAY_S / 2), DAY_S / 2, DAY_S, [AWAY, slow])
    assert must_move(share(None, DAY_S - spare_s(DAY_S)), spare_s(DAY_S), DAY_S, [AWAY, slow])


@pytest.mark.parametrize(
    ("waiting", "elapsed_s", "behind"),
    [
        (1000, 59.0, False),  # nothing can be said yet
        (1000, 200.0, False),  # a fifth behind
        (1000, 260.0, True),
        (700, 500.0, False),
        (800, 500.0, True),
        (10, 1200.0, False),
        (10, 1250.0, True),  # the plan's time is over, and a quarter of it again
        (0, 5000.0, False),
    ],
)
def test_live_rows_fall_behind_when_a_quarter_of_them_is_missing(waiting: int, elapsed_s: float, behind: bool) -> None:
    assert falls_behind(1000, waiting, elapsed_s, 1000.0) is behind
