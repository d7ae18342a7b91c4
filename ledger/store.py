"""The append-only store: rows go in from the event loop, a thread writes them in groups (docs/decisions/005)."""

import atexit
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec.structs import astuple, replace
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from ledger.rollups import minute_of, stale
from ledger.row import AttemptRow
from ledger.schema import UPGRADED, USAGE_CLASSES, VERSION, attempts, make_tables, schema_version, stale_spans

GATHER_S = 0.03  # how long a group is gathered before it is committed
BLOCK = 20  # rows in one statement
GROUP = 5_000  # rows in one transaction
MAX_PENDING = 200_000  # rows kept in memory while the database fails: about 200 MB
MAX_DECISIONS = 20_000  # rows that wait with their decision: about another 200 MB; the money is kept for longer than its reasons
BACKOFF_S = 0.5
MAX_BACKOFF_S = 5.0
BUSY_TIMEOUT_S = 5.0
EXAMPLE = "sqlite:///var/turnout.db"

# What a driver raises for a row that no database would take: the others are written without it. Everything else is the database's fault.
BAD_ROW = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError, OverflowError, ValueError, TypeError)

log = structlog.get_logger("turnout.ledger")


class LedgerError(Exception):
    """The database cannot be used as a ledger; the message says what to do."""


def database_file(url: str) -> Path:
    """The file of a ledger's URL. Raises LedgerError for a URL that a ledger cannot be kept in."""
    try:
        parsed = make_url(url)
    except ArgumentError as exc:
        raise LedgerError(f"{url!r} is not a database's URL; use one such as {EXAMPLE}") from exc
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise LedgerError(f"the ledger cannot be kept in {parsed.drivername!r} yet; use a URL such as {EXAMPLE}")
    if parsed.database in (None, "", ":memory:"):
        raise LedgerError(f"the ledger needs a file; use a URL such as {EXAMPLE}")
    return Path(str(parsed.database)).expanduser()


