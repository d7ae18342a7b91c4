"""The batch planner: what is chosen, what is split, what becomes of a share that is late, and what is said when nothing ends in time."""

from itertools import product

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.batch_plan import Plan, Way, dealt, outlooks, plan

HOUR = 3600.0
DAY = 24 * HOUR
ROWS = 10_000
BATCH = Way(target="openai/m", kind="provider_batch", all_nusd=50, start_s=DAY)
LIVE = Way(target="openai/m", kind="realtime", all_nusd=100, rows_per_s=2.0)
IDLE = Way(target="gpu", kind="engine", all_nusd=20, rows_per_s=0.2)
BEDROCK = Way(target="bedrock/m", kind="provider_batch", all_nusd=40, start_s=DAY, min_rows=100)


def shares(found: Plan) -> dict[tuple[str, str], int]:
    return {(share.way.target, share.way.kind): share.rows for share in found.shares}


def test_with_time_the_cheapest_takes_all() -> None:
    found = plan(ROWS, 2 * DAY, [LIVE, BATCH, IDLE])
    assert shares(found) == {("gpu", "engine"): ROWS}
    assert (found.cost_nusd, found.ends_s, found.in_time) == (20, 50_000.0, True)


def test_a_day_is_what_a_provider_s_batch_takes() -> None:
    assert shares(plan(ROWS, DAY, [LIVE, BATCH])) == {("openai/m", "provider_batch"): ROWS}
    assert shares(plan(ROWS, DAY - 1, [LIVE, BATCH])) == {("openai/m", "realtime"): ROWS}


def test_a_batch_is_split_where_that_is_cheaper_in_time() -> None:
    found = plan(ROWS, 2 * HOUR, [LIVE, BATCH, IDLE])
    assert shares(found) == {("gpu", "engine"): 1440, ("openai/m", "realtime"): ROWS - 1440}
    assert found.in_time and found.cost_nusd == 3 + 86
    assert found.ends_s is not None and found.ends_s <= 2 * HOUR


def test_equal_prices_go_to_who_begins_first() -> None:
    late = msgspec.structs.replace(BATCH, target="other/m", start_s=DAY / 2)
    assert shares(plan(ROWS, DAY, [BATCH, late])) == {("other/m", "provider_batch"): ROWS}


def test_an_impossible_deadline_gives_what_ends_first_and_says_so() -> None:
    found = plan(ROWS, 60.0, [LIVE, BATCH, IDLE])
    assert not found.in_time and found.unplaced == 0
    assert found.ends_s == pytest.approx(ROWS / 2.2, abs=6.0)
    assert set(shares(found)) == {("gpu", "engine"), ("openai/m", "realtime")}


def test_rows_that_nobody_takes_are_told() -> None:
    small = msgspec.structs.replace(BATCH, max_rows=1000)
    found = plan(ROWS, DAY, [small])
    assert (found.unplaced, found.ends_s, found.cost_nusd, found.in_time) == (9000, None, None, False)
    nobody = plan(ROWS, DAY, [msgspec.structs.replace(LIVE, barred="the policy keeps it local")])
    assert nobody.shares == () and nobody.unplaced == ROWS


def test_no_rows_are_done() -> None:
    found = plan(0, DAY, [LIVE])
    assert found.shares == () and found.in_time and found.cost_nusd == 0


def test_a_minimum_of_rows_is_kept_or_the_way_is_not_used() -> None:
    assert shares(plan(99, DAY, [BEDROCK, BATCH])) == {("openai/m", "provider_batch"): 99}
    assert shares(plan(100, DAY, [BEDROCK, BATCH])) == {("bedrock/m", "provider_batch"): 100}


def test_a_minimum_is_filled_up_from_a_cheaper_way_where_that_is_cheapest() -> None:
    """The idle engine would do 950; the 50 that are left are too few for the cheap batch, which gets 100."""
    engine = Way(target="gpu", kind="engine", all_nusd=10, rows_per_s=950 / DAY)
    dear = Way(target="dear/m", kind="provider_batch", all_nusd=4000, start_s=DAY)
    found = plan(1000, DAY, [engine, BEDROCK, dear])
    assert shares(found) == {("gpu", "engine"): 900, ("bedrock/m", "provider_batch"): 100}


def test_a_price_that_is_not_known_is_used_last_and_makes_the_cost_unknown() -> None:
    unknown = msgspec.structs.replace(BATCH, target="x/m", all_nusd=None)
    assert shares(plan(ROWS, DAY, [unknown, LIVE])) == {("openai/m", "realtime"): ROWS}
    found = plan(ROWS, DAY, [unknown])
    assert found.in_time and found.cost_nusd is None


def test_every_way_is_shown_with_what_is_wrong_with_it() -> None:
    barred = msgspec.structs.replace(LIVE, target="far/m", all_nusd=1, barred="the policy keeps it local")
    still = Way(target="cold", kind="engine", all_nusd=5, rows_per_s=0.0)
    shown = outlooks(50, HOUR, [LIVE, BATCH, BEDROCK, barred, still])
    assert [(each.way.target, each.why_not) for each in shown] == [
        ("far/m", "the policy keeps it local"),
        ("cold", "its speed is not known"),
        ("bedrock/m", "it takes no fewer than 100 rows"),
        ("openai/m", "it ends 23.0 h after the deadline"),
        ("openai/m", ""),
    ]
    assert shown[-1].ends_s == 25.0 and shown[-1].cost_nusd == 100


