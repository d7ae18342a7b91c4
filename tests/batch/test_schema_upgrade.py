"""Batches' tables of version 1 get what version 2 has when they are opened, and keep what they hold: on SQLite and PostgreSQL."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text

from batch import jobs, leases
from batch.jobs import Job
from batch.schema import VERSION, batch_rows, batch_version, bring_up
from batch.states import ENDS
from batch.store import Store
from ledger.database import open_engine

# The statements that version 1 made its tables with.
VERSION_1 = (
    (
        "CREATE TABLE batch_rows (batch_id VARCHAR(60) NOT NULL, line INTEGER NOT NULL, custom_id VARCHAR(200) NOT NULL, at BIGINT NOT NULL, "
        "size BIGINT NOT NULL, state VARCHAR(16) DEFAULT 'pending' NOT NULL, attempts INTEGER DEFAULT '0' NOT NULL, fence INTEGER DEFAULT '0' "
        "NOT NULL, worker VARCHAR(40), lease_until_us BIGINT, not_before_us BIGINT DEFAULT '0' NOT NULL, ended_at_us BIGINT, request_id "
        "VARCHAR(64), status_code INTEGER, target VARCHAR(200), cost_nusd BIGINT, answer BLOB, PRIMARY KEY (batch_id, line))"
    ),
    "CREATE INDEX batch_rows_by_state ON batch_rows (batch_id, state, line)",
    "CREATE TABLE batch_version (version INTEGER NOT NULL, PRIMARY KEY (version))",
    (
        "CREATE TABLE batches (id VARCHAR(60) NOT NULL, team VARCHAR(200) NOT NULL, key_id VARCHAR(64) NOT NULL, dialect VARCHAR(16) NOT NULL, "
        "endpoint VARCHAR(64) NOT NULL, source VARCHAR(60) NOT NULL, status VARCHAR(16) NOT NULL, window VARCHAR(16) NOT NULL, headers TEXT NOT "
        "NULL, metadata TEXT, errors TEXT, output_expires_s BIGINT, made_at_us BIGINT NOT NULL, expires_at_us BIGINT NOT NULL, in_progress_at_us "
        "BIGINT, cancelling_at_us BIGINT, finalizing_at_us BIGINT, ended_at_us BIGINT, total BIGINT DEFAULT '0' NOT NULL, succeeded BIGINT "
        "DEFAULT '0' NOT NULL, errored BIGINT DEFAULT '0' NOT NULL, cancelled BIGINT DEFAULT '0' NOT NULL, expired BIGINT DEFAULT '0' NOT NULL, "
        "input_tokens BIGINT DEFAULT '0' NOT NULL, cached_tokens BIGINT DEFAULT '0' NOT NULL, output_tokens BIGINT DEFAULT '0' NOT NULL, "
        "reasoning_tokens BIGINT DEFAULT '0' NOT NULL, cost_nusd BIGINT DEFAULT '0' NOT NULL, unpriced BIGINT DEFAULT '0' NOT NULL, repeated "
        "BIGINT DEFAULT '0' NOT NULL, output_file VARCHAR(40), error_file VARCHAR(40), worker VARCHAR(40), lease_until_us BIGINT, told_at_us "
        "BIGINT, PRIMARY KEY (id))"
    ),
    "CREATE INDEX batches_by_status ON batches (status)",
    "CREATE INDEX batches_by_team ON batches (team, made_at_us)",
    (
        "CREATE TABLE files (id VARCHAR(40) NOT NULL, team VARCHAR(200) NOT NULL, purpose VARCHAR(40) NOT NULL, filename VARCHAR(500) NOT NULL, "
        "size BIGINT NOT NULL, made_at_us BIGINT NOT NULL, expires_at_us BIGINT, PRIMARY KEY (id))"
    ),
    "CREATE INDEX files_by_expiry ON files (expires_at_us)",
    "CREATE INDEX files_by_team ON files (team, made_at_us)",
)
BATCH = """INSERT INTO batches (id, team, key_id, dialect, endpoint, source, status, "window", headers, made_at_us, expires_at_us, in_progress_at_us,
    total, succeeded, cost_nusd) VALUES ('batch_old', 'red', 'k', 'openai', '/v1/embeddings', 'file-1', 'in_progress', '24h', '[]', 1, 1000000, 2,
    3, 1, 70)"""
ROWS = (
    "INSERT INTO batch_rows (batch_id, line, custom_id, at, size, state, request_id, status_code, target, cost_nusd)"
    " VALUES ('batch_old', 1, 'a', 0, 10, 'succeeded', 'req_1', 200, 'one', 70)",
    "INSERT INTO batch_rows (batch_id, line, custom_id, at, size, state, worker, fence, lease_until_us)"
    " VALUES ('batch_old', 2, 'b', 10, 10, 'leased', 'gone', 4, 50)",
    "INSERT INTO batch_rows (batch_id, line, custom_id, at, size) VALUES ('batch_old', 3, 'c', 20, 10)",
)


def version_1(dialect: str) -> Iterator[str]:
    """As the dialect says it: PostgreSQL has texts of any length, and `window` is a word of its own there."""
    for statement in VERSION_1:
        if dialect == "postgresql":
            statement = re.sub(r"VARCHAR\(\d+\)", "TEXT", statement).replace("BLOB", "BYTEA").replace("window TEXT", '"window" TEXT')
        yield statement


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Of two new databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db"
    server = request.getfixturevalue("postgres")
    return server.database(), server.database()


@pytest.fixture
def old(urls: tuple[str, str]) -> Iterator[Engine]:
    """A database of version 1 with a batch that is in progress: a row that has its answer, one whose worker is gone, one that waits."""
    engine = open_engine(urls[0])
    with engine.begin() as connection:
        for statement in (*version_1(engine.dialect.name), "INSERT INTO batch_version VALUES (1)", BATCH, *ROWS):
            connection.execute(text(statement))
    yield engine
    engine.dispose()


def shape(engine: Engine) -> dict[str, Any]:
    """Columns and indexes of each table."""
    found = inspect(engine)
    return {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table)},
            {index["name"]: index["column_names"] for index in found.get_indexes(table)},
        )
        for table in found.get_table_names()
    }


def test_an_old_database_becomes_like_a_new_one(old: Engine, urls: tuple[str, str]) -> None:
    bring_up(old)
    new = open_engine(urls[1])
    bring_up(new)
    assert shape(old) == shape(new)
    with old.connect() as connection:
        assert connection.execute(select(batch_version.c.version)).scalars().all() == [VERSION]
    new.dispose()


def test_what_an_old_database_held_is_there_and_goes_on(old: Engine) -> None:
    bring_up(old)
    store = Store(old)
    batch = store.get("red", "batch_old")
    assert batch is not None and batch.status in ENDS and (batch.total, batch.succeeded, batch.cost_nusd, batch.plan) == (3, 1, 70, None)
    assert [row.line for row in jobs.waiting(old, batch.id)] == [3]
    assert leases.reclaim(old, "new", [batch.id], now_us=60) == 1
    assert jobs.planned(old, batch.id, "{}", {Job(id="job", batch_id=batch.id, provider="p", model="m", rows=1, made_at_us=1): [3]})
    assert [row.line for row in jobs.left_to(old, "job", 0)] == [3]
    assert [(row.line, row.fence) for row in leases.lease(old, batch.id, "new", 10, 60, 100)] == [(2, 5)]


def test_several_processes_may_bring_up_one_old_database_at_once(old: Engine, urls: tuple[str, str]) -> None:
    engines = [open_engine(urls[0]) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bring_up, engines))
    with old.connect() as connection:
        assert connection.execute(select(batch_version.c.version)).scalars().all() == [VERSION]
        assert connection.execute(select(batch_rows.c.job)).scalars().all() == [None] * 3
    for engine in engines:
        engine.dispose()