def open_engine(url: str) -> Engine:
    """An engine for a ledger's database, its folder and tables made where they are missing. Raises LedgerError."""
    file = database_file(url)
    engine = create_engine(make_url(url).set(database=str(file)), connect_args={"timeout": BUSY_TIMEOUT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with engine.connect() as connection:
            version = _version(connection)
            if version is None or version in UPGRADED:
                version = _brought_up(connection)
    except (SQLAlchemyError, OSError) as exc:
        engine.dispose()
        raise LedgerError(f"the ledger's database {url!r} cannot be opened: {getattr(exc, 'orig', exc)}") from exc
    if version != VERSION:
        engine.dispose()
        raise LedgerError(f"the ledger's database {url!r} has version {version}; this gateway writes version {VERSION}: name another database")
    return engine


def _version(connection: Connection) -> int | None:
    return connection.execute(select(schema_version.c.version)).scalar() if inspect(connection).has_table(schema_version.name) else None


def _brought_up(connection: Connection) -> int | None:
    """Makes what is missing, and gives the version; one process at a time, for two may start with the same file."""
    connection.rollback()
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    version = _version(connection)
    if version is None or version in UPGRADED:
        make_tables(connection)
        connection.execute(insert(schema_version) if version is None else update(schema_version), {"version": VERSION})
        version = VERSION
    connection.commit()
    return version


@retry(retry=retry_if_exception_type(sqlite3.OperationalError), wait=wait_random(0.01, 0.05), stop=stop_after_delay(BUSY_TIMEOUT_S), reraise=True)
def _prepare_sqlite(connection: Any, _: Any) -> None:
    """Tried for a while: SQLite does not wait for others who change a new file's journal mode at the same moment."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Ledger:
    """`append` never blocks and never fails a request."""

    def __init__(self, url: str, *, max_pending: int = MAX_PENDING) -> None:
        self.engine = open_engine(url)
        self.last_error: str | None = None
        self._rows: deque[AttemptRow] = deque()
        self._wake = threading.Event()
        self._asleep = False
        self._max_pending = max_pending
        self._refused = 0  # counted by whoever appends
        self._lost = 0  # counted by the thread
        self._gone = 0  # rows that left the queue; guarded by _written
        self._written = threading.Condition()
        self._closing = False
        self._statement = str(attempts.insert().compile(dialect=self.engine.dialect, column_keys=COLUMNS))
        columns, _, places = self._statement.partition(" VALUES ")
        self._stale_statement = str(stale_spans.insert().compile(dialect=self.engine.dialect, column_keys=[c.name for c in stale_spans.columns]))
        self._block_statement = f"{columns} VALUES {', '.join([places] * BLOCK)}"
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pending(self) -> int:
        """Rows that wait to be written."""
        return len(self._rows)

    @property
    def dropped(self) -> int:
        """Rows lost: the database failed for too long, or would not take that row (a duplicate), or the ledger was closed."""
        return self._refused + self._lost

    def append(self, row: AttemptRow) -> None:
        """Hands a row over; it is on disk within GATHER_S when the database is well."""
        if len(self._rows) >= self._max_pending:
            self._refused += 1
            return
        if row.decision is not None and len(self._rows) >= MAX_DECISIONS:
            row = replace(row, decision=None)
        self._rows.append(row)
        if self._asleep:
            self._asleep = False
            self._wake.set()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until what was appended so far is written; False when it was not in time."""
        with self._written:
            goal = self._gone + len(self._rows)
            self._wake.set()
            return self._written.wait_for(lambda: self._gone >= goal, timeout_s)

    def close(self) -> None:
        """Writes what is left and closes. Idempotent."""
        if self._closing:
            return
        self._closing = True
        atexit.unregister(self.close)
        self._wake.set()
        self._thread.join()
        self._max_pending = 0  # whatever comes now is counted
        self._lose()
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
                self._lose()
                return
            self._wake.clear()
            if not self._closing:  # looked at again after the flag, as in _sleep
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
        try:
            group = list(islice(self._rows, GROUP))
            bad = self._insert(group)
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises, the rows stay and are tried again
            if self.last_error is None:
                _tell("ledger_write_failed", error=str(getattr(exc, "orig", exc)))
            self.last_error = f"{type(exc).__name__}: {getattr(exc, 'orig', exc)}"
            return False
        if bad:
            row, error = bad[0]
            self._lost += len(bad)
            _tell("ledger_rows_refused", rows=len(bad), request_id=row.request_id, attempt=row.attempt, error=str(error))
        self.last_error = None
        self._forget(len(group))
        return True

    def _insert(self, group: Sequence[AttemptRow]) -> list[tuple[AttemptRow, Exception]]:
        """Commits the group, without the rows that no database would take: those come back."""
        connection = self.engine.raw_connection()
        bad: list[tuple[AttemptRow, Exception]] = []
        try:
            cursor = connection.cursor()
            try:
                self._insert_all(cursor, [values(row) for row in group])
            except BAD_ROW:
                connection.rollback()
                for row in group:
                    try:
                        cursor.execute(self._statement, values(row))
                    except BAD_ROW as exc:
                        bad.append((row, exc))
            minutes = {minute_of(row.started_at_us) for row in group}
            cursor.executemany(self._stale_statement, [tuple(entry.values()) for entry in stale(minutes)])
            connection.commit()
        except BaseException:
            with suppress(Exception):  # the error that matters is the first one
                connection.rollback()
            raise
        finally:
            connection.close()
        return bad

    def _insert_all(self, cursor: Any, rows: list[tuple[Any, ...]]) -> None:
        """A block of rows a statement: the driver gives up Python's lock at each one, and the event loop runs on the same processor."""
        whole = len(rows) - len(rows) % BLOCK
        for start in range(0, whole, BLOCK):
            cursor.execute(self._block_statement, list(chain.from_iterable(rows[start : start + BLOCK])))
        cursor.executemany(self._statement, rows[whole:])

    def _forget(self, count: int) -> None:
        with self._written:
            for _ in range(count):
                self._rows.popleft()
            self._gone += count
            self._written.notify_all()

    def _lose(self) -> None:
        """The end: what is still here will never be written."""
        if left := len(self._rows):
            self._lost += left
            _tell("ledger_rows_lost", rows=left, error=self.last_error)
            self._forget(left)


def _tell(what: str, **fields: Any) -> None:
    with suppress(Exception):  # a log that cannot be written must not end the thread
        log.error(what, **fields)


COLUMNS = [column.name for column in attempts.columns]
_USAGE_AT = AttemptRow.__struct_fields__.index("usage")  # AttemptRow and Usage list their fields in the table's order; a test holds them to it
_NO_USAGE = (None,) * (len(USAGE_CLASSES) + 2)


def values(row: AttemptRow) -> tuple[Any, ...]:
    """A row's column values, in the table's order; the decision, which is its last field, as JSON."""
    *plain, decision = astuple(row)
    usage = row.usage
    if usage is None:
        counted: tuple[Any, ...] = _NO_USAGE
    else:
        *classes, source, raw = astuple(usage)
        counted = (*classes, source, bytes(raw).decode() if raw else None)
    return (*plain[:_USAGE_AT], *counted, *plain[_USAGE_AT + 1 :], None if decision is None else _told(decision))


def _told(decision: Any) -> str | None:
    """A decision as JSON; one that cannot be told must not cost the row."""
    try:
        return msgspec.json.encode(decision() if callable(decision) else decision).decode()
    except Exception as exc:  # noqa: BLE001 - it was made elsewhere, and whatever it raises is not the database's fault
        _tell("ledger_decision_untold", error=f"{type(exc).__name__}: {exc}")
        return None
