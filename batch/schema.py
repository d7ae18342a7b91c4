"""The tables of files, batches and their rows, in the ledger's database; their version is their own.

Times are Unix microseconds, money integer nano-dollars; null: not yet, or not known.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
    text,
)

VERSION = 2
SCHEMA_LOCK = 0x6261746368  # "batch": whoever makes the tables holds it

metadata = MetaData()


def _string(length: int) -> String:
    """The length is what is expected: PostgreSQL must not refuse a client's longer name."""
    return String(length).with_variant(Text(), "postgresql")


files = Table(
    "files",
    metadata,
    Column("id", _string(40), primary_key=True),
    Column("team", _string(200), nullable=False),
    Column("purpose", _string(40), nullable=False),
    Column("filename", _string(500), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger),
    Index("files_by_team", "team", "made_at_us"),
    Index("files_by_expiry", "expires_at_us"),
)

TALLIES = ("succeeded", "errored", "cancelled", "expired")  # rows that came to such an end
SUMS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_nusd", "unpriced", "repeated")

# `source`: the file that holds the rows. `headers`, `metadata`, `errors`: JSON. `worker`: who checks or finishes it until `lease_until_us`.
# `plan`: JSON, where its rows are to run; null: that is not decided yet.
# `unpriced`: rows with an answer whose cost is not known. `repeated`: rows whose worker died under them, so that they were asked again.
batches = Table(
    "batches",
    metadata,
    Column("id", _string(60), primary_key=True),
    Column("team", _string(200), nullable=False),
    Column("key_id", _string(64), nullable=False),
    Column("dialect", _string(16), nullable=False),
    Column("endpoint", _string(64), nullable=False),
    Column("source", _string(60), nullable=False),
    Column("status", _string(16), nullable=False),
    Column("window", _string(16), nullable=False),
    Column("headers", Text, nullable=False),
    Column("metadata", Text),
    Column("errors", Text),
    Column("output_expires_s", BigInteger),
    Column("made_at_us", BigInteger, nullable=False),
    Column("expires_at_us", BigInteger, nullable=False),
    Column("in_progress_at_us", BigInteger),
    Column("cancelling_at_us", BigInteger),
    Column("finalizing_at_us", BigInteger),
    Column("ended_at_us", BigInteger),
    Column("total", BigInteger, nullable=False, server_default="0"),
    *(Column(name, BigInteger, nullable=False, server_default="0") for name in (*TALLIES, *SUMS)),
    Column("plan", Text),
    Column("output_file", _string(40)),
    Column("error_file", _string(40)),
    Column("worker", _string(40)),
    Column("lease_until_us", BigInteger),
    Column("told_at_us", BigInteger),
    Index("batches_by_team", "team", "made_at_us"),
    Index("batches_by_status", "status"),
)

# `line`: from 1. `at`, `size`: its bytes in the batch's file. `fence` grows with every lease: who writes with an older one is late.
# `answer`: the body that its caller gets, until it stands in the batch's file. `job`: the provider's job that it is left to; such a row is not asked.
batch_rows = Table(
    "batch_rows",
    metadata,
    Column("batch_id", _string(60), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", _string(200), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("state", _string(16), nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("worker", _string(40)),
    Column("lease_until_us", BigInteger),
    Column("not_before_us", BigInteger, nullable=False, server_default="0"),
    Column("ended_at_us", BigInteger),
    Column("request_id", _string(64)),
    Column("status_code", Integer),
    Column("target", _string(200)),
    Column("cost_nusd", BigInteger),
    Column("answer", LargeBinary),
    Column("job", _string(40)),
    Index("batch_rows_by_state", "batch_id", "state", "line"),
)
_LEFT = batch_rows.c.job.is_not(None)
BY_JOB = Index("batch_rows_by_job", batch_rows.c.job, batch_rows.c.line, sqlite_where=_LEFT, postgresql_where=_LEFT)

# A provider's job for some rows of a batch, or several where they do not fit into one. `parts`: JSON, each part's submission, and what it became;
# null: they are not made yet. `open`: something of it is still to come. `worker`: who looks after it until `lease_until_us`.
batch_jobs = Table(
    "batch_jobs",
    metadata,
    Column("id", _string(40), primary_key=True),
    Column("batch_id", _string(60), nullable=False),
    Column("provider", _string(200), nullable=False),
    Column("model", _string(200), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("open", Boolean, nullable=False),
    Column("parts", Text),
    Column("worker", _string(40)),
    Column("lease_until_us", BigInteger),
    Index("batch_jobs_by_batch", "batch_id"),
)

batch_version = Table("batch_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))


class BatchTablesTooNew(Exception):
    """The database's batch tables are of a version that this gateway does not know."""


def bring_up(engine: Engine) -> None:
    """Makes the tables that are missing; one process at a time. Raises SQLAlchemyError, BatchTablesTooNew."""
    with engine.connect() as connection:
        if _version(connection) == VERSION:
            return
        connection.rollback()
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
        version = _version(connection)
        if version is None:
            metadata.create_all(connection)
            connection.execute(batch_version.insert(), {"version": VERSION})
        elif version == 1:
            _to_2(connection)
        elif version != VERSION:
            raise BatchTablesTooNew(f"the database's batches have version {version}; this gateway writes version {VERSION}: name another database")
        connection.commit()


def _to_2(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE batches ADD COLUMN plan TEXT")
    connection.exec_driver_sql(f"ALTER TABLE batch_rows ADD COLUMN job {batch_rows.c.job.type.compile(connection.dialect)}")
    BY_JOB.create(connection)
    batch_jobs.create(connection)
    connection.execute(batch_version.update().values(version=VERSION))


def _version(connection: Connection) -> int | None:
    return connection.execute(select(batch_version.c.version)).scalar() if inspect(connection).has_table(batch_version.name) else None
