"""The append-only store: rows go in from the event loop, a thread writes them in groups (docs/decisions/005)."""

import atexit
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
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

from contract.errors import LedgerUnavailable
from ledger.rollups import US, minute_of, stale
from ledger.row import AttemptRow
from ledger.schema import UPGRADED, USAGE_CLASSES, VERSION, attempts, make_tables, rollup_state, schema_version, stale_spans
from ledger.spool import Spool

GATHER_S = 0.03  # how long a group is gathered before it is committed
BLOCK = 20  # rows in one statement
GROUP = 5_000  # rows in one transaction
MAX_PENDING = 200_000  # rows kept in memory while the database fails: about 200 MB
MAX_DECISIONS = 20_000  # rows that wait with their decision: about another 200 MB; the money is kept for longer than its reasons
SPOOL_AFTER_S = 2.0  # a database that fails for longer has its rows put aside on disk
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
        if not file.exists():
            file.touch(mode=0o600)  # it holds conversations
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
    """`append` never blocks and never fails a request. `spool`: where rows wait that the database does not take; default: beside its file."""

    def __init__(self, url: str, *, max_pending: int = MAX_PENDING, spool: Path | None = None) -> None:
        self.engine = open_engine(url)
        self._spool = Spool(database_file(url).with_suffix(".spool") if spool is None else spool, COLUMNS)
        self._aside = False  # rows may wait in the spool
        self._put = 0  # of them, those of this process
        self._taken_over = False  # what processes that are gone left there
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
        """Rows that wait to be written, in memory or put aside on the disk."""
        return len(self._rows) + self._put

    @property
    def begun(self) -> int:
        """Attempts that were begun and have no row that is safe."""
        return self._spool.begun

    @property
    def dropped(self) -> int:
        """Rows lost: the database failed for too long, or would not take that row (a duplicate), or the ledger was closed."""
        return self._refused + self._lost

    def begin(self, row: AttemptRow) -> None:
        """Notes an attempt before anything is sent: `row` stands for it if this process dies before its own was written. Raises LedgerUnavailable."""
        if len(self._rows) >= self._max_pending:
            raise LedgerUnavailable("the ledger cannot be written, and too much waits for it; nothing was sent, try again")
        try:
            self._spool.begin((row.request_id, row.attempt), values(row))
        except OSError as exc:
            raise LedgerUnavailable("the disk takes no notes of what is sent, so nothing was sent; try again when it has room") from exc

    def forget(self, request_id: str, attempt: int) -> None:
        """An attempt that was begun came to nothing: no row follows."""
        self._spool.withdraw((request_id, attempt))

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
            return self._written.wait_for(lambda: self._gone >= goal and not self._aside, timeout_s)

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
        self._spool.close()
        self.engine.dispose()

    # --- the thread ----------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        backoff_s, well_at = BACKOFF_S, time.monotonic()
        while True:
            if not self._rows and not self._aside and self._taken_over:
                if self._closing:
                    return
                self._sleep()
                continue
            if self._write():
                backoff_s, well_at = BACKOFF_S, time.monotonic()
                if not self._closing:
                    time.sleep(GATHER_S)
                continue
            if self._closing or time.monotonic() - well_at > SPOOL_AFTER_S:
                self._put_aside()
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
        """One group, one transaction; rows leave the queue only once it is committed. Before them, what was left on the disk."""
        try:
            self._drain()
            group = list(islice(self._rows, GROUP))
            bad = self._insert(group) if group else []
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
        self._safe(group)
        return True

    def _drain(self) -> None:
        """Writes what waits in the spool; once, also the attempts that processes which are gone had begun, if they have no row."""
        if self._aside or not self._taken_over:
            for path in self._spool.waiting():
                with suppress(FileNotFoundError):  # another process was first
                    self._insert_missing(self._spool.read(path))
                    path.unlink()
            with self._written:
                self._aside, self._put = False, 0
                self._written.notify_all()
        if not self._taken_over:
            for descriptor, path, rows in self._spool.left_behind():
                try:
                    self._insert_missing(rows)
                    path.unlink()
                finally:
                    os.close(descriptor)
            self._taken_over = True

    def _insert_missing(self, rows: Sequence[dict[str, Any]]) -> None:
        """Those that have no row yet. Rows of an older version have the defaults of the columns that it lacked."""
        with self.engine.begin() as connection:
            purged_us = connection.execute(select(rollup_state.c.purged_s)).scalar_one() * US
            rows = [row for row in rows if row["started_at_us"] >= purged_us]
            cursor = connection.connection.cursor()
            cursor.executemany(f"{self._statement} ON CONFLICT DO NOTHING", [[row.get(name, DEFAULTS[name]) for name in COLUMNS] for row in rows])
            self._note_stale(cursor, (row["started_at_us"] for row in rows))

    def _note_stale(self, cursor: Any, times_us: Iterable[int]) -> None:
        cursor.executemany(self._stale_statement, [tuple(entry.values()) for entry in stale({minute_of(at_us) for at_us in times_us})])

    def _put_aside(self) -> None:
        """What waits goes to the disk. What that does not take stays, and `begin` lets nothing more be sent before too much waits."""
        try:
            while group := list(islice(self._rows, GROUP)):
                self._spool.put_aside([values(row) for row in group])
                self._aside = True
                self._put += len(group)
                self._safe(group)
        except Exception as exc:  # noqa: BLE001 - a disk that is full, a row that cannot be told: they wait in memory
            _tell("ledger_spool_failed", error=str(exc))

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
            self._note_stale(cursor, (row.started_at_us for row in group))
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

    def _safe(self, group: Sequence[AttemptRow]) -> None:
        """They leave the queue; the attempts that they are of are over."""
        with self._written:
            for _ in group:
                self._rows.popleft()
            self._gone += len(group)
            self._written.notify_all()
        self._spool.over((row.request_id, row.attempt) for row in group)

    def _lose(self) -> None:
        """The end: what is still here will never be written."""
        if left := list(self._rows):
            self._lost += len(left)
            _tell("ledger_rows_lost", rows=len(left), error=self.last_error)
            with self._written:
                self._rows.clear()
                self._gone += len(left)
                self._written.notify_all()


def _tell(what: str, **fields: Any) -> None:
    with suppress(Exception):  # a log that cannot be written must not end the thread
        log.error(what, **fields)


COLUMNS = [str(column.name) for column in attempts.columns]
DEFAULTS = {column.name: getattr(column.server_default, "arg", None) for column in attempts.columns}
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
