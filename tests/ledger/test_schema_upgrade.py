"""A database of an older version gets what it lacks when it is opened, and keeps what it holds."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from contract.usage import Usage
from ledger.database import open_engine
from ledger.queries import attempts_of, spend
from ledger.rollups import roll_up
from ledger.schema import VERSION
from ledger.store import Ledger
from ledger.summed import summed
from ledger.window import Window
from tests.ledger.rows import STARTED_AT_US, row, sql, url_of

ROOT = Path(__file__).parent.parent.parent

# The statements that versions 1 and 2 made their tables with.
ATTEMPTS = """CREATE TABLE attempts (
    request_id VARCHAR(64) NOT NULL, attempt INTEGER NOT NULL, started_at_us BIGINT NOT NULL, team VARCHAR(200) NOT NULL,
    key_id VARCHAR(64) NOT NULL, endpoint VARCHAR(64) NOT NULL, stream BOOLEAN NOT NULL, model_asked VARCHAR(500) NOT NULL,
    route VARCHAR(500) NOT NULL, target VARCHAR(200) NOT NULL, model_sent VARCHAR(500) NOT NULL, status VARCHAR(32) NOT NULL,
    reason VARCHAR(100) NOT NULL, error_code VARCHAR(100), http_status INTEGER, client_status INTEGER, queue_us BIGINT, connect_us BIGINT,
    headers_us BIGINT, first_token_us BIGINT, end_us BIGINT, input_uncached BIGINT, cache_read BIGINT, cache_write_5m BIGINT,
    cache_write_1h BIGINT, audio_input BIGINT, output_visible BIGINT, reasoning BIGINT, audio_output BIGINT, server_tool_calls BIGINT,
    usage_source VARCHAR(16), usage_raw TEXT, cost_nusd BIGINT, finish_reason VARCHAR(32), native_finish_reason VARCHAR(100),
    upstream_id VARCHAR(200), bytes_request BIGINT NOT NULL, bytes_upstream BIGINT NOT NULL, bytes_client BIGINT NOT NULL,
    PRIMARY KEY (request_id, attempt)
)"""
VERSION_1 = (
    ATTEMPTS,
    "CREATE INDEX attempts_by_time ON attempts (started_at_us)",
    "CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version))",
)
VERSION_2 = (
    *VERSION_1,
    "CREATE TABLE bindings (digest BLOB NOT NULL, target VARCHAR(700) NOT NULL, made_at_us BIGINT NOT NULL, PRIMARY KEY (digest))",
    "CREATE TABLE kept_answers (id VARCHAR(200) NOT NULL, team VARCHAR(200) NOT NULL, model VARCHAR(500) NOT NULL, made_at_us BIGINT NOT NULL,"
    " input BLOB NOT NULL, answer BLOB NOT NULL, PRIMARY KEY (id))",
)
OLD = {1: VERSION_1, 2: VERSION_2}
INSERT = """INSERT INTO attempts (request_id, attempt, started_at_us, team, key_id, endpoint, stream, model_asked, route, target, model_sent,
    status, reason, end_us, input_uncached, output_visible, usage_source, cost_nusd, bytes_request, bytes_upstream, bytes_client)
    VALUES ('req_old', 1, ?, 'red', 'key_1', 'chat.completions', 0, 'solo', 'solo', 'one', 'gpt-5', 'ok', 'first in order', 900, 10, 5, 'provider',
    70, 1, 2, 3)"""
COUNTED = Usage(input_uncached=10, output_visible=5)
OLD_ROW = row("req_old", end_us=900, usage=COUNTED, cost_nusd=70, bytes_request=1, bytes_upstream=2, bytes_client=3)


@pytest.fixture(params=OLD, ids=lambda version: f"version {version}")
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of an older version with one row in it."""
    file = tmp_path / "turnout.db"
    for statement in OLD[request.param]:
        sql(file, statement)
    sql(file, "INSERT INTO schema_version VALUES (?)", request.param)
    sql(file, INSERT, STARTED_AT_US)
    return file


