"""Limits and budgets are exact: nothing is reserved twice, nothing is lost, and what is refused is refused for the reason that counts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from policy.meter import BUSY_RETRY_S, Meter, Unseeded
from policy.quota import Budget, Granted, Limits, Refused, Scope, Standing, Used, Want

WALL = 1_790_000_000.0
DAY = 86_400
WANT = Want(tokens=100, cost_nusd=1_000)


def team(*budgets: Budget, **limits: int) -> Scope:
    return Scope("team", "red", Limits(**limits), budgets)


def reserve(meter: Meter, id: str, *scopes: Scope, want: Want = WANT, now: float = 0.0, wall: float = WALL) -> Granted | Refused:
    while isinstance(answer := meter.reserve(id, scopes, want, now, wall), Unseeded):
        meter.seed(answer, 0)
    return answer


def granted(meter: Meter, id: str, *scopes: Scope, want: Want = WANT, now: float = 0.0, wall: float = WALL) -> Granted:
    answer = reserve(meter, id, *scopes, want=want, now=now, wall=wall)
    assert isinstance(answer, Granted)
    return answer


def refused(meter: Meter, id: str, *scopes: Scope, want: Want = WANT, now: float = 0.0, wall: float = WALL) -> Refused:
    answer = reserve(meter, id, *scopes, want=want, now=now, wall=wall)
    assert isinstance(answer, Refused)
    return answer


def standing(meter: Meter, scope: Scope, now: float = 0.0, wall: float = WALL) -> Standing:
    while isinstance(answer := meter.standing(scope, now, wall), Unseeded):
        meter.seed(answer, 0)
    return answer


def test_a_request_that_one_scope_refuses_is_reserved_at_none() -> None:
    meter, wide, narrow = Meter(), team(rpm=10, tpm=1_000, concurrency=9), Scope("key", "k", Limits(rpm=1))
    granted(meter, "a", wide, narrow)
    assert refused(meter, "b", wide, narrow).scope == narrow
    stands = standing(meter, wide)
    assert (stands.running, stands.requests and stands.requests.remaining, stands.tokens and stands.tokens.remaining) == (1, 9, 900)


def test_the_tightest_scope_is_what_a_grant_tells_of() -> None:
    answer = granted(Meter(), "a", team(rpm=10, tpm=5_000), Scope("key", "k", Limits(rpm=5, tpm=9_000)))
    assert answer.requests and answer.tokens
    assert (answer.requests.limit, answer.requests.remaining, answer.tokens.limit, answer.tokens.remaining) == (5, 4, 5_000, 4_900)


def test_a_refusal_tells_the_longest_wait() -> None:
    meter, scope = Meter(), team(rpm=60, tpm=120)
    granted(meter, "a", scope, want=Want(120, 0))
    answer = refused(meter, "b", scope, want=Want(60, 0))
    assert (answer.dimension, answer.retry_after_s) == ("tokens", 30.0)
    granted(meter, "b", scope, want=Want(60, 0), now=30.0)


def test_what_never_fits_has_no_time_to_retry() -> None:
    answer = refused(Meter(), "a", team(tpm=99))
    assert (answer.dimension, answer.retry_after_s) == ("tokens", None)


def test_as_many_run_at_once_as_may_and_another_one_when_one_has_ended() -> None:
    meter, scope = Meter(), team(concurrency=2)
    first = granted(meter, "a", scope)
    granted(meter, "b", scope)
    answer = refused(meter, "c", scope)
    assert (answer.dimension, answer.retry_after_s) == ("concurrency", BUSY_RETRY_S)
    meter.settle(first, Used(0, 0), 0.0)
    granted(meter, "c", scope)


def test_what_was_not_used_comes_back_and_the_turn_of_what_failed_too() -> None:
    meter, scope = Meter(), team(rpm=10, tpm=1_000)
    meter.settle(granted(meter, "a", scope), Used(30, 0), 0.0)
    meter.settle(granted(meter, "b", scope), Used(0, 0, answered=False), 0.0)
    stands = standing(meter, scope)
    assert stands.requests and stands.tokens and (stands.requests.remaining, stands.tokens.remaining) == (9, 970)


def test_what_was_used_beyond_the_estimate_counts() -> None:
    meter, scope = Meter(), team(Budget(5_000, "day"), tpm=1_000)
    meter.settle(granted(meter, "a", scope), Used(300, 1_500), 0.0)
    stands = standing(meter, scope)
    assert stands.tokens and (stands.tokens.remaining, stands.budgets[0].spent_nusd, stands.budgets[0].reserved_nusd) == (700, 1_500, 0)


def test_settling_twice_counts_once() -> None:
    meter, scope = Meter(), team(Budget(5_000, "day"), rpm=10)
    one = granted(meter, "a", scope)
    assert meter.settle(one, Used(10, 7), 0.0) and not meter.settle(one, Used(10, 7), 0.0)
    stands = standing(meter, scope)
    assert (stands.running, stands.budgets[0].spent_nusd, stands.budgets[0].reserved_nusd) == (0, 7, 0)


def test_an_id_that_is_reserved_already_is_granted_again_and_counts_once() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"), concurrency=1)
    granted(meter, "a", scope)
    granted(meter, "a", scope)
    assert standing(meter, scope).running == 1


def test_a_budget_takes_the_worst_case_to_the_last_nano_dollar() -> None:
    meter, scope = Meter(), team(Budget(2_000, "day"))
    granted(meter, "a", scope)
    granted(meter, "b", scope)
    answer = refused(meter, "c", scope, want=Want(0, 1))
    assert (answer.dimension, answer.budget) == ("budget", scope.budgets[0])


def test_what_costs_nothing_needs_no_budget() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"))
    granted(meter, "a", scope)
    granted(meter, "b", scope, want=Want(100, 0))


def test_a_budget_that_rejects_counts_more_than_one_that_leaves_the_engines() -> None:
    local, reject = Budget(10, "day", "local"), Budget(20, "month", "reject")
    assert refused(Meter(), "a", team(local, reject)).budget == reject


def test_a_spent_budget_counts_more_than_a_limit_that_passes() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"), rpm=1)
    granted(meter, "a", scope)
    assert refused(meter, "b", scope).dimension == "budget"


def test_a_budget_is_whole_again_when_its_window_ends_as_the_refusal_tells() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"))
    granted(meter, "a", scope)
    wait = refused(meter, "b", scope).retry_after_s
    assert wait is not None and wait == DAY - WALL % DAY
    granted(meter, "b", scope, wall=WALL + wait)


def test_what_was_reserved_in_a_window_is_spent_in_it() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"))
    old = granted(meter, "a", scope)
    granted(meter, "b", scope, wall=WALL + DAY)
    meter.settle(old, Used(0, 900), 0.0)
    assert standing(meter, scope, wall=WALL + DAY).budgets[0].spent_nusd == 0


def test_a_wall_clock_that_goes_back_over_a_windows_beginning_keeps_what_is_known() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"))
    granted(meter, "a", scope)
    assert refused(meter, "b", scope, wall=WALL - DAY).dimension == "budget"


def test_a_window_begins_with_what_the_ledger_knows() -> None:
    meter, scope = Meter(), team(Budget(1_000, "day"))
    missing = meter.reserve("a", (scope,), WANT, 0.0, WALL)
    assert isinstance(missing, Unseeded)
    meter.seed(missing, 1)
    assert refused(meter, "a", scope).dimension == "budget"


SCOPES = (
    Scope("organisation", "acme", Limits(rpm=60, tpm=6_000), (Budget(60_000, "month"),)),
    Scope("team", "red", Limits(rpm=30, concurrency=4), (Budget(20_000, "day"), Budget(40_000, "week"))),
    Scope("key", "k", Limits(tpm=3_000, concurrency=3)),
)


class Exact(RuleBasedStateMachine):
    """Whatever is reserved, settled, settled again and whenever: counters are what a plain sum of the requests says."""

    grants: Bundle[Granted] = Bundle("grants")

    @initialize()
    def begin(self) -> None:
        self.meter, self.now, self.wall, self.number = Meter(), 0.0, WALL, 0
        self.running: dict[str, tuple[Granted, float]] = {}
        self.spent: list[tuple[float, int]] = []

    @rule(target=grants, depth=st.integers(1, 3), tokens=st.integers(0, 4_000), cost=st.integers(0, 9_000))
    def asks(self, depth: int, tokens: int, cost: int) -> Granted:
        self.number += 1
        want = Want(tokens, cost)
        answer = reserve(self.meter, str(self.number), *SCOPES[:depth], want=want, now=self.now, wall=self.wall)
        if isinstance(answer, Granted):
            self.running[answer.id] = (answer, self.wall)
            return answer
        return Granted("refused", SCOPES[:depth], want)

    @rule(grant=grants, tokens=st.integers(0, 5_000), cost=st.integers(0, 9_000), answered=st.booleans())
    def ends(self, grant: Granted, tokens: int, cost: int, answered: bool) -> None:
        found = self.running.pop(grant.id, None)
        assert self.meter.settle(grant, Used(tokens, cost, answered), self.now) == (found is not None)
        if found is not None:
            self.spent += [(found[1], cost)] * (grant.scopes[0] == SCOPES[0])

    @rule(seconds=st.floats(0, 200_000))
    def waits(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    @invariant()
    def exact(self) -> None:
        for depth, scope in enumerate(SCOPES, 1):
            stands = standing(self.meter, scope, self.now, self.wall)
            here = [(grant, at) for grant, at in self.running.values() if len(grant.scopes) >= depth]
            assert stands.running == len(here)
            for limited in (stands.requests, stands.tokens):
                assert limited is None or 0 <= limited.remaining <= limited.limit
            for spending in stands.budgets:
                assert spending.reserved_nusd == sum(grant.want.cost_nusd for grant, at in here if at >= spending.start_s)
        month = standing(self.meter, SCOPES[0], self.now, self.wall).budgets[0]
        assert month.spent_nusd == sum(cost for at, cost in self.spent if at >= month.start_s)
        assert self.meter.running == len(self.running)


TestExact = Exact.TestCase
TestExact.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
