"""Rows that are written together with something else: both or neither, again while the database fails, never twice."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import OperationalError

from ledger.note import note_of
from ledger.queries import all_attempts
from ledger.row import AttemptRow
from ledger.schema import tenancy_changes
from ledger.store import Ledger
from tests.ledger.rows import emptied, row


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(database, spool=tmp_path / "spool")
    emptied(ledger.engine)
    with ledger.engine.begin() as connection:
        connection.execute(tenancy_changes.delete())
        connection.execute(insert(tenancy_changes), {"id": 7, "changes": 0})
    yield ledger
    ledger.close()


class Counted:
    """Counts in a table what it was called for. `fails`: how often its database fails first; `wrong`: a fault of its own."""

    def __init__(self, rows: Sequence[AttemptRow], fails: int = 0, wrong: bool = False) -> None:
        self.rows = rows
        self.fails = fails
        self.wrong = wrong
        self.calls = 0
        self.over = threading.Event()
        self.error: Exception | None = None

    def write(self, connection: Connection) -> Sequence[AttemptRow]:
        self.calls += 1
        connection.execute(update(tenancy_changes).values(changes=tenancy_changes.c.changes + 1))
        if self.wrong:
            raise RuntimeError("a fault of ours")
        if self.calls <= self.fails:
            raise OperationalError("UPDATE", {}, Exception("gone for a moment"))
        return self.rows

    def ended(self, error: Exception | None) -> None:
        self.error = error
        self.over.set()


def count(ledger: Ledger) -> int:
    with ledger.engine.connect() as connection:
        return int(connection.execute(select(tenancy_changes.c.changes)).scalar_one())


def test_both_are_there_once_the_end_is_told(ledger: Ledger) -> None:
    joined = Counted([row("req_1"), row("req_2")])
    ledger.append(row("req_0"))
    ledger.join(joined)
    assert joined.over.wait(30) and joined.error is None
    assert count(ledger) == 1 and len(all_attempts(ledger.engine)) == 3


def test_what_failed_is_written_again_and_counts_once(ledger: Ledger) -> None:
    joined = Counted([row("req_1")], fails=2)
    ledger.join(joined)
    ledger.append(row("req_0"))
    assert ledger.flush(30) and joined.over.wait(30)
    assert (joined.calls, count(ledger), len(all_attempts(ledger.engine)), ledger.dropped) == (3, 1, 2, 0)


def test_a_fault_of_whoever_joined_is_told_and_holds_up_nobody(ledger: Ledger) -> None:
    wrong, right = Counted([row("req_1")], wrong=True), Counted([row("req_2")])
    ledger.join(wrong)
    ledger.join(right)
    assert wrong.over.wait(30) and isinstance(wrong.error, RuntimeError) and right.over.wait(30) and right.error is None
    assert count(ledger) == 1 and [each.request_id for each in all_attempts(ledger.engine)] == ["req_2"]


def test_an_attempt_that_was_begun_is_over_with_its_joined_row(ledger: Ledger) -> None:
    ledger.begin(note_of(row("req_1")))
    assert ledger.begun == 1
    joined = Counted([row("req_1")])
    ledger.join(joined)
    assert joined.over.wait(30) and ledger.begun == 0


def test_rows_that_are_there_already_stay_as_they_are(ledger: Ledger) -> None:
    for cost in (5, 6):
        joined = Counted([row("req_1", cost_nusd=cost)])
        ledger.join(joined)
        assert joined.over.wait(30) and joined.error is None
    assert [each.cost_nusd for each in all_attempts(ledger.engine)] == [5] and ledger.dropped == 0


def test_what_waits_at_the_end_is_told_that_it_was_not_written(database: str, tmp_path: Path) -> None:
    ledger = Ledger(database, spool=tmp_path / "spool")
    joined = Counted([row("req_1")], fails=1000)
    ledger.join(joined)
    ledger.close()
    assert joined.over.is_set() and joined.error is not None and joined.calls >= 1