def shape(file: Path) -> dict[str, list[tuple[object, ...]]]:
    names = [name for (name,) in sql(file, "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name")]
    return {name: sorted(column[1:] for column in sql(file, f"PRAGMA table_info({name})")) for name in names}  # in whichever order


def test_an_older_database_has_the_shape_of_a_new_one_once_it_was_opened(old: Path, tmp_path: Path) -> None:
    open_engine(url_of(old)).dispose()
    open_engine(url_of(tmp_path / "new.db")).dispose()
    assert shape(old) == shape(tmp_path / "new.db")
    assert sql(old, "SELECT version FROM schema_version") == [(VERSION,)]


def test_an_older_row_is_the_team_s_and_was_never_predicted(old: Path) -> None:
    engine = open_engine(url_of(old))
    assert attempts_of(engine, "req_old", None) == [OLD_ROW]
    engine.dispose()


def test_a_row_with_a_decision_stands_beside_an_older_one(old: Path) -> None:
    ledger = Ledger(url_of(old))
    ledger.append(row("req_new", predicted_ttft_us=5, billed="gateway", decision=msgspec.Raw(b'{"policy":"p"}')))
    assert ledger.flush() and not ledger.dropped
    (found,) = attempts_of(ledger.engine, "req_new", None)
    assert isinstance(found.decision, msgspec.Raw) and bytes(found.decision) == b'{"policy":"p"}'
    assert spend(ledger.engine, 0, "team")[0].requests == 2
    ledger.close()


def test_a_program_of_the_older_version_that_still_runs_can_go_on_writing(old: Path) -> None:
    open_engine(url_of(old)).dispose()
    sql(old, INSERT.replace("req_old", "req_more"), STARTED_AT_US)
    assert sql(old, "SELECT billed, decision FROM attempts") == [("team", None)] * 2


def test_a_database_that_was_brought_up_is_not_touched_again(old: Path) -> None:
    open_engine(url_of(old)).dispose()
    before = sql(old, "PRAGMA schema_version")
    open_engine(url_of(old)).dispose()
    assert sql(old, "PRAGMA schema_version") == before


OPENER = "import sys; from ledger.database import open_engine; sys.stdin.read(1); open_engine(sys.argv[1]).dispose()"


def test_several_processes_may_bring_up_one_database_at_once(old: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPENER, url_of(old)], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.communicate(b"x", timeout=30)[1] for process in started] == [b""] * 3
    assert sql(old, "SELECT version FROM schema_version") == [(VERSION,)]


def test_the_tokens_without_a_price_of_older_roll_ups_are_added_up_again(tmp_path: Path) -> None:
    file, used = tmp_path / "turnout.db", Usage(input_uncached=500, output_visible=100)
    ledger = Ledger(url_of(file))
    for number, cost in enumerate((70, None, 80)):
        ledger.append(row(f"req_{number}", started_at_us=STARTED_AT_US + number * 3_600_000_000, usage=used, cost_nusd=cost))
    assert ledger.flush()
    ledger.close()
    until_us = STARTED_AT_US + 10 * 86_400_000_000

    def rolled_up() -> list[tuple[int, int | None]]:
        engine = open_engine(url_of(file))
        assert roll_up(engine, until_us / 1e6)
        found = [(sums.unpriced, sums.unpriced_tokens) for sums in summed(engine, Window(0, until_us), ("day",), until_us / 1e6)]
        engine.dispose()
        return found

    assert rolled_up() == [(1, 600)]
    for table in ("usage_rollups", "usage_summaries"):
        sql(file, f"ALTER TABLE {table} DROP COLUMN unpriced_tokens")
    sql(file, "UPDATE schema_version SET version = 13")
    open_engine(url_of(file)).dispose()
    assert sql(file, "SELECT count(*) FROM stale_spans") == [(1,)], "of the minute in which there was one"
    assert rolled_up() == [(1, 600)]
