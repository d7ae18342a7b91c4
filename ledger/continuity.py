"""What a later request may refer to: which target an opaque state belongs to, and the answers that we keep ourselves.

Memory first, so that a follow-up finds what has just been said; the database behind it, written by one thread, so that a restart loses
nothing. Everything belongs to a team: another team's names find nothing.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Engine, Table, delete, select
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import LedgerUnavailable
from ledger.database import said, upsert
from ledger.schema import bindings, kept_answers

MAX_BINDINGS = 100_000  # in memory: about 10 MB
MAX_ANSWERS = 1_000
MAX_ANSWER_BYTES = 64 << 20
READ_S = 1.0  # how long a request waits for the database
DAY_US = 86_400_000_000
NEW_ANSWER_S = 0.5  # how long what another process may have said just now is looked for
NEW_STATE_S = 0.1
FIRST_PAUSE_S = 0.005

Found = TypeVar("Found")

log = structlog.get_logger("turnout.ledger")


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of the Responses dialect. `input`: the request's items with all that went before, `answer`: the whole response, both JSON."""

    id: str
    model: str
    input: bytes
    answer: bytes


class Continuity:
    """Called on the event loop; the database is only touched by its own thread. `days`: how long things are kept; 0: no answer is.

    `shared`: other processes write the same database, and one that began before deletes what is older; what is not found is looked for again
    for a moment, since another may just have said it, and answers are not kept in memory.

    What is not in memory is asked of the database: LedgerUnavailable when that cannot be read in time.
    """

    def __init__(self, engine: Engine, days: int, memory_bytes: int = MAX_ANSWER_BYTES, *, shared: bool = False) -> None:
        self.days = days
        self._engine = engine
        self._bindings: OrderedDict[bytes, str] = OrderedDict()
        self._answers: OrderedDict[tuple[str, str], KeptAnswer] = OrderedDict()
        self._answer_bytes = 0
        self._memory_bytes = memory_bytes
        self._thread = ThreadPoolExecutor(1, "continuity")
        self._shared = shared
        self._waiting: deque[tuple[Table, dict[str, Any]]] = deque()
        if not shared:
            self._thread.submit(tidy, engine, days)

    # --- bindings ------------------------------------------------------------------------------------------------------
    def bind(self, team: str, tokens: Iterable[str], target: str) -> None:
        """Remembers that those opaque states came from that target."""
        digests = [_digest(team, token) for token in tokens]
        for digest in digests:
            self._bindings[digest] = target
            if len(self._bindings) > MAX_BINDINGS:
                self._bindings.popitem(last=False)
        now = time.time_ns() // 1000
        self._later(bindings, [{"digest": digest, "target": target, "made_at_us": now} for digest in digests])

    async def target_of(self, team: str, token: str, *, new: bool = False) -> str | None:
        """The target that gave this state to this team; None: not known. `new`: it may have been given just now. Raises LedgerUnavailable."""
        digest = _digest(team, token)
        if (known := self._bindings.get(digest)) is not None:
            return known

        async def read() -> str | None:
            found: str | None = await self._read(lambda c: c.execute(select(bindings.c.target).where(bindings.c.digest == digest)).scalar())
            return found

        return await self._looked_for(read, NEW_STATE_S if new else 0.0)

    # --- kept answers --------------------------------------------------------------------------------------------------
    def keep(self, team: str, answer: KeptAnswer) -> None:
        """Keeps an answer for later requests of the team."""
        if not self.days:
            return
        if not self._shared:  # else another process may delete it
            self._remember(team, answer)
        row = {"id": answer.id, "team": team, "model": answer.model, "input": answer.input, "answer": answer.answer}
        self._later(kept_answers, [{**row, "made_at_us": time.time_ns() // 1000}])

    async def answer(self, team: str, name: str) -> KeptAnswer | None:
        """An answer of the team by its id. Raises LedgerUnavailable."""
        if (known := self._answers.get((team, name))) is not None:
            return known
        chosen = select(kept_answers).where(kept_answers.c.id == name, kept_answers.c.team == team)
        row = await self._looked_for(
            lambda: self._read(lambda c: c.execute(chosen).mappings().first()), NEW_ANSWER_S, lambda: self.target_of(team, name)
        )
        return None if row is None else KeptAnswer(id=row["id"], model=row["model"], input=row["input"], answer=row["answer"])

    async def forget(self, team: str, name: str) -> bool:
        """Deletes an answer; False: there was none. Raises LedgerUnavailable."""
        found = await self.answer(team, name) is not None
        self._drop((team, name))
        chosen = delete(kept_answers).where(kept_answers.c.id == name, kept_answers.c.team == team)
        deleted = self._thread.submit(lambda: _write(self._engine, chosen, None))
        if self._shared:
            await asyncio.wrap_future(deleted)
        return found

    def _remember(self, team: str, answer: KeptAnswer) -> None:
        self._drop((team, answer.id))
        self._answers[team, answer.id] = answer
        self._answer_bytes += _size(answer)
        while len(self._answers) > MAX_ANSWERS or self._answer_bytes > self._memory_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: tuple[str, str]) -> None:
        if (old := self._answers.pop(key, None)) is not None:
            self._answer_bytes -= _size(old)

    def close(self) -> None:
        """Writes what waits. Idempotent."""
        self._thread.shutdown()

    # --- the thread ----------------------------------------------------------------------------------------------------
    def _later(self, table: Table, rows: list[dict[str, Any]]) -> None:
        self._waiting.extend((table, row) for row in rows)
        self._thread.submit(self._write_waiting)

    def _write_waiting(self) -> None:
        """All that waits by now, in a transaction for each table: a server far away takes few of them a second."""
        found: dict[Table, list[dict[str, Any]]] = {}
        while self._waiting:
            table, row = self._waiting.popleft()
            found.setdefault(table, []).append(row)
        for table, rows in found.items():
            _write(self._engine, upsert(self._engine, table).on_conflict_do_nothing(), rows)

    async def _looked_for(
        self, read: Callable[[], Awaitable[Found | None]], within_s: float, elsewhere: Callable[[], Awaitable[object | None]] | None = None
    ) -> Found | None:
        """What is read; where several processes write, tried again `within_s` until it is there, or `elsewhere` knows that it will not be."""
        until, pause_s = time.monotonic() + within_s, FIRST_PAUSE_S
        while (found := await read()) is None and self._shared and time.monotonic() < until:
            if elsewhere is not None and await elsewhere() is not None:
                return None
            await asyncio.sleep(pause_s)
            pause_s *= 2
        return found

    async def _read(self, query: Callable[[Any], Any]) -> Any:
        """In turn with the writes, so that what was written is found."""

        def read() -> Any:
            with self._engine.connect() as connection:
                return query(connection)

        try:
            async with asyncio.timeout(READ_S):
                return await asyncio.wrap_future(self._thread.submit(read))
        except (SQLAlchemyError, TimeoutError) as exc:
            log.error("continuity_read_failed", error=said(exc) or f"took longer than {READ_S:g} s")
            raise LedgerUnavailable("what earlier requests left cannot be read just now; try again") from exc


def tidy(engine: Engine, days: int) -> None:
    """Deletes what was kept for longer than `days`."""
    before = time.time_ns() // 1000 - max(1, days) * DAY_US
    for table in (bindings, kept_answers):
        _write(engine, delete(table).where(table.c.made_at_us < before), None)


def _write(engine: Engine, statement: Any, rows: list[dict[str, Any]] | None) -> None:
    try:
        with engine.begin() as connection:
            connection.execute(statement, rows) if rows is not None else connection.execute(statement)
    except SQLAlchemyError as exc:  # memory still has it; only a restart would lose it
        log.error("continuity_write_failed", error=said(exc))


def _digest(team: str, token: str) -> bytes:
    return sha256(f"{team}\0{token}".encode()).digest()


def _size(answer: KeptAnswer) -> int:
    return len(answer.input) + len(answer.answer)
