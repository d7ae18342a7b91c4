"""Writes groups of rows, a transaction each: without those that no database would take, and once even where a commit's outcome was never heard."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Protocol

import msgspec
import structlog
from msgspec.structs import astuple
from sqlalchemy import Connection, Engine, Table

from ledger.database import blames_row, cut_after
from ledger.rollups import US, minute_of, stale
from ledger.row import AttemptRow
from ledger.schema import USAGE_CLASSES, attempts, stale_spans

BLOCKS = (32, 16, 8, 4, 2, 1)  # rows in one statement of SQLite
MOST_SHAPES = 64  # sets of columns whose statements are kept
CUT_AFTER_S = 30.0  # a server that has not taken a group by then is one that fails

Values = tuple[Any, ...]  # of a row, in the table's order: its name, which is request id and attempt, comes first
Refused = tuple[tuple[str, int], Exception]

log = structlog.get_logger("turnout.ledger")


class Joined(Protocol):
    """Rows that are written together with something else in the same database, or not at all."""

    def write(self, connection: Connection) -> Sequence[AttemptRow]:
        """Called in the transaction, by the ledger's thread, again when that failed. It begins with a change, and gives the rows."""

    def ended(self, error: Exception | None) -> None:
        """It is committed; or, with an error, it will never be. By the same thread."""


class GroupWriter:
    """Called by the ledger's thread alone. Whatever it raises is the database's fault, and nothing of the group is known to be written."""

    def __init__(self, engine: Engine, cut_after_s: float = CUT_AFTER_S) -> None:
        self._engine = engine
        self._cut_after_s = cut_after_s
        self._statements: dict[tuple[str, ...], dict[int, str]] = {}  # by the columns that are set, and by rows
        self._stale = _insert(engine, stale_spans)
        self._in_doubt = False  # the last commit broke off: its rows may be there

    def write(self, group: Sequence[AttemptRow]) -> list[Refused]:
        """The rows that no database would take come back, the others are safe."""
        rows, refused = _told_values(group)
        with self._transaction() as cursor:
            self._note_stale(cursor, (row.started_at_us for row in group))
            refused += self._insert_some(cursor, rows, missing=self._in_doubt)
            self._in_doubt = True
        self._in_doubt = False
        return refused

    def write_missing(self, rows: Sequence[Mapping[str, Any]]) -> list[Refused]:
        """Those that have no row yet. Rows of an older version have the defaults of the columns that it lacked."""
        with self._transaction() as cursor:
            cursor.execute("SELECT purged_s FROM rollup_state")
            purged_us = cursor.fetchone()[0] * US
            rows = [row for row in rows if row["started_at_us"] >= purged_us]
            self._note_stale(cursor, (row["started_at_us"] for row in rows))
            told = [tuple(row.get(name, DEFAULTS[name]) for name in COLUMNS) for row in rows]
            return self._insert_some(cursor, told, missing=True) if told else []

    def write_joined(self, joined: "Joined") -> tuple[list[tuple[str, int]], list[Refused]]:
        """What somebody else has to write, and the rows that belong to it, in one transaction: the names of these, and which no database would take.

        Once even where a commit's outcome was never heard, as far as `joined` can be written twice.
        """
        with self._engine.connect() as connection:
            raw = connection.connection
            try:
                with cut_after(raw.dbapi_connection, self._cut_after_s), connection.begin():
                    rows = joined.write(connection)
                    told, refused = _told_values(rows)
                    cursor = raw.cursor()
                    self._note_stale(cursor, (row.started_at_us for row in rows))
                    refused += self._insert_some(cursor, told, missing=True) if told else []
            except BaseException:
                with suppress(Exception):
                    connection.invalidate()
                raise
        return [(row.request_id, row.attempt) for row in rows], refused

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        connection = self._engine.raw_connection()
        try:
            with cut_after(connection.dbapi_connection, self._cut_after_s):
                yield connection.cursor()
                connection.commit()
        except BaseException:
            with suppress(Exception):  # the error that matters is the first one
                connection.rollback()
            with suppress(Exception):
                connection.invalidate()  # nobody knows what state it is in
            raise
        finally:
            connection.close()

    def _note_stale(self, cursor: Any, times_us: Iterable[int]) -> None:
        cursor.executemany(self._stale, [tuple(entry.values()) for entry in stale({minute_of(at_us) for at_us in times_us})])

    def _insert_some(self, cursor: Any, rows: Sequence[Values], missing: bool) -> list[Refused]:
        """All but those that no database would take: halved until each of them is alone."""
        cursor.execute("SAVEPOINT part")
        try:
            self._insert_all(cursor, rows, missing)
        except Exception as exc:
            if not blames_row(self._engine, exc):
                raise
            cursor.execute("ROLLBACK TO SAVEPOINT part")
            cursor.execute("RELEASE SAVEPOINT part")
            if len(rows) == 1:
                return [(rows[0][:2], exc)]
            half = len(rows) // 2
            return self._insert_some(cursor, rows[:half], missing) + self._insert_some(cursor, rows[half:], missing)
        cursor.execute("RELEASE SAVEPOINT part")
        return []

    def _insert_all(self, cursor: Any, rows: Sequence[Values], missing: bool) -> None:
        """A block of rows a statement: the driver gives up Python's lock at each one, and the event loop runs on the same processor.

        Columns that are null in all of them are left out: to bind a null costs as much as to bind a value, and half of a row's values are nulls.
        """
        if self._engine.dialect.name == "postgresql":
            from ledger import postgresql

            postgresql.insert(cursor, attempts.name, COLUMNS, rows, missing)
            return
        ending = " ON CONFLICT DO NOTHING" if missing else ""
        columns = dict(zip(COLUMNS, zip(*rows, strict=True), strict=True))
        used = {name: column for name, column in columns.items() if column[0] is not None or column.count(None) < len(rows)}
        statements, told, start = self._inserting(tuple(used)), list(zip(*used.values(), strict=True)), 0
        for size in BLOCKS:
            while len(told) - start >= size:
                cursor.execute(statements[size] + ending, list(chain.from_iterable(told[start : start + size])))
                start += size

    def _inserting(self, names: tuple[str, ...]) -> dict[int, str]:
        found = self._statements.get(names)
        if found is None:
            if len(self._statements) >= MOST_SHAPES:
                self._statements.clear()
            into, places = f"INSERT INTO {attempts.name} ({', '.join(names)}) VALUES ", f"({', '.join('?' * len(names))})"
            found = self._statements[names] = {size: into + ", ".join([places] * size) for size in BLOCKS}
        return found