_way = st.builds(
    Way,
    target=st.sampled_from("abc"),
    kind=st.sampled_from(["engine", "realtime"]),
    all_nusd=st.integers(0, 50).map(lambda n: n * 12),
    start_s=st.integers(0, 3).map(float),
    rows_per_s=st.none() | st.integers(1, 4).map(float),
    min_rows=st.integers(1, 4),
    max_rows=st.none() | st.integers(1, 8),
)


def every_allotment(rows: int, by_s: float, ways: list[Way]) -> list[tuple[int, ...]]:
    """All ways to divide the rows that end by then."""
    takes = [[n for n in range(rows + 1) if not n or (n >= way.min_rows and n <= way.capacity(by_s, rows))] for way in ways]
    return [given for given in product(*takes) if sum(given) == rows]


@settings(max_examples=300, deadline=None)
@given(rows=st.integers(0, 8), by_s=st.integers(0, 5).map(float), ways=st.lists(_way, max_size=3, unique_by=lambda way: way.target))
def test_nothing_that_ends_in_time_is_cheaper(rows: int, by_s: float, ways: list[Way]) -> None:
    found = plan(rows, by_s, ways)
    possible = every_allotment(rows, by_s, ways)
    assert found.in_time == bool(possible)
    assert sum(share.rows for share in found.shares) + found.unplaced == rows
    for share in found.shares:
        assert share.rows >= share.way.min_rows and (share.way.max_rows is None or share.rows <= share.way.max_rows)
    if possible:
        exact = min(sum(n * (way.all_nusd or 0) for n, way in zip(each, ways, strict=True)) for each in possible)
        assert sum(share.rows * (share.way.all_nusd or 0) for share in found.shares) == exact


def test_live_ways_share_the_rows_that_are_asked_at_once() -> None:
    """Eight at once: a row of the slow one keeps the others waiting half a second, one of the quick one an eighth."""
    slow = Way(target="slow", kind="realtime", all_nusd=100, rows_per_s=2.0, shared_s=0.5)
    quick = Way(target="quick", kind="realtime", all_nusd=300, rows_per_s=8.0, shared_s=0.125)
    assert shares(plan(1000, 500.0, [quick, slow])) == {("slow", "realtime"): 1000}
    found = plan(1000, 350.0, [quick, slow])
    assert shares(found) == {("slow", "realtime"): 600, ("quick", "realtime"): 400}
    assert found.in_time and [share.ends_s for share in found.shares] == [350.0, 350.0], "they advance together"
    late = plan(1000, 60.0, [quick, slow])
    assert shares(late) == {("quick", "realtime"): 1000} and not late.in_time and late.ends_s == 125.0


def test_a_plan_that_just_fits_has_no_share_below_nothing() -> None:
    slow = Way(target="a", kind="realtime", all_nusd=12, rows_per_s=1.0, shared_s=1.25)
    free = Way(target="b", kind="realtime", all_nusd=0, rows_per_s=1.0, shared_s=1.5)
    found = plan(5, 6.0, [slow, free])
    assert shares(found) == {("a", "realtime"): 5} and not found.in_time and found.ends_s == 6.25


def test_what_needs_no_shared_time_is_not_held_up_by_it() -> None:
    live = Way(target="live", kind="realtime", all_nusd=300, rows_per_s=1.0, shared_s=1.0)
    job = Way(target="job", kind="provider_batch", all_nusd=50, start_s=900.0, max_rows=400)
    found = plan(1000, 900.0, [live, job])
    assert shares(found) == {("job", "provider_batch"): 400, ("live", "realtime"): 600} and found.in_time


_sharing = st.builds(
    Way,
    target=st.sampled_from("abc"),
    kind=st.just("realtime"),
    all_nusd=st.integers(0, 50).map(lambda n: n * 12),
    rows_per_s=st.integers(1, 4).map(float),
    shared_s=st.integers(0, 8).map(lambda n: n / 4),
)


@settings(max_examples=300, deadline=None)
@given(rows=st.integers(0, 8), by_s=st.integers(0, 8).map(float), ways=st.lists(_sharing, max_size=3, unique_by=lambda way: way.target))
def test_shared_time_is_not_spent_twice_and_as_cheap_as_two_ways_can_be(rows: int, by_s: float, ways: list[Way]) -> None:
    found = plan(rows, by_s, ways)
    fits = [each for each in every_allotment(rows, by_s, ways) if sum(n * way.shared_s for n, way in zip(each, ways, strict=True)) <= by_s]
    assert found.in_time == bool(fits)
    if found.in_time:
        assert sum(share.rows * share.way.shared_s for share in found.shares) <= by_s
        costs = [sum(n * (way.all_nusd or 0) for n, way in zip(each, ways, strict=True)) for each in fits]
        cost = sum(share.rows * (share.way.all_nusd or 0) for share in found.shares)
        assert cost == min(costs) if len(ways) <= 2 else cost <= max(costs)


@settings(max_examples=200, deadline=None)
@given(first=st.integers(1, 100_000), count=st.integers(1, 2000), rows=st.lists(st.integers(0, 1000), min_size=1, max_size=4).filter(any))
def test_any_run_of_rows_is_dealt_as_the_shares_are(first: int, count: int, rows: list[int]) -> None:
    found = [dealt(number, rows) for number in range(first, first + count)]
    for index, share in enumerate(rows):
        assert abs(found.count(index) - count * share / sum(rows)) <= 4.0
        assert share or index not in found
