"""What keeps a ledger in order beside its writer: roll-ups made every few seconds, old rows deleted once their roll-ups are made."""

import threading
import time
from typing import Any

import structlog
from sqlalchemy import Engine, delete, select, text, update

from ledger.database import said
from ledger.engine_folding import fold
from ledger.rollups import DAY, HOUR, MINUTE, US, roll_up
from ledger.schema import attempts, latency_rollups, latency_summaries, rollup_state, stale_spans, usage_rollups, usage_summaries

EVERY_S = 15.0
PURGE_S = 3_600.0
BATCH_S = 10.0  # how long one turn may take

log = structlog.get_logger("turnout.ledger")


class Upkeep:
    """A thread of its own. `retention_days`: how long rows are kept; None: for ever."""

    def __init__(self, engine: Engine, retention_days: int | None) -> None:
        self._engine = engine
        self._days = retention_days
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger upkeep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        purge_at = analyse_at = 0.0
        while not self._stopped.wait(EVERY_S):
            try:
                now = time.time()
                whole = roll_up(self._engine, now, BATCH_S)
                if whole and self._days is not None and time.monotonic() >= purge_at:
                    purge(self._engine, self._days, now)
                    purge_at = time.monotonic() + PURGE_S
                if whole and time.monotonic() >= analyse_at:
                    analyse(self._engine)
                    analyse_at = time.monotonic() + DAY
            except Exception as exc:  # noqa: BLE001 - a database that fails just now: tried again the next time
                log.warning("ledger_upkeep_failed", error=said(exc))


def analyse(engine: Engine) -> None:
    """Tells PostgreSQL's planner what roll-ups there are. Days are so few of their rows that autovacuum does not look again when they were made; it
    takes them for none then, and reads every team's for one team's report. Raises SQLAlchemyError."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            for table in (usage_rollups, latency_rollups, usage_summaries, latency_summaries):
                connection.execute(text(f"ANALYZE {table.name}"))


def purge(engine: Engine, days: int, now_s: float) -> int:
    """Deletes the attempts of whole days of UTC that ended more than `days` ago, and their minutes' roll-ups; hours and days stay, of engines' time
    too. How many rows.

    Nothing where a roll-up of theirs is not made yet. Raises SQLAlchemyError.
    """
    before = int(now_s - days * DAY) // DAY * DAY
    with engine.begin() as connection:
        connection.execute(update(rollup_state).values(turn=rollup_state.c.turn + 1))
        purged = connection.execute(select(rollup_state.c.purged_s)).scalar_one()
        if before <= purged or connection.execute(select(stale_spans.c.id).where(stale_spans.c.start_s < before).limit(1)).first() is not None:
            return 0
        first: Any = connection.execute(select(attempts.c.started_at_us).order_by(attempts.c.started_at_us).limit(1)).scalar()
        connection.execute(update(rollup_state).values(purged_s=before))
        for table in (usage_rollups, latency_rollups):
            connection.execute(delete(table).where(table.c.span_s == MINUTE, table.c.start_s < before))
    fold(engine, before * US)
    gone = 0
    start = before if first is None else first // US // HOUR * HOUR
    while start < before:  # an hour at a time, so that whoever writes need not wait long
        with engine.begin() as connection:
            within = (attempts.c.started_at_us >= start * US, attempts.c.started_at_us < (start + HOUR) * US)
            gone += connection.execute(delete(attempts).where(*within)).rowcount
        start += HOUR
    return gone
