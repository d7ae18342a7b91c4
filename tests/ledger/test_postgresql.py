"""What is PostgreSQL's own: how it is opened, what it would refuse, and that a group is there once whatever becomes of server and connection."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import Engine

from ledger.alerts import Alert, claim, note
from ledger.database import LedgerError, is_there, open_engine, shown, spool_folder, state_folder
from ledger.queries import attempts_of
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.schema import VERSION
from ledger.store import Ledger
from ledger.upkeep import analyse
from ledger.writer import GroupWriter
from tests.ledger.rows import emptied, row
from tests.ledger.test_store import BAD, ROOT, ROUND_TRIPS, same
from tests.postgres_server import PASSWORD, PostgresServer, rows


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> str:
    return postgres.database()


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    emptied(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine, url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(url, spool=tmp_path)
    yield ledger
    ledger.close()


def names(url: str) -> list[str]:
    return [name for (name,) in rows(url, "SELECT request_id FROM attempts ORDER BY 1")]


# --- rows ------------------------------------------------------------------------------------------------------------------
def test_every_row_comes_back_as_it_went_in_but_for_a_nul(ledger: Ledger) -> None:
    given = [replace(one, request_id=f"req_{number}") for number, one in enumerate(ROUND_TRIPS.values())]
    for one in given:
        ledger.append(one)
    assert ledger.flush() and not ledger.dropped
    for one in given:
        (found,) = attempts_of(ledger.engine, one.request_id, None)
        assert same(found, replace(one, model_asked=one.model_asked.replace("\0", "\ufffd")))


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_row_is_counted_and_stops_nothing(url: str, ledger: Ledger, bad: AttemptRow) -> None:
    ledger.append(row("req_first"))
    assert ledger.flush()
    for one in (row("req_before"), bad, *(row(f"req_{number}") for number in range(5))):
        ledger.append(one)
    assert ledger.flush()
    assert names(url) == [*(f"req_{number}" for number in range(5)), "req_before", "req_first"]
    assert ledger.dropped == 1 and ledger.pending == 0 and ledger.last_error is None


def test_a_row_that_is_refused_is_told_without_its_values(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        ledger.append(row("req_1", upstream_id="a secret"))
    assert ledger.flush() and ledger.dropped == 1
    told = capsys.readouterr().out
    assert "duplicate key" in told and "DETAIL" not in told and "a secret" not in told


def test_an_alert_is_claimed_by_one_process_alone(engine: Engine, url: str) -> None:
    note(engine, [Alert(f"a{number}", "team", "red", "day", 0, 0.5, 10, 5, "reject", number) for number in range(3)])
    other = open_engine(url)
    assert [each.id for each in claim(engine)] == ["a0", "a1", "a2"] and claim(other) == []
    other.dispose()


# --- once ------------------------------------------------------------------------------------------------------------------
def test_a_commit_whose_outcome_was_never_heard_leaves_every_row_once(engine: Engine, url: str) -> None:
    """The server takes a second for each commit, and the writer waits for less."""
    rows(url, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'")
    rows(url, "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON stale_spans DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()")
    writer, group = GroupWriter(engine, cut_after_s=0.3), [row(f"req_{number}") for number in range(30)]
    with pytest.raises(psycopg.OperationalError):
        writer.write(group)
    rows(url, "DROP FUNCTION slow CASCADE")  # waits until that commit is over
    assert len(names(url)) == 30, "it had come to pass"
    assert writer.write(group) == [] and writer.write([row("req_later")]) == []
    assert len(names(url)) == 31
    (((name, _), _),) = writer.write([row("req_later")])
    assert name == "req_later", "what is no doubt is told again"


def test_a_server_that_answers_nothing_is_one_that_fails(engine: Engine, url: str, postgres: PostgresServer) -> None:
    writer, group = GroupWriter(engine, cut_after_s=0.3), [row("req_1"), row("req_2")]
    assert writer.write([row("req_0")]) == []
    postgres.signal_all(signal.SIGSTOP)
    try:
        with pytest.raises(psycopg.OperationalError):
            writer.write(group)
    finally:
        postgres.signal_all(signal.SIGCONT)
    assert writer.write(group) == [] and names(url) == ["req_0", "req_1", "req_2"]


# --- opening ---------------------------------------------------------------------------------------------------------------
OPENER = "import sys; from ledger.database import open_engine; sys.stdin.read(1); open_engine(sys.argv[1]).dispose()"


def test_several_processes_may_open_a_new_database_at_once(postgres: PostgresServer) -> None:
    new = postgres.database()
    assert not is_there(new)
    started = [subprocess.Popen([sys.executable, "-c", OPENER, new], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(b"x", timeout=60)[1] for process in started] == [b""] * 3
    assert is_there(new) and rows(new, "SELECT version FROM schema_version") == [(VERSION,)]
    assert rows(new, "SELECT count(*) FROM rollup_state") == [(1,)]


def test_a_database_of_a_later_version_is_refused_without_its_password(postgres: PostgresServer) -> None:
    new = postgres.database()
    open_engine(new).dispose()
    rows(new, "UPDATE schema_version SET version = %s", VERSION + 1)
    with pytest.raises(LedgerError, match=f"has version {VERSION + 1}; this gateway writes version {VERSION}") as caught:
        open_engine(new)
    assert "canary" not in str(caught.value)


def test_no_error_shows_the_password(postgres: PostgresServer) -> None:
    good = postgres.url("turnout_1")
    for bad, says in (
        (good.replace("canary", "canary-wrong"), "password authentication failed"),
        (good.replace("turnout_1", "none"), 'database "none" does not exist'),
        (re.sub(r":\d+/", ":1/", good), "Connection refused"),
        (good + "?sslmode=canary", "sslmode"),
        (good.replace("turnout_1", ""), "names no database"),
        (good.replace("postgresql:", "postgresq:"), "cannot be kept in 'postgresq'"),
        (good.replace("127.0.0.1:", "127.0.0.1:canary"), "is not a database's URL"),
    ):
        for ask in (open_engine, is_there):
            with pytest.raises(LedgerError, match=says) as caught:
                ask(bad)
            assert PASSWORD not in str(caught.value) and "pg-canary" not in str(caught.value)


def test_what_is_shown_of_a_url_is_where_it_leads() -> None:
    url = "postgresql://me:secret@db.example:5433/ledger?sslmode=require&sslpassword=canary"
    assert shown(url) == "postgresql://me:***@db.example:5433/ledger"
    assert shown("postgresql:///ledger?host=/run/postgresql") == "postgresql:///ledger?host=%2Frun%2Fpostgresql"
    assert (state_folder(url), spool_folder(url)) == (Path("var"), Path("var/ledger.spool"))
    assert shown("sqlite:///var/turnout.db") == "sqlite:///var/turnout.db" and state_folder("sqlite:///a/turnout.db") == Path("a")


def test_the_planner_is_told_what_rollups_there_are(ledger: Ledger, url: str) -> None:
    """`reltuples` is -1 of a table that was never looked at, and such small ones autovacuum does not look at."""
    for number in range(5):
        ledger.append(row(f"req_{number}", started_at_us=1_700_000_000_000_000 + number * 3_600_000_000))
    assert ledger.flush() and roll_up(ledger.engine, 1_800_000_000)
    analyse(ledger.engine)
    found = dict(rows(url, "SELECT relname, reltuples FROM pg_class WHERE relname LIKE '%%_rollups' OR relname LIKE '%%_summaries'"))
    made = {name: count for name, count in found.items() if name in {"usage_rollups", "latency_rollups", "usage_summaries", "latency_summaries"}}
    assert len(made) == 4 and min(made.values()) >= 0 and min(made["usage_rollups"], made["usage_summaries"]) > 0
