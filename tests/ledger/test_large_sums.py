"""Costs whose sum is beyond 64 bits: nobody's report fails for them, and roll-ups go on."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from contract.usage import Usage
from ledger.adding import MOST_ADDED_NUSD
from ledger.prices import MOST_COST_NUSD, cost_nusd, override_price
from ledger.rollups import roll_up
from ledger.schema import stale_spans
from ledger.spent import charged, spent_nusd
from ledger.store import Ledger
from ledger.summed import summed
from ledger.window import Window
from tests.ledger.rows import STARTED_AT_US, emptied, row

AT_S = STARTED_AT_US // 10**6
LARGE = 6 * 10**18
WINDOW = Window((AT_S - 3600) * 10**6, (AT_S + 7200) * 10**6, {})


@pytest.fixture
def ledger(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(database, spool=tmp_path_factory.mktemp("spool"))
    emptied(ledger.engine)
    for at in range(4):
        ledger.append(row(f"req_{at}", cost_nusd=LARGE, saved_nusd=LARGE, team="red"))
        ledger.append(row("req_twice", at + 1, cost_nusd=LARGE, team="red", billed="team"))
    ledger.append(row("req_held", held_nusd=LARGE, team="red"))
    ledger.append(row("req_blue", cost_nusd=123_456_789_012, team="blue"))
    ledger.append(row("req_blue_2", cost_nusd=1, team="blue"))
    assert ledger.flush() and not ledger.dropped
    yield ledger
    ledger.close()


def of_teams(ledger: Ledger, now_s: float) -> dict[Any, Any]:
    return {sums.group: (sums.cost_nusd, sums.saved_nusd) for sums in summed(ledger.engine, WINDOW, ("team",), now_s)}


def test_a_sum_of_large_costs_is_told_as_much_and_others_exactly(ledger: Ledger) -> None:
    wanted = {("blue",): (123_456_789_013, None), ("red",): (MOST_ADDED_NUSD, MOST_ADDED_NUSD)}
    assert of_teams(ledger, AT_S) == wanted, "of rows"
    assert roll_up(ledger.engine, AT_S + 3 * 86_400)
    assert of_teams(ledger, AT_S + 3 * 86_400) == wanted, "of roll-ups"
    with ledger.engine.connect() as connection:
        assert connection.execute(select(stale_spans.c.id)).first() is None


def test_what_was_spent_beyond_any_sum_is_spent(ledger: Ledger) -> None:
    assert spent_nusd(ledger.engine, "team", "red", 0) == MOST_ADDED_NUSD
    assert spent_nusd(ledger.engine, "team", "blue", 0) == 123_456_789_013
    assert charged(ledger.engine, ["req_twice", "req_blue"]) == {"req_twice": MOST_ADDED_NUSD, "req_blue": 123_456_789_012}


def test_a_cost_beyond_belief_is_not_known() -> None:
    price = override_price(10_000, 10_000, request_usd=1, service_tiers={"priority": 1000})
    most = 99_999_900  # tokens, beside what the request costs
    assert cost_nusd(price, Usage(input_uncached=most)) == MOST_COST_NUSD
    assert cost_nusd(price, Usage(input_uncached=most + 100)) is None
    assert cost_nusd(price, Usage(input_uncached=most, service_tier="priority")) is None