def _told_values(group: Sequence[AttemptRow]) -> tuple[list[Values], list[Refused]]:
    rows: list[Values] = []
    refused: list[Refused] = []
    for row in group:
        try:
            rows.append(values(row))
        except (ValueError, TypeError) as exc:
            refused.append(((row.request_id, row.attempt), exc))
    return rows, refused


def _insert(engine: Engine, table: Table) -> str:
    return str(table.insert().compile(dialect=engine.dialect, column_keys=[column.name for column in table.columns]))


def tell(what: str, **fields: Any) -> None:
    with suppress(Exception):  # a log that cannot be written must not end the thread
        log.error(what, **fields)


COLUMNS = [str(column.name) for column in attempts.columns]
DEFAULTS = {column.name: getattr(column.server_default, "arg", None) for column in attempts.columns}
_USAGE_AT = AttemptRow.__struct_fields__.index("usage")  # AttemptRow and Usage list their fields in the table's order; a test holds them to it
_NO_USAGE = (None,) * (len(USAGE_CLASSES) + 3)


def values(row: AttemptRow) -> tuple[Any, ...]:
    """A row's column values, in the table's order; the decision, which is its last field, as JSON."""
    *plain, decision = astuple(row)
    usage = row.usage
    if usage is None:
        counted: tuple[Any, ...] = _NO_USAGE
    else:
        *classes, source, raw, tier = astuple(usage)
        counted = (*classes, source, bytes(raw).decode() if raw else None, tier)
    return (*plain[:_USAGE_AT], *counted, *plain[_USAGE_AT + 1 :], None if decision is None else _told(decision))


def _told(decision: Any) -> str | None:
    """A decision as JSON; one that cannot be told must not cost the row."""
    try:
        return msgspec.json.encode(decision() if callable(decision) else decision).decode()
    except Exception as exc:  # noqa: BLE001 - it was made elsewhere, and whatever it raises is not the database's fault
        tell("ledger_decision_untold", error=f"{type(exc).__name__}: {exc}")
        return None
