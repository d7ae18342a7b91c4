"""A ledger that lost a day's rows to `ledger.retention_days`, and kept their sums."""

from sqlalchemy import Engine

from ledger.database import open_engine
from ledger.rollups import roll_up
from ledger.store import Ledger
from ledger.upkeep import purge
from tests.ledger.rows import row

US, HOUR, DAY = 1_000_000, 3_600, 86_400
NOW_S = 1_790_000_000
GONE_S = NOW_S // DAY * DAY - 4 * DAY  # a day whose rows are deleted


def fill(database: str) -> Engine:
    """A row every five minutes of 5, 6 and 7 o'clock of that day, predicted; and one of today."""
    engine, ledger = open_engine(database), Ledger(database)
    for at_s in (*range(GONE_S + 5 * HOUR, GONE_S + 8 * HOUR, 300), NOW_S - 7_000):
        ledger.append(row(f"req_{at_s}", started_at_us=at_s * US, end_us=5, predicted_end_us=5))
    assert ledger.flush()
    ledger.close()
    assert roll_up(engine, NOW_S)
    assert purge(engine, 1, NOW_S) == 36
    return engine
