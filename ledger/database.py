"""Opens a ledger's database, a SQLite file or a PostgreSQL server: its URL, its connections, its tables made or brought up to date once.

A URL may hold a password: what is shown of it never does.
"""

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert, inspect, make_url, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from ledger.schema import UPGRADED, VERSION, make_tables, schema_version

BUSY_TIMEOUT_S = 5.0  # how long another's lock on the file is waited for
EXAMPLE = "sqlite:///var/turnout.db or postgresql://USER:PASSWORD@HOST/DATABASE"
SERVER_FOLDER = Path("var")  # what a gateway keeps on its own disk, where the database has no folder

SCHEMA_LOCK = 0x7475726E6F7574  # "turnout": whoever makes or changes the tables holds it


# sqlite3 looks for how to adapt a value of these types anew each time, by attributes that they lack: half of a row's values are of them
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]
sqlite3.register_adapter(bool, int)


class LedgerError(Exception):
    """The database cannot be used as a ledger; the message says what to do."""


def _parsed(url: str) -> URL:
    """Raises LedgerError for a URL that a ledger cannot be kept in."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise LedgerError(f"what names the ledger is not a database's URL; use one such as {EXAMPLE}") from None
    if parsed.drivername == "postgresql":
        if not parsed.database:
            raise LedgerError(f"the ledger's URL names no database; use one such as {EXAMPLE}")
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise LedgerError(f"the ledger cannot be kept in {parsed.drivername!r}; use a URL such as {EXAMPLE}")
    if parsed.database in (None, "", ":memory:"):
        raise LedgerError(f"the ledger needs a file; use a URL such as {EXAMPLE}")
    return parsed.set(database=str(Path(str(parsed.database)).expanduser()))


def shown(url: str) -> str:
    """A ledger's URL without its password, or anything else that may be a secret. Raises LedgerError."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    where = {name: value for name, value in parsed.query.items() if name in ("host", "port")}
    return parsed.set(drivername="postgresql", query=where).render_as_string(hide_password=True)


def state_folder(url: str) -> Path:
    """Where a gateway keeps its own files: beside the database where that is one. Raises LedgerError."""
    parsed = _parsed(url)
    return Path(str(parsed.database)).parent if parsed.get_backend_name() == "sqlite" else SERVER_FOLDER


def spool_folder(url: str) -> Path:
    """Where rows wait for the database, unless it is named: a folder with the database's name. Raises LedgerError."""
    parsed = _parsed(url)
    name = str(parsed.database)
    return Path(name).with_suffix(".spool") if parsed.get_backend_name() == "sqlite" else SERVER_FOLDER / f"{quote(name, safe='')}.spool"


def is_there(url: str) -> bool:
    """Whether there is a ledger already. Raises LedgerError; also for a server that cannot be asked."""
    parsed = _parsed(url)
    if parsed.get_backend_name() == "sqlite":
        return Path(str(parsed.database)).exists()
    engine = _engine(parsed)
    try:
        with engine.connect() as connection:
            return _version(connection) is not None
    except SQLAlchemyError as exc:
        raise _cannot_be_opened(url, exc) from exc
    finally:
        engine.dispose()


def open_engine(url: str) -> Engine:
    """An engine for a ledger's database, its folder and tables made where they are missing. Raises LedgerError."""
    parsed = _parsed(url)
    engine = _engine(parsed)
    try:
        if parsed.get_backend_name() == "sqlite":
            file = Path(str(parsed.database))
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not file.exists():
                file.touch(mode=0o600)  # it holds conversations
        with engine.connect() as connection:
            version = _version(connection)
            if version is None or version in UPGRADED:
                version = _brought_up(connection)
    except (SQLAlchemyError, OSError) as exc:
        engine.dispose()
        raise _cannot_be_opened(url, exc) from exc
    if version != VERSION:
        engine.dispose()
        raise LedgerError(f"the ledger's database {shown(url)!r} has version {version}; this gateway writes version {VERSION}: name another database")
    return engine


def _cannot_be_opened(url: str, exc: Exception) -> LedgerError:
    return LedgerError(f"the ledger's database {shown(url)!r} cannot be opened: {said(exc)}")


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    from ledger import postgresql as server

    options = {name: value for name, value in server.OPTIONS.items() if name not in url.query}
    engine = create_engine(url, connect_args=options, paramstyle="format", hide_parameters=True)
    event.listen(engine, "connect", server.prepare)
    return engine


def _version(connection: Connection) -> int | None:
    return connection.execute(select(schema_version.c.version)).scalar() if inspect(connection).has_table(schema_version.name) else None


def _brought_up(connection: Connection) -> int | None:
    """Makes what is missing, and gives the version; one process at a time, for several may start with the same database."""
    connection.rollback()
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SET LOCAL lock_timeout = 0"))  # whoever is at it needs as long as it needs
        connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
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


def upsert(connection: Connection | Engine, table: Table) -> Any:
    """An INSERT that has the dialect's ON CONFLICT clauses."""
    return (sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert)(table)


def blames_row(engine: Engine, error: Exception) -> bool:
    """Whether a driver's error says that no database would take that row; else it is the database's fault."""
    driver: Any = engine.dialect.loaded_dbapi
    if isinstance(error, driver.IntegrityError | driver.DataError | OverflowError | ValueError | TypeError):
        return True
    if engine.dialect.name == "sqlite":
        return isinstance(error, driver.InterfaceError | driver.ProgrammingError)
    return isinstance(error, driver.ProgrammingError) and error.sqlstate is None  # a value that psycopg knows no type for


def said(error: BaseException) -> str:
    """A driver's error without what PostgreSQL adds in further lines, where a row's values may be."""
    return str(getattr(error, "orig", error)).partition("\n")[0]


@contextmanager
def cut_after(connection: Any, limit_s: float) -> Iterator[None]:
    """Ends a driver's connection to a server that does not answer in time, so that who waits for it gets an error. A file is left as it is."""
    if not hasattr(connection, "fileno"):
        yield
        return
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        timer = threading.Timer(limit_s, _shut, [twin])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _shut(twin: socket.socket) -> None:
    with suppress(OSError):  # just closed
        twin.shutdown(socket.SHUT_RDWR)
