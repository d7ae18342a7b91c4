"""What rows of batches leave in the ledger, written in the transaction of their results: charged once, whoever is late or dies.

Until its row's result is written, nothing that an attempt cost is its team's: what was begun and never ended, and what a late worker did, the
ledger holds to be paid by the gateway.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog
from msgspec.structs import replace
from sqlalchemy import Connection

from batch.leases import settle
from batch.states import Outcome
from gateway.record import Books
from ledger.note import Note
from ledger.row import AttemptRow
from ledger.store import Ledger

MOST = 200  # results in one transaction

log = structlog.get_logger("turnout.batches")


class HeldBooks(Books):
    """Takes the place of the ledger for a row's attempts. For one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[str, list[AttemptRow]] = {}

    def hold(self, request_id: str) -> None:
        self._held[request_id] = []

    def take(self, request_id: str) -> list[AttemptRow]:
        """What the request left; what comes later goes straight to the ledger."""
        return self._held.pop(request_id)

    def begin(self, note: Note) -> None:
        self._ledger.begin(replace(note, billed="gateway"))

    def forget(self, request_id: str, attempt: int) -> None:
        self._ledger.forget(request_id, attempt)

    def append(self, row: AttemptRow) -> None:
        held = self._held.get(row.request_id)
        if held is None:
            self._ledger.append(row)
        else:
            held.append(row)


class Result(NamedTuple):
    outcome: Outcome
    rows: list[AttemptRow]


class _Group:
    """Results in one transaction. Implements ledger.writer.Joined; its methods are called by the ledger's thread."""

    def __init__(self, worker: str, results: Sequence[Result], commits: "Commits") -> None:
        self._worker = worker
        self.results = results
        self._commits = commits
        self.late = 0

    def write(self, connection: Connection) -> Sequence[AttemptRow]:
        counted = settle(connection, self._worker, [result.outcome for result in self.results], time.time_ns() // 1000)
        self.late = counted.count(False)
        return [
            row if counts else replace(row, billed="gateway") for result, counts in zip(self.results, counted, strict=True) for row in result.rows
        ]

    def ended(self, error: Exception | None) -> None:
        self._commits.ended_elsewhere(self, error)


class Commits:
    """Results on their way to the database, a group at a time. `pending`: those that are not there yet; `written` is called when some are."""

    def __init__(self, ledger: Ledger, worker: str, written: Callable[[], None]) -> None:
        self._ledger = ledger
        self._worker = worker
        self._written = written
        self._waiting: deque[Result] = deque()
        self._under_way: _Group | None = None
        self._alone = 0  # how many are to be written each by itself
        self._loop = asyncio.get_running_loop()
        self._all_there = asyncio.Event()
        self._all_there.set()

    @property
    def pending(self) -> int:
        return len(self._waiting) + (0 if self._under_way is None else len(self._under_way.results))

    def add(self, result: Result) -> None:
        self._waiting.append(result)
        self._all_there.clear()
        self._next()

    async def all_there(self) -> None:
        """Until nothing is pending."""
        await self._all_there.wait()

    def _next(self) -> None:
        if self._under_way is None and self._waiting:
            most = 1 if self._alone else MOST
            self._alone = max(0, self._alone - 1)
            some = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._under_way = _Group(self._worker, some, self)
            self._ledger.join(self._under_way)

    def ended_elsewhere(self, group: _Group, error: Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._ended, group, error)

    def _ended(self, group: _Group, error: Exception | None) -> None:
        self._under_way = None
        if group.late:
            log.warning("rows of a batch were another worker's by the time they were answered", rows=group.late)
        if error is not None:
            self._tell_apart(group, error)
        self._next()
        if not self.pending:
            self._all_there.set()
        self._written()

    def _tell_apart(self, group: _Group, error: Exception) -> None:
        """One of them is what no database takes: each alone, and of that one only that it failed."""
        log.error("results of a batch were not written", rows=len(group.results), error=type(error).__name__)
        if len(group.results) > 1:
            for result in reversed(group.results):
                self._waiting.appendleft(result)
            self._alone = len(group.results)
        elif (outcome := group.results[0].outcome).status_code is not None:
            self._waiting.appendleft(Result(Outcome(row=outcome.row, state="errored", request_id=outcome.request_id), []))
