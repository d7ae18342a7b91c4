"""The append-only store: rows go in from the event loop, a thread writes them in groups (docs/decisions/005)."""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import LedgerUnavailable
from ledger.database import blames_row, open_engine, said, spool_folder
from ledger.note import NOTED, Note
from ledger.row import AttemptRow
from ledger.spool import Spool, Unreadable
from ledger.writer import COLUMNS, GroupWriter, Joined, Refused, tell, values

GATHER_S = 0.03  # how long a group is gathered before it is committed
GROUP = 5_000  # rows in one transaction
MAX_PENDING = 200_000  # rows kept in memory while the database fails: about 200 MB
MAX_DECISIONS = 20_000  # rows that wait with their decision: about another 200 MB; the money is kept for longer than its reasons
SPOOL_AFTER_S = 2.0  # a database that fails for longer has its rows put aside on disk, again so long after each failed try
BACKOFF_S = 0.5


class Ledger:
    """`append` never blocks and never fails a request. `spool`: where rows wait that the database does not take; default: database.spool_folder."""

    def __init__(self, url: str, *, max_pending: int = MAX_PENDING, spool: Path | None = None) -> None:
        self.engine = open_engine(url)
        self._writer = GroupWriter(self.engine)
        self._driver_error: type[Exception] = self.engine.dialect.loaded_dbapi.Error
        self._spool = Spool(spool_folder(url) if spool is None else spool, COLUMNS, NOTED)
        self._aside = False  # rows may wait in the spool
        self._put = 0  # of them, those of this process
        self._disk_failed = False  # the last time that rows were put aside
        self._taken_over = False  # what processes that are gone left there
        self.last_error: str | None = None
        self._rows: deque[AttemptRow] = deque()
        self._joined: deque[Joined] = deque()
        self._joined_gone = 0  # those that left it; guarded by _written
        self._wake = threading.Event()
        self._asleep = False
        self._max_pending = max_pending
        self._refused = 0  # counted by whoever appends
        self._lost = 0  # counted by the thread
        self._gone = 0  # rows that left the queue; guarded by _written
        self._written = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def pending(self) -> int:
        """Rows that wait to be written, in memory or put aside on the disk."""
        return len(self._rows) + self._put

    @property
    def in_danger(self) -> bool:
        """Rows wait in memory alone: neither the database nor the disk takes them."""
        return self.last_error is not None and self._disk_failed

    @property
    def unreadable(self) -> int:
        """Files of the spool that could not be read and were set aside: rows may be missing."""
        return self._spool.unreadable

    @property
    def begun(self) -> int:
        """Attempts that were begun and have no row that is safe."""
        return self._spool.begun

    @property
    def dropped(self) -> int:
        """Rows lost: the database failed for too long, or would not take that row (a duplicate), or the ledger was closed."""
        return self._refused + self._lost

    def begin(self, note: Note) -> None:
        """Notes an attempt before anything is sent: `note` stands for it if this process dies before its own was written.

        Raises LedgerUnavailable.
        """
        if len(self._rows) >= self._max_pending:
            raise LedgerUnavailable("the ledger cannot be written, and too much waits for it; nothing was sent, try again")
        try:
            self._spool.begin((note.request_id, note.attempt), note)
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

    def join(self, joined: Joined) -> None:
        """Rows that are to be written together with something else; they wait in memory while the database fails, and are never put aside."""
        self._joined.append(joined)
        self._wake.set()

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Waits until what was appended so far is written; False when it was not in time."""
        with self._written:
            goal, joined = self._gone + len(self._rows), self._joined_gone + len(self._joined)
            self._wake.set()
            return self._written.wait_for(lambda: self._gone >= goal and self._joined_gone >= joined and not self._aside, timeout_s)

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
            if not self._rows and not self._joined and not self._aside and self._taken_over:
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
            backoff_s = min(SPOOL_AFTER_S, backoff_s * 2)

    def _sleep(self) -> None:
        self._wake.clear()
        self._asleep = True
        if not self._rows and not self._joined and not self._closing:  # looked at again after the flag: an append in between is not missed
            self._wake.wait()
        self._asleep = False

    def _write(self) -> bool:
        """One group, one transaction; rows leave the queue only once it is committed. Before them, what was left on the disk."""
        try:
            self._drain()
            group = list(islice(self._rows, GROUP))
            bad = self._writer.write(group) if group else []
            self._count(bad)
            self._safe(group)
            self._write_joined()
        except Exception as exc:  # noqa: BLE001 - whatever a driver raises, the rows stay and are tried again
            if self.last_error is None:
                tell("ledger_write_failed", error=said(exc))
            self.last_error = f"{type(exc).__name__}: {said(exc)}"
            return False
        self.last_error = None
        return True

    def _write_joined(self) -> None:
        """Raises what is the database's fault; a fault of whoever joined would be the same the next time."""
        while self._joined:
            joined = self._joined[0]
            try:
                keys, refused = self._writer.write_joined(joined)
            except Exception as exc:
                cause = getattr(exc, "orig", exc)
                if isinstance(exc, SQLAlchemyError | OSError | self._driver_error) and not blames_row(self.engine, cause):
                    raise
                tell("ledger_joined_failed", error=f"{type(exc).__name__}: {said(exc)}")
                self._end_joined(exc)
                continue
            self._count(refused)
            self._spool.over(keys)
            self._end_joined(None)

    def _end_joined(self, error: Exception | None) -> None:
        with self._written:
            joined = self._joined.popleft()
            self._joined_gone += 1
            self._written.notify_all()
        joined.ended(error)

    def _count(self, refused: Sequence[Refused]) -> None:
        """Rows that no database would take are lost."""
        if refused:
            (request_id, attempt), error = refused[0]
            self._lost += len(refused)
            tell("ledger_rows_refused", rows=len(refused), request_id=request_id, attempt=attempt, error=said(error))

    def _drain(self) -> None:
        """Writes what waits in the spool; once, also the attempts that processes which are gone had begun, if they have no row."""
        if self._aside or not self._taken_over:
            for path in self._spool.waiting():
                try:
                    rows = self._spool.read(path)
                except FileNotFoundError:  # another process was first
                    continue
                except Unreadable as exc:
                    self._set_aside(path, str(exc))
                    continue
                self._count(self._writer.write_missing(rows))
                path.unlink(missing_ok=True)
            with self._written:
                self._aside, self._put = False, 0
                self._written.notify_all()
        if not self._taken_over:
            for descriptor, path, left in self._spool.left_behind():
                try:
                    if left is None:
                        self._set_aside(path, "it holds no attempts")
                        continue
                    self._count(self._writer.write_missing(left) if left else ())
                    path.unlink()
                finally:
                    os.close(descriptor)
            self._taken_over = True

    def _set_aside(self, path: Path, why: str) -> None:
        """A file of the spool that cannot be read stays under another name, for whoever can; what waits beside it goes on."""
        with suppress(OSError):
            tell("ledger_spool_unreadable", file=str(self._spool.set_aside(path)), error=why)

    def _put_aside(self) -> None:
        """What waits goes to the disk. What that does not take stays, and `begin` lets nothing more be sent before too much waits."""
        try:
            while group := list(islice(self._rows, GROUP)):
                self._spool.put_aside([values(row) for row in group])
                self._aside = True
                self._put += len(group)
                self._safe(group)
            self._disk_failed = False
        except Exception as exc:  # noqa: BLE001 - a disk that is full, a row that cannot be told: they wait in memory
            self._disk_failed = True
            tell("ledger_spool_failed", error=str(exc))

    def _safe(self, group: Sequence[AttemptRow]) -> None:
        """They leave the queue; the attempts that they are of are over."""
        with self._written:
            for _ in group:
                self._rows.popleft()
            self._gone += len(group)
            self._written.notify_all()
        self._spool.over((row.request_id, row.attempt) for row in group)

    def _lose(self) -> None:
        """The end: what is still here will never be written. What was joined is left to what stands for it in the spool."""
        while self._joined:
            self._end_joined(LedgerUnavailable("the ledger was closed"))
        if left := list(self._rows):
            self._lost += len(left)
            tell("ledger_rows_lost", rows=len(left), error=self.last_error)
            with self._written:
                self._rows.clear()
                self._gone += len(left)
                self._written.notify_all()
