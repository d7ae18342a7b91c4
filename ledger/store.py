"""The append-only store: rows go in from the event loop, a thread writes them in groups (docs/decisions/005)."""

import atexit
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, create_engine, event, insert, select
from sqlalchemy.exc import SQLAlchemyError

from ledger.row import AttemptRow
from ledger.schema import USAGE_CLASSES, VERSION, attempts, metadata, schema_version

GATHER_S = 0.03  # how long a group is gathered before it is committed
GROUP = 5_000  # rows in one transaction
MAX_PENDING = 200_000  # rows kept in memory while the database fails: about 200 MB
BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
BUSY_TIMEOUT_S = 5.0

log = structlog.get_logger("turnout.ledger")


class LedgerError(Exception):
    """The database cannot be used as a ledger; the message says what to do."""


def open_engine(url: str) -> Engine:
    """An engine for a ledger's database, its folder and tables made where they are missing. Raises LedgerError."""
    if not url.startswith("sqlite"):
        raise LedgerError(f"the ledger cannot be kept in {url.split(':')[0]!r} yet; use a URL such as sqlite:///var/turnout.db")
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    try:
        if engine.url.database:
            Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with engine.begin() as connection:
            metadata.create_all(connection)
            version = connection.execute(select(schema_version.c.version)).scalar()
            if version is None:
                connection.execute(insert(schema_version).values(version=VERSION))
    except (SQLAlchemyError, OSError) as exc:
        engine.dispose()
        raise LedgerError(f"the ledger's database {url!r} cannot be opened: {getattr(exc, 'orig', exc)}") from exc
    if version not in (None, VERSION):
        engine.dispose()
        raise LedgerError(f"the ledger's database {url!r} has version {version}; this gateway writes version {VERSION}: name another database")
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Ledger:
    """`append` never blocks and never fails a request. `dropped` counts rows lost because the database failed for too long."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self.dropped = 0
        self.last_error: str | None = None
        self._rows: deque[AttemptRow] = deque()
        self._wake = threading.Event()
        self._asleep = False
        self._written = threading.Condition()
        self._busy = False
        self._closing = False
        self._statement = str(attempts.insert().compile(dialect=self.engine.dialect, column_keys=COLUMNS))
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return len(self._rows)

    def append(self, row: AttemptRow) -> None:
        """Hands a row over; it is on disk within GATHER_S when the database is well."""
        if len(self._rows) >= MAX_PENDING:
            self.dropped += 1
            return
        self._rows.append(row)
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until what was appended so far is written; False when it was not in time."""
        self._wake.set()
        with self._written:
            return self._written.wait_for(lambda: not self._rows and not self._busy, timeout_s)

    def close(self) -> None:
        """Writes what is left and closes. Idempotent."""
        if self._closing:
            return
        self._closing = True
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join()
        self.engine.dispose()

    # --- the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        backoff_s = BACKOFF_S
        while True:
            if not self._rows:
                if self._closing:
                    return
                self._sleep()
                continue
            if self._write():
                backoff_s = BACKOFF_S
                if not self._closing:
                    time.sleep(GATHER_S)
                continue
            if self._closing:
                self.dropped += len(self._rows)
                log.error("ledger_rows_lost", rows=len(self._rows), error=self.last_error)
                self._rows.clear()
                return
            self._wake.clear()
            self._wake.wait(backoff_s)
            backoff_s = min(MAX_BACKOFF_S, backoff_s * 2)

    def _sleep(self) -> None:
        self._wake.clear()
        self._asleep = True
        if not self._rows and not self._closing:  # looked at again after the flag: an append in between is not missed
            self._wake.wait()
        self._asleep = False

    def _write(self) -> bool:
        """One group, one transaction; rows leave the queue only once it is committed."""
        self._busy = True
        group = list(islice(self._rows, GROUP))
        try:
            self._insert(group)
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises, the rows stay and are tried again
            if self.last_error is None:
                log.error("ledger_write_failed", error=str(getattr(exc, "orig", exc)))
            self.last_error = f"{type(exc).__name__}: {getattr(exc, 'orig', exc)}"
            self._busy = False
            return False
        for _ in group:
            self._rows.popleft()
        self.last_error = None
        with self._written:
            self._busy = False
            self._written.notify_all()
        return True

    def _insert(self, group: Iterable[AttemptRow]) -> None:
        connection = self.engine.raw_connection()
        try:
            connection.cursor().executemany(self._statement, [values(row) for row in group])
            connection.commit()
        except BaseException:
            with suppress(Exception):  # the error that matters is the first one
                connection.rollback()
            raise
        finally:
            connection.close()


COLUMNS = [column.name for column in attempts.columns]
_BEFORE_USAGE = COLUMNS[: COLUMNS.index(USAGE_CLASSES[0])]
_AFTER_USAGE = COLUMNS[COLUMNS.index("cost_nusd") :]
_NO_USAGE = (None,) * (len(USAGE_CLASSES) + 2)


def values(row: AttemptRow) -> tuple[Any, ...]:
    """A row's column values, in the table's order."""
    usage = row.usage
    if usage is None:
        counted: tuple[Any, ...] = _NO_USAGE
    else:
        raw = None if usage.raw is None else bytes(usage.raw).decode()
        counted = (*[getattr(usage, name) for name in USAGE_CLASSES], usage.source, raw)
    return (*[getattr(row, name) for name in _BEFORE_USAGE], *counted, *[getattr(row, name) for name in _AFTER_USAGE])
