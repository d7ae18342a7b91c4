"""What budgets count is what the ledger has: each row at its cost, or at what was reserved for it where its cost is not known."""

from pathlib import Path

import pytest

from contract.usage import Usage
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.spent import charged, spent_nusd
from ledger.store import Ledger
from ledger.upkeep import purge
from tests.ledger.rows import row, url_of

NOW_S = 1_790_000_000
OLD_US = (NOW_S - 10 * 86_400) * 10**6
USED = Usage(input_uncached=10, service_tier="priority")
ROWS = (
    row("req_known", started_at_us=OLD_US, usage=USED, cost_nusd=70),
    row("req_held", started_at_us=OLD_US, usage=USED, held_nusd=500),
    row("req_unlimited", started_at_us=OLD_US, usage=USED),
    row("req_ours", started_at_us=OLD_US, usage=USED, billed="gateway", held_nusd=9_000),
    row("req_priced_since", started_at_us=OLD_US, usage=USED, cost_nusd=5, held_nusd=800),
)


def filled(folder: Path, rows: tuple[AttemptRow, ...] = ROWS) -> Ledger:
    ledger = Ledger(url_of(folder / "turnout.db"))
    for each in rows:
        ledger.append(each)
    assert ledger.flush() and not ledger.dropped
    return ledger


@pytest.mark.parametrize("rolled", [False, True], ids=["of rows", "of roll-ups"])
def test_a_row_without_a_known_cost_counts_with_what_was_reserved_also_once_it_is_deleted(tmp_path: Path, rolled: bool) -> None:
    ledger = filled(tmp_path)
    if rolled:
        assert roll_up(ledger.engine, NOW_S) and purge(ledger.engine, 1, NOW_S) == len(ROWS)
    assert spent_nusd(ledger.engine, "team", "red", 0) == 70 + 500 + 5
    ledger.close()


def test_a_reservation_whose_process_died_is_settled_at_the_same(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    assert charged(ledger.engine, [each.request_id for each in ROWS]) == {"req_known": 70, "req_held": 500, "req_unlimited": 0, "req_priced_since": 5}
    ledger.close()
