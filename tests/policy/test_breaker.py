"""When a target is left alone, when it is tried again, and how many retries it may get: told the time, so that a minute passes at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors
from contract.errors import AttemptError, AttemptTimeout
from policy.breaker import FIRST_OPEN_S, FLOOR_PER_S, MAX_COOL_S, MAX_OPEN_S, SPREAD, Breaker, RetryBudget, counts_as_failure
from tests.policy.test_retry import CLASSES, make

NO_JITTER = 0.0


def end(breaker: Breaker, now: float, *, well: bool, jitter: float = NO_JITTER) -> None:
    """One attempt that begins and ends now."""
    held = breaker.begin(now)
    if well:
        breaker.succeeded(now, held)
    else:
        breaker.failed(now, held, jitter)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(3):
        end(breaker, now, well=False)
    assert breaker.state(now) == "open"
    return breaker


def test_a_target_that_is_another_one_begins_anew_whatever_was_seen_of_it_before() -> None:
    breaker = opened(100.0)
    before = breaker.begin(103.0)
    breaker.renew()
    assert breaker.state(100.0) == "closed"
    breaker.failed(103.0, before, 0.0)
    assert breaker.state(103.0) == "closed", "that attempt was the old one's"
    end(breaker, 103.0, well=False)
    assert breaker.state(103.0) == "closed", "and one failure opens no new one"


# --- which errors count -------------------------------------------------------------------------------------------------
COUNT = {
    errors.ConnectFailed,
    errors.AttemptTimeout,
    errors.ConnectionLost,
    errors.StreamCut,
    errors.MalformedResponse,
    errors.AnswerTooLarge,
    errors.UpstreamError,
    errors.UpstreamOverloaded,
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_only_what_says_that_a_target_is_unwell_counts(cls: type[AttemptError]) -> None:
    assert counts_as_failure(make(cls)) is (cls in COUNT)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 425, 429, 499])
def test_no_4xx_counts(cls: type[AttemptError], status: int) -> None:
    error = make(cls)
    error.upstream_status = status
    assert not counts_as_failure(error) or cls is AttemptTimeout


@pytest.mark.parametrize(("clock", "counts"), [("connect", True), ("headers", True), ("first_token", True), ("idle", True), ("total", False)])
def test_every_clock_but_that_of_the_whole_request_counts(clock: errors.Clock, counts: bool) -> None:
    assert counts_as_failure(AttemptTimeout(clock, 1.0)) is counts


# --- when it opens ------------------------------------------------------------------------------------------------------
# `.` a whole answer, `x` a failure, at one a `gap_s`; the breaker is open after the last one, and not before it
OPENS = [
    ("xxx", 1.0),
    ("xxx", 14.0),
    (".xxx", 4.0),
    ("..........xxx", 0.1),
    ("x.x.x.x.x", 1.0),
    ("xx.xx.x", 3.0),
    ("xx..xx.x", 0.01),
    ("." * 100 + "xxxxx", 0.1),
]
STAYS = [
    ("xx", 1.0),
    ("xxxx", 16.0),
    ("xx.xx", 1.0),
    (".x" * 4, 1.0),
    (".x" * 50, 10.0),
    (("." * 3 + "x") * 50, 0.1),
    ("." * 100 + "xxxx", 0.1),
    ("...xx" * 30, 0.5),
]


def play(script: str, gap_s: float) -> list[str]:
    breaker, states = Breaker(), []
    for number, each in enumerate(script):
        now = 1000.0 + number * gap_s
        end(breaker, now, well=each == ".")
        states.append(breaker.state(now))
    return states


@pytest.mark.parametrize(("script", "gap_s"), OPENS)
def test_failures_in_a_row_or_half_of_the_last_30_s_open_it(script: str, gap_s: float) -> None:
    states = play(script, gap_s)
    assert states[-1] == "open" and set(states[:-1]) <= {"closed"}


@pytest.mark.parametrize(("script", "gap_s"), STAYS)
def test_fewer_failures_or_slower_ones_leave_it_closed(script: str, gap_s: float) -> None:
    assert set(play(script, gap_s)) == {"closed"}


@pytest.mark.parametrize(("later_s", "state"), [(10.0, "open"), (26.0, "open"), (34.0, "closed"), (1000.0, "closed")])
def test_failures_of_more_than_30_s_ago_are_forgotten(later_s: float, state: str) -> None:
    breaker = Breaker()
    for now in (0.0, 1.0, 2.0, later_s, later_s + 0.1):
        end(breaker, now, well=True)
        end(breaker, now, well=False)
    assert breaker.state(later_s + 0.1) == state


# --- how long, and how it closes ----------------------------------------------------------------------------------------
def test_it_stays_open_2_4_8_and_then_15_s() -> None:
    breaker, now, lengths = opened(), 0.0, []
    for _ in range(6):
        at = breaker.retry_at(now)
        lengths.append(at - now)
        assert not breaker.available(at - 0.001) and breaker.available(at)
        end(breaker, at, well=False)
        now = at
    assert lengths == [2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


@given(st.floats(0, 1, exclude_max=True))
def test_the_jitter_only_shortens(jitter: float) -> None:
    breaker = Breaker()
    for _ in range(3):
        end(breaker, 0.0, well=False, jitter=jitter)
    assert FIRST_OPEN_S * (1 - SPREAD) <= breaker.retry_at(0.0) <= FIRST_OPEN_S


def test_a_probe_is_alone() -> None:
    breaker = opened()
    assert breaker.state(2.0) == "half_open" and breaker.available(2.0)
    breaker.begin(2.0)
    assert not breaker.available(2.0) and breaker.retry_at(2.0) > 2.0


def test_a_probe_that_succeeds_closes_it_and_the_next_opening_is_short_again() -> None:
    breaker = opened()
    end(breaker, 2.0, well=False)  # now 4 s
    end(breaker, 6.0, well=True)
    assert breaker.state(6.0) == "closed"
    end(breaker, 7.0, well=False)
    end(breaker, 7.0, well=False)
    assert breaker.state(7.0) == "closed"
    end(breaker, 7.0, well=False)
    assert breaker.retry_at(7.0) == 9.0


def test_a_probe_that_gives_up_leaves_its_place_to_another() -> None:
    breaker = opened()
    breaker.gave_up(breaker.begin(2.0))
    assert breaker.available(2.0)


def test_the_probe_s_first_output_lets_the_others_in_before_it_ends() -> None:
    breaker = opened()
    breaker.answered(breaker.begin(2.0))
    assert breaker.state(2.0) == "closed" and breaker.available(2.0)


def test_one_failure_after_the_probe_s_first_output_opens_it_for_longer() -> None:
    breaker = opened()
    held = breaker.begin(2.0)
    breaker.answered(held)
    breaker.failed(5.0, held, NO_JITTER)
    assert breaker.retry_at(5.0) == 9.0


def test_a_whole_answer_after_the_probe_s_first_output_ends_the_trial() -> None:
    breaker = opened()
    breaker.answered(breaker.begin(2.0))
    end(breaker, 3.0, well=True)
    end(breaker, 4.0, well=False)
    assert breaker.state(4.0) == "closed"


@pytest.mark.parametrize("how", ["succeeded", "failed", "gave_up", "answered"])
def test_an_attempt_from_before_the_outage_says_nothing_of_what_came_after(how: str) -> None:
    breaker = Breaker()
    old = [breaker.begin(0.0) for _ in range(9)]
    for _ in range(3):
        end(breaker, 1.0, well=False)
    probe = breaker.begin(3.0)

    def old_ends(now: float) -> None:
        match how:
            case "succeeded":
                breaker.succeeded(now, old.pop())
            case "failed":
                breaker.failed(now, old.pop(), NO_JITTER)
            case "gave_up":
                breaker.gave_up(old.pop())
            case "answered":
                breaker.answered(old.pop())

    old_ends(2.0)
    old_ends(3.1)
    assert breaker.state(3.1) == "half_open" and not breaker.available(3.1)
    breaker.succeeded(4.0, probe)
    for _ in range(7):
        old_ends(5.0)
    assert breaker.state(5.0) == "closed"


@pytest.mark.parametrize("well", [True, False])
def test_an_attempt_that_began_although_none_should_says_nothing(well: bool) -> None:
    breaker = opened()
    end(breaker, 1.0, well=well)
    assert breaker.state(1.0) == "open" and breaker.retry_at(1.0) == 2.0
    probe = breaker.begin(2.0)
    end(breaker, 2.0, well=well)
    assert not breaker.available(2.0)
    breaker.succeeded(2.1, probe)
    assert breaker.available(2.1)


# --- cooling ------------------------------------------------------------------------------------------------------------
def test_a_target_that_asked_for_time_gets_it_and_is_not_thought_ill() -> None:
    breaker = Breaker()
    breaker.cool(10.0, 7.0)
    assert (breaker.available(16.9), breaker.state(16.9), breaker.retry_at(11.0)) == (False, "cooling", 17.0)
    assert (breaker.available(17.0), breaker.state(17.0)) == (True, "closed")


def test_a_shorter_wish_does_not_shorten_a_longer_one() -> None:
    breaker = Breaker()
    breaker.cool(0.0, 60.0)
    breaker.cool(1.0, 2.0)
    assert breaker.retry_at(2.0) == 60.0


def test_no_target_is_left_alone_for_more_than_300_s() -> None:
    breaker = Breaker()
    breaker.cool(0.0, 86_400.0)
    assert breaker.retry_at(0.0) == MAX_COOL_S == 300.0


def test_open_and_cooling_ends_with_the_later_of_the_two() -> None:
    breaker = opened()
    breaker.cool(0.0, 60.0)
    assert breaker.retry_at(1.0) == 60.0 and not breaker.available(30.0) and breaker.state(60.0) == "half_open"


# --- an outage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("phase_s", [0.0, 1.0, 2.0, 3.9])
@pytest.mark.parametrize("takes_s", [0.0, 3.0], ids=["refused at once", "refused after 3 s"])
def test_in_an_outage_of_60_s_with_a_request_every_4_s_all_are_served_and_the_primary_is_back_within_30_s(
    jitter: float, phase_s: float, takes_s: float
) -> None:
    primary, at_primary, at_fallback = Breaker(), [], []
    down_at, up_at = 20.0 + phase_s, 80.0 + phase_s
    for now in [4.0 * number for number in range(50)]:
        if not primary.available(now):
            at_fallback.append(now)
            continue
        held = primary.begin(now)
        if down_at <= now < up_at:
            primary.failed(now + takes_s, held, jitter)
            at_fallback.append(now)  # before its first output: the fallback answers
        else:
            primary.succeeded(now + takes_s, held)
            at_primary.append(now)
    assert sorted(at_primary + at_fallback) == [4.0 * number for number in range(50)]
    again = min(now for now in at_primary if now >= up_at)
    assert again - up_at <= 30.0
    assert [now for now in at_primary if now > again] == [4.0 * n for n in range(50) if 4.0 * n > again], "and it stays"


def test_at_a_hundred_requests_a_second_an_outage_costs_few_of_them_a_failed_attempt() -> None:
    breaker, failed = Breaker(), 0
    for number in range(12_000):
        now = number / 100
        if breaker.available(now):
            down = 30.0 <= now < 90.0
            failed += down
            end(breaker, now, well=not down)
    assert failed <= 12
    assert breaker.state(120.0) == "closed"


def test_a_target_that_fails_now_and_then_under_much_traffic_stays_in_use() -> None:
    """One in ten fails, at random: three in a row are then no sign of an outage."""
    breaker, state = Breaker(), 1
    used = 0
    for number in range(20_000):
        state = state * 48271 % 2147483647
        if breaker.available(number / 50):
            used += 1
            end(breaker, number / 50, well=state % 10 != 0)
    assert used >= 0.98 * 20_000


# --- whatever happens ---------------------------------------------------------------------------------------------------
OPS = st.lists(
    st.tuples(
        st.sampled_from(["wait", "begin", "begin", "answered", "succeeded", "failed", "failed", "gave_up", "cool"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.5, 2.0, 4.0, 15.0]),
    ),
    max_size=40,
)


@settings(max_examples=600, deadline=None)
@given(OPS)
def test_in_any_order_of_events_there_is_one_probe_at_most_and_its_place_is_never_lost(ops: list[tuple[str, int, float]]) -> None:
    """Attempts begin only when they may, as the pipeline sees to. Some were under way when it opened."""
    breaker, now = Breaker(), 1000.0
    running = [breaker.begin(now) for _ in range(3)]
    probes: list[int] = []  # the passes of probes that have shown nothing yet
    for _ in range(3):
        end(breaker, now, well=False)
    for what, which, seconds in ops:
        if what == "wait":
            now += seconds
        elif what == "cool":
            breaker.cool(now, seconds)
        elif what == "begin" and breaker.available(now):
            if breaker.state(now) == "half_open":
                assert not probes, "two probes at once"
                probes.append(breaker.begin(now))
                running.append(probes[0])
            else:
                running.append(breaker.begin(now))
        elif what in ("answered", "succeeded", "failed", "gave_up") and running:
            held = running.pop(which % len(running))
            if held in probes:
                probes.remove(held)
            match what:
                case "answered":
                    breaker.answered(held)
                    running.append(held)
                case "succeeded":
                    breaker.succeeded(now, held)
                case "failed":
                    breaker.failed(now, held, 0.5)
                case "gave_up":
                    breaker.gave_up(held)
        at = breaker.retry_at(now)
        assert (at == now) is breaker.available(now)
        assert now <= at <= now + MAX_OPEN_S
        assert probes or breaker.available(at), "a probe's place leaked"


# --- the retry budget ---------------------------------------------------------------------------------------------------
def test_a_quiet_target_gets_its_floor_of_retries_and_no_more() -> None:
    budget = RetryBudget()
    spent = 0
    for _ in range(10):
        if budget.allows(50.0):
            budget.spend(50.0)
            spent += 1
    assert spent == FLOOR_PER_S
    assert not budget.allows(50.2) and budget.allows(50.4)


def test_a_busy_target_gets_its_share_beside_the_floor() -> None:
    budget, retries = RetryBudget(), 0
    for number in range(10_000):
        now = number / 1000
        budget.request(now, 0.2)
        if budget.allows(now):
            budget.spend(now)
            retries += 1
    assert 0.14 * 10_000 <= retries <= 0.2 * 10_000 + FLOOR_PER_S * 11


def test_requests_of_long_ago_earn_nothing() -> None:
    budget = RetryBudget()
    for _ in range(1000):
        budget.request(0.0, 0.2)
    spent = 0
    while budget.allows(300.0):
        budget.spend(300.0)
        spent += 1
    assert spent == FLOOR_PER_S


STEPS = st.lists(st.tuples(st.sampled_from(["request", "retry"]), st.sampled_from([0.0, 0.001, 0.05, 0.5, 5.0])), max_size=200)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([0.0, 0.2, 1.0]))
def test_retries_never_exceed_the_share_of_the_requests_and_the_floor(steps: list[tuple[str, float]], share: float) -> None:
    budget, began, now, requests, retries = RetryBudget(), 7.0, 7.0, 0, 0
    for what, gap_s in steps:
        now += gap_s
        if what == "request":
            budget.request(now, share)
            requests += 1
        elif budget.allows(now):
            budget.spend(now)
            retries += 1
        assert retries <= share * requests + FLOOR_PER_S * (now - began + 1) + 1e-6
