"""What holds of limits and budgets holds of one process alone and of many that share a Redis: the same tests for both."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.errors import LedgerUnavailable
from gateway.metering.meter import MemoryMeter, MeterPort
from policy.quota import Budget, Granted, Limits, Refused, Scope, Used, Want
from tests.gateway.metering import WANT, Books, Host, admitted, levels, team


class Open:
    def __init__(self, meter: MeterPort, books: Books) -> None:
        self.meter, self.books = meter, books


@pytest.fixture(params=["memory", "redis"])
async def each(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    if request.param == "redis":
        host = Host()
        yield Open(await host.process(lease_s=30.0), host.books)
        await host.close()
        return
    with tempfile.TemporaryDirectory(prefix="turnout-meter-") as folder:
        books = Books(Path(folder))
        meter = MemoryMeter(books.spent)
        await meter.start()
        yield Open(meter, books)
        await meter.stop()
        books.ledger.close()


async def refused(meter: MeterPort, id: str, *scopes: Scope, want: Want = WANT) -> Refused:
    answer = await meter.reserve(id, scopes, want)
    assert isinstance(answer, Refused), answer
    return answer


async def test_of_500_at_once_as_many_are_admitted_as_their_worst_cases_fit(each: Open) -> None:
    scopes = levels(37 * WANT.cost_nusd)
    answers = await asyncio.gather(*(each.meter.reserve(str(number), scopes, WANT) for number in range(500)))
    assert sum(isinstance(answer, Granted) for answer in answers) == 37
    assert not any(answer.degraded for answer in answers if isinstance(answer, Granted))


async def test_what_is_settled_is_spent_and_leaves_room(each: Open) -> None:
    scopes = levels(1_000)
    first = admitted(await each.meter.reserve("a", scopes, WANT))
    assert (await refused(each.meter, "b", *scopes)).dimension == "budget"
    each.meter.settle(first, Used(10, 400))
    admitted(await each.meter.reserve("b", scopes, Want(0, 600)))
    for scope in scopes:
        (budget,) = (await each.meter.standing(scope)).budgets
        assert (budget.spent_nusd, budget.reserved_nusd) == (400, 600)


async def test_settling_twice_counts_once(each: Open) -> None:
    scope = team(Budget(5_000, "day"), rpm=10)
    granted = admitted(await each.meter.reserve("a", (scope,), WANT))
    for _ in range(3):
        each.meter.settle(granted, Used(10, 7))
    await each.meter.reserve("b", (scope,), Want(0, 0))
    stands = await each.meter.standing(scope)
    assert (stands.budgets[0].spent_nusd, stands.budgets[0].reserved_nusd, stands.running) == (7, 0, 1)


async def test_a_request_that_one_scope_refuses_is_reserved_at_none(each: Open) -> None:
    wide, narrow = team(Budget(5_000, "day"), rpm=10, tpm=1_000), Scope("key", "k", Limits(concurrency=1))
    admitted(await each.meter.reserve("a", (wide, narrow), WANT))
    assert (await refused(each.meter, "b", wide, narrow)).scope == narrow
    stands = await each.meter.standing(wide)
    assert stands.requests and stands.tokens
    assert (stands.requests.remaining, stands.tokens.remaining // 10, stands.running, stands.budgets[0].reserved_nusd) == (9, 90, 1, 1_000)


async def test_a_minutes_worth_is_admitted_at_once_and_the_refusal_tells_when_there_is_more(each: Open) -> None:
    scope = team(rpm=120)
    answers = await asyncio.gather(*(each.meter.reserve(str(number), (scope,), WANT) for number in range(121)))
    late = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(late) == 1 and late[0].retry_after_s is not None and 0 < late[0].retry_after_s <= 0.5
    await asyncio.sleep(late[0].retry_after_s + 0.002)  # timers are of a millisecond
    admitted(await each.meter.reserve("again", (scope,), WANT))


async def test_what_was_not_used_comes_back_and_the_turn_of_what_failed_too(each: Open) -> None:
    scope = team(rpm=1, tpm=100)
    failed = admitted(await each.meter.reserve("a", (scope,), WANT))
    each.meter.settle(failed, Used(0, 0, answered=False))
    small = admitted(await each.meter.reserve("b", (scope,), WANT))
    each.meter.settle(small, Used(40, 0))
    assert (await refused(each.meter, "c", scope, want=Want(60, 0))).dimension == "requests"
    other = Scope("team", "red", Limits(tpm=100))
    admitted(await each.meter.reserve("c", (other,), Want(60, 0)))


async def test_what_never_fits_has_no_time_to_retry(each: Open) -> None:
    answer = await refused(each.meter, "a", team(tpm=99))
    assert (answer.dimension, answer.retry_after_s) == ("tokens", None)


async def test_a_grant_tells_what_is_left_of_the_tightest_scope(each: Open) -> None:
    granted = admitted(await each.meter.reserve("a", (team(rpm=10, tpm=5_000), Scope("key", "k", Limits(rpm=5, tpm=9_000))), WANT))
    assert granted.requests and granted.tokens
    assert (granted.requests.limit, granted.requests.remaining, granted.tokens.limit, granted.tokens.remaining) == (5, 4, 5_000, 4_900)
    assert granted.requests.reset_s == pytest.approx(12.0)


async def test_slots_are_free_again_when_their_requests_end(each: Open) -> None:
    scope = team(concurrency=2)
    first = admitted(await each.meter.reserve("a", (scope,), WANT))
    admitted(await each.meter.reserve("b", (scope,), WANT))
    assert (await refused(each.meter, "c", scope)).dimension == "concurrency"
    each.meter.settle(first, Used(0, 0))
    admitted(await each.meter.reserve("c", (scope,), WANT))


async def test_a_window_begins_with_what_the_ledger_knows(each: Open) -> None:
    each.books.charge("before", 700)
    scopes = levels(1_000)
    assert (await refused(each.meter, "a", *scopes)).dimension == "budget"
    admitted(await each.meter.reserve("a", scopes, Want(0, 300)))


async def test_what_costs_nothing_needs_no_budget(each: Open) -> None:
    each.books.charge("before", 5_000)
    admitted(await each.meter.reserve("a", levels(1_000), Want(10, 0)))


async def test_budgets_of_several_windows_are_each_kept(each: Open) -> None:
    scope = team(Budget(5_000, "day"), Budget(4_000, "week"), Budget(3_000, "month"), Budget(2_000, "total"))
    for id in ("a", "b"):
        each.meter.settle(admitted(await each.meter.reserve(id, (scope,), WANT)), Used(0, 1_000))
    answer = await refused(each.meter, "c", scope)
    assert (answer.budget, answer.retry_after_s) == (scope.budgets[3], pytest.approx(None))
    assert [budget.spent_nusd for budget in (await each.meter.standing(scope)).budgets] == [2_000] * 4


async def test_nobody_is_admitted_while_the_ledger_cannot_tell_what_was_spent(each: Open) -> None:
    each.books.ledger.engine.dispose()
    with each.books.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE attempts")
    with pytest.raises(LedgerUnavailable):
        await each.meter.reserve("a", levels(1_000), WANT)
