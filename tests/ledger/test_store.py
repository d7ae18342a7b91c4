"""What is appended gets to the disk once, in groups, without the caller ever waiting; whatever is lost is counted."""

import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from contract.raw import ABSENT
from contract.usage import Usage
from ledger.database import LedgerError, open_engine
from ledger.queries import all_attempts, attempts_of
from ledger.row import AttemptRow
from ledger.schema import USAGE_CLASSES, VERSION, attempts
from ledger.store import MAX_DECISIONS, Ledger
from tests.ledger.rows import FULL_ROW, row, sql, url_of

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "turnout.db"


@pytest.fixture
def ledger(file: Path) -> Iterator[Ledger]:
    made = Ledger(url_of(file))
    yield made
    made.close()


def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.005)


def ids(file: Path) -> list[tuple[str, int]]:
    return [(name, attempt) for name, attempt in sql(file, "SELECT request_id, attempt FROM attempts ORDER BY rowid")]


class Broken:
    """A database whose table is gone until it is mended: every write fails at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        sql(file, "ALTER TABLE attempts RENAME TO attempts_away")

    def mend(self) -> None:
        sql(self.file, "ALTER TABLE attempts_away RENAME TO attempts")


class Locked:
    """A database that another connection holds for itself."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)
        self._connection.execute("BEGIN EXCLUSIVE")

    def release(self) -> None:
        self._connection.execute("COMMIT")
        self._connection.close()


# --- what is written -------------------------------------------------------------------------------------------------------
def test_what_is_appended_is_on_disk_within_a_moment(file: Path, ledger: Ledger) -> None:
    for number in range(3):
        ledger.append(row(attempt=number))
        until(lambda count=number + 1: sql(file, "SELECT count(*) FROM attempts") == [(count,)], within_s=1.0)
    until(lambda: ledger.pending == 0)
    assert ledger.dropped == 0 and ledger.last_error is None


def same(left: AttemptRow, right: AttemptRow) -> bool:
    """Raw JSON is told apart byte by byte; the rest as structs."""

    def parts(found: AttemptRow) -> tuple[Any, ...]:
        raw = found.usage.raw if found.usage else None
        usage = msgspec.structs.replace(found.usage, raw=ABSENT) if found.usage else None
        decision = None if found.decision is None else msgspec.json.encode(found.decision)
        return msgspec.structs.replace(found, usage=usage, decision=None), bytes(raw) if raw else None, decision

    return parts(left) == parts(right)


ROUND_TRIPS = {
    "every field": FULL_ROW,
    "no optional field": row(),
    "no usage": row(usage=None, cost_nusd=None),
    "usage of nothing known": row(usage=Usage()),
    "partial usage": row(usage=Usage(input_uncached=5, output_visible=None)),
    "usage of zeros": row(usage=Usage(**dict.fromkeys(USAGE_CLASSES, 0)), cost_nusd=0),
    "raw usage alone": row(usage=Usage(raw=msgspec.Raw(b'{"tokens": 1e3}'))),
    "times of zero": row(queue_us=0, connect_us=0, headers_us=0, first_token_us=0, end_us=0),
    "attempt zero": row(attempt=0, status="failed", error_code="no_target", target=""),
    "the client left": row(status="client_closed", error_code="client_closed", client_status=499),
    "a predicted share of zero": row(predicted_p_slo=0.0, predicted_cost_nusd=0),
    "an attempt that lost its race": row(status="abandoned", billed="gateway"),
    "odd text": row(model_asked="\x00\t'\"\\ 模型 🚃", team="", upstream_id="x" * 100_000),
}


@pytest.mark.parametrize("given_", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_a_row_comes_back_as_it_went_in(ledger: Ledger, given_: AttemptRow) -> None:
    ledger.append(given_)
    assert ledger.flush()
    found = attempts_of(ledger.engine, given_.request_id, None)
    assert len(found) == 1 and same(found[0], given_), found


NUMBERS = st.none() | st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
USAGES = st.builds(
    Usage,
    **dict.fromkeys(USAGE_CLASSES, NUMBERS),
    source=st.sampled_from(["provider", "estimated"]),
    raw=st.just(ABSENT) | st.dictionaries(TEXT, TEXT).map(lambda data: msgspec.Raw(msgspec.json.encode(data))),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.none() | USAGES, NUMBERS, TEXT, st.booleans()), min_size=1, max_size=10))
def test_any_row_comes_back_as_it_went_in(ledger: Ledger, drawn: list[tuple[Usage | None, int | None, str, bool]]) -> None:
    request_id = f"req_{time.monotonic_ns()}"
    given_ = [
        row(request_id, n, usage=usage, cost_nusd=number, end_us=number, upstream_id=text, stream=yes)
        for n, (usage, number, text, yes) in enumerate(drawn)
    ]
    for one in given_:
        ledger.append(one)
    assert ledger.flush()
    found = attempts_of(ledger.engine, request_id, None)
    assert len(found) == len(given_) and all(same(*pair) for pair in zip(found, given_, strict=True))


class Decided(msgspec.Struct):
    why: str
    p_ttft: float | None
    slo_met: bool | None = None


def test_a_decision_is_json_on_disk(file: Path, ledger: Ledger) -> None:
    ledger.append(row(decision=Decided("the cheapest of two – é", 0.95)))
    assert ledger.flush()
    assert sql(file, "SELECT decision FROM attempts") == [('{"why":"the cheapest of two – é","p_ttft":0.95,"slo_met":null}',)]


def test_a_decision_may_be_made_by_the_thread_that_writes_it(file: Path, ledger: Ledger) -> None:
    made_by = []

    def made() -> Decided:
        made_by.append(threading.current_thread().name)
        return Decided("late", None)

    ledger.append(row(decision=made))
    assert ledger.flush()
    assert made_by == ["ledger"] and sql(file, "SELECT decision FROM attempts")[0][0].startswith('{"why":"late"')


@pytest.mark.parametrize("decision", [lambda: {}["missing"], Decided(object(), None)], ids=["raises", "is no JSON"])  # type: ignore[arg-type]
def test_a_decision_that_cannot_be_told_does_not_cost_the_row(file: Path, ledger: Ledger, decision: Any) -> None:
    ledger.append(row(decision=decision))
    assert ledger.flush()
    assert sql(file, "SELECT request_id, decision FROM attempts") == [("req_1", None)]
    assert ledger.dropped == 0 and ledger.last_error is None


def test_beyond_a_bound_rows_wait_without_their_decisions(file: Path, ledger: Ledger) -> None:
    lock = Locked(file)
    for number in range(MAX_DECISIONS + 50):
        ledger.append(row(f"req_{number}", decision=Decided("why", None)))
    lock.release()
    assert ledger.flush()
    kept, whole = sql(file, "SELECT count(decision), count(*) FROM attempts")[0]
    assert kept == MAX_DECISIONS and whole == MAX_DECISIONS + 50 and ledger.dropped == 0


@pytest.mark.parametrize("name", USAGE_CLASSES)
def test_an_unknown_count_is_null_on_disk_and_a_zero_is_zero(file: Path, ledger: Ledger, name: str) -> None:
    ledger.append(row("req_unknown", usage=Usage()))
    ledger.append(row("req_zero", usage=Usage(**{name: 0})))
    ledger.append(row("req_none"))
    assert ledger.flush()
    assert sql(file, f"SELECT {name} FROM attempts ORDER BY request_id") == [(None,), (None,), (0,)]
    assert sql(file, "SELECT usage_source, cost_nusd FROM attempts WHERE request_id = 'req_none'") == [(None, None)]


def test_rows_are_written_in_the_order_they_came(file: Path, ledger: Ledger) -> None:
    for number in range(12_000):
        ledger.append(row(f"req_{number}"))
    assert ledger.flush()
    assert ids(file) == [(f"req_{number}", 1) for number in range(12_000)]


# --- groups, and never waiting ---------------------------------------------------------------------------------------------
def test_ten_thousand_rows_take_few_transactions(ledger: Ledger, file: Path) -> None:
    commits = 0

    @event.listens_for(ledger.engine, "checkout")
    def count(*_: Any) -> None:
        nonlocal commits
        commits += 1

    for number in range(10_000):
        ledger.append(row(f"req_{number}"))
    assert ledger.flush()
    assert commits <= 20
    assert sql(file, "SELECT count(*) FROM attempts") == [(10_000,)]


def test_rows_that_trickle_in_share_transactions(ledger: Ledger) -> None:
    commits = 0

    @event.listens_for(ledger.engine, "checkout")
    def count(*_: Any) -> None:
        nonlocal commits
        commits += 1

    began = time.monotonic()
    for number in range(200):
        ledger.append(row(f"req_{number}"))
        time.sleep(0.001)
    assert ledger.flush()
    assert commits <= (time.monotonic() - began) / 0.03 + 3


def test_append_does_not_wait_for_a_locked_database(file: Path, ledger: Ledger) -> None:
    lock = Locked(file)
    slowest = 0.0
    for number in range(2_000):
        made = row(f"req_{number}")
        began = time.perf_counter()
        ledger.append(made)
        slowest = max(slowest, time.perf_counter() - began)
    assert slowest < 1.0  # far less than SQLite waits for a lock
    assert ledger.pending == 2_000 and ledger.dropped == 0
    lock.release()
    assert ledger.flush()
    assert sql(file, "SELECT count(*) FROM attempts") == [(2_000,)] and ledger.last_error is None


def test_append_from_many_threads_loses_nothing(file: Path, ledger: Ledger) -> None:
    def add(thread: int) -> None:
        for number in range(1_000):
            ledger.append(row(f"req_{thread}_{number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert ledger.flush()
    assert sql(file, "SELECT count(*) FROM attempts") == [(8_000,)]


def test_flush_answers_while_rows_keep_coming(file: Path, ledger: Ledger) -> None:
    stop = threading.Event()

    def keep_on() -> None:
        number = 0
        while not stop.wait(0.0002):
            ledger.append(row(f"req_more_{number}"))
            number += 1

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        for number in range(5):
            ledger.append(row(f"req_{number}"))
            assert ledger.flush(timeout_s=3.0)
            assert attempts_of(ledger.engine, f"req_{number}", None)
    finally:
        stop.set()
        thread.join()


def test_flush_of_nothing_is_true_at_once(ledger: Ledger) -> None:
    began = time.monotonic()
    assert ledger.flush() and time.monotonic() - began < 3


# --- a database that fails -------------------------------------------------------------------------------------------------
def test_a_database_that_stays_locked_shows_as_an_error_and_loses_nothing(file: Path, ledger: Ledger) -> None:
    lock = Locked(file)
    ledger.append(row("req_before"))
    until(lambda: ledger.last_error, within_s=15)
    assert "locked" in (ledger.last_error or "") and ledger.pending == 1
    ledger.append(row("req_after"))
    lock.release()
    assert ledger.flush()
    assert ids(file) == [("req_before", 1), ("req_after", 1)]
    assert ledger.last_error is None and ledger.dropped == 0


def test_rows_wait_while_the_database_fails_and_are_written_when_it_is_well(file: Path, ledger: Ledger) -> None:
    broken = Broken(file)
    for number in range(100):
        ledger.append(row(f"req_{number}"))
    until(lambda: ledger.last_error)
    assert "no such table" in (ledger.last_error or "")
    assert ledger.pending == 100 and ledger.dropped == 0
    assert not ledger.flush(timeout_s=0.1)
    broken.mend()
    assert ledger.flush()
    assert len(ids(file)) == 100 and ledger.pending == 0 and ledger.last_error is None


def test_a_failed_database_is_tried_again_unasked(file: Path, ledger: Ledger) -> None:
    broken = Broken(file)
    ledger.append(row())
    until(lambda: ledger.last_error)
    broken.mend()
    until(lambda: ids(file) == [("req_1", 1)], within_s=5)


def test_beyond_the_bound_rows_are_dropped_and_counted_and_the_oldest_stay(file: Path) -> None:
    ledger = Ledger(url_of(file), max_pending=10)
    broken = Broken(file)
    ledger.append(row("req_0"))
    until(lambda: ledger.last_error)
    for number in range(1, 25):
        ledger.append(row(f"req_{number}"))
    assert ledger.pending == 10 and ledger.dropped == 15
    broken.mend()
    assert ledger.flush()
    assert ids(file) == [(f"req_{number}", 1) for number in range(10)]
    ledger.append(row("req_later"))
    ledger.close()
    assert ("req_later", 1) in ids(file) and ledger.dropped == 15


FULL_DISK = """
import resource, sys, time
from ledger.store import Ledger
from tests.ledger.rows import row

ledger = Ledger(sys.argv[1])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
for number in range(3_000):
    ledger.append(row(f"req_{number}", upstream_id="x" * 100))
end = time.monotonic() + 10
while ledger.last_error is None and time.monotonic() < end:
    time.sleep(0.01)
assert ledger.last_error and ledger.pending and not ledger.dropped, (ledger.last_error, ledger.pending, ledger.dropped)
print(ledger.last_error, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
assert ledger.flush(20) and ledger.last_error is None and not ledger.pending, ledger.last_error
ledger.close()
"""


def test_a_full_disk_loses_nothing_once_there_is_room_again(file: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, url_of(file)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sql(file, "SELECT count(*), count(DISTINCT request_id) FROM attempts") == [(3_000, 3_000)]
    assert sql(file, "PRAGMA integrity_check") == [("ok",)]


# --- rows that no database would take --------------------------------------------------------------------------------------
BAD = {
    "a duplicate of a row on disk": row("req_first", 1, team="blue"),
    "a count beyond 64 bits": row("req_bad", usage=Usage(input_uncached=2**63)),
    "a lone surrogate": row("req_bad", upstream_id="\ud800"),
    "raw usage that is no UTF-8": row("req_bad", usage=Usage(raw=msgspec.Raw(b'"\xff"'))),
    "a value of a wrong type": row("req_bad", finish_reason={"not": "text"}),
    "a missing value": row("req_bad", team=None),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_row_is_counted_and_stops_nothing(file: Path, ledger: Ledger, bad: AttemptRow) -> None:
    ledger.append(row("req_first"))
    assert ledger.flush()
    for one in (row("req_before"), bad, row("req_after")):
        ledger.append(one)
    assert ledger.flush()
    assert ids(file) == [("req_first", 1), ("req_before", 1), ("req_after", 1)]
    assert ledger.dropped == 1 and ledger.pending == 0 and ledger.last_error is None
    assert sql(file, "SELECT team FROM attempts WHERE request_id = 'req_first'") == [("red",)]


def test_of_two_rows_with_one_name_in_a_group_the_first_stays(file: Path, ledger: Ledger) -> None:
    lock = Locked(file)
    for number in range(1_000):
        ledger.append(row(f"req_{number // 2}", team=str(number % 2)))
    lock.release()
    assert ledger.flush()
    assert sql(file, "SELECT count(*), max(team) FROM attempts") == [(500, "0")] and ledger.dropped == 500


def test_bad_rows_wait_like_others_while_the_database_fails(file: Path, ledger: Ledger) -> None:
    broken = Broken(file)
    for one in (row("req_a"), row("req_b", upstream_id="\ud800"), row("req_c")):
        ledger.append(one)
    until(lambda: ledger.last_error)
    assert ledger.pending == 3 and ledger.dropped == 0
    broken.mend()
    assert ledger.flush()
    assert ids(file) == [("req_a", 1), ("req_c", 1)] and ledger.dropped == 1


# --- the end ---------------------------------------------------------------------------------------------------------------
def test_close_writes_what_is_left(file: Path) -> None:
    ledger = Ledger(url_of(file))
    for number in range(12_000):
        ledger.append(row(f"req_{number}"))
    ledger.close()
    assert sql(file, "SELECT count(*) FROM attempts") == [(12_000,)]
    assert ledger.dropped == 0 and ledger.pending == 0
    ledger.close()


def test_close_of_an_idle_ledger_is_quick(file: Path) -> None:
    ledger = Ledger(url_of(file))
    ledger.append(row())
    ledger.flush()
    time.sleep(0.1)
    began = time.monotonic()
    ledger.close()
    assert time.monotonic() - began < 3


def test_close_with_a_dead_database_leaves_the_rows_to_the_next_one(file: Path) -> None:
    ledger, broken = Ledger(url_of(file)), Broken(file)
    for number in range(50):
        ledger.append(row(f"req_{number}"))
    until(lambda: ledger.last_error)
    ledger.close()
    assert ledger.dropped == 0
    broken.mend()
    Ledger(url_of(file)).close()
    assert sql(file, "SELECT count(*) FROM attempts") == [(50,)] and not list(file.with_suffix(".spool").iterdir())


@pytest.mark.parametrize("kind", ["rows", "intents"])
def test_a_file_of_the_spool_that_nobody_can_read_is_told_and_keeps_nothing_up(file: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    spool = file.with_suffix(".spool")
    spool.mkdir()
    (spool / f"00000000000000000001-1-1.{kind}").write_bytes(bytes(range(1, 200)))
    ledger = Ledger(url_of(file))
    ledger.append(row())
    assert ledger.flush() and ledger.unreadable == 1
    ledger.close()
    assert ids(file) == [("req_1", 1)] and [each.name for each in spool.iterdir()] == [f"00000000000000000001-1-1.{kind}.unreadable"]
    assert "ledger_spool_unreadable" in capsys.readouterr().out
    again = Ledger(url_of(file))
    assert again.flush() and again.unreadable == 1
    again.close()


def test_what_was_not_made_whole_is_removed_and_what_is_being_made_is_not(file: Path) -> None:
    spool = file.with_suffix(".spool")
    spool.mkdir()
    (spool / "00000000000000000001-1-1.making").write_bytes(b"x")
    with (spool / "00000000000000000002-1-1.making").open("wb") as made:
        fcntl.flock(made, fcntl.LOCK_EX)
        Ledger(url_of(file)).close()
        assert [each.name for each in spool.iterdir()] == ["00000000000000000002-1-1.making"]


def test_close_with_a_dead_database_and_no_disk_counts_what_is_lost(file: Path) -> None:
    ledger = Ledger(url_of(file), spool=Path("/proc/no-folder-can-be-made-here"))
    Broken(file)
    for number in range(50):
        ledger.append(row(f"req_{number}"))
    until(lambda: ledger.last_error)
    began = time.monotonic()
    ledger.close()
    assert time.monotonic() - began < 2
    assert ledger.dropped == 50 and ledger.pending == 0
    assert ledger.last_error


def test_a_row_after_close_is_counted_as_dropped(file: Path) -> None:
    ledger = Ledger(url_of(file))
    ledger.append(row("req_in_time"))
    ledger.close()
    ledger.append(row("req_late"))
    assert ids(file) == [("req_in_time", 1)] and ledger.dropped == 1 and ledger.pending == 0


UNCLOSED = """
import sys
from ledger.store import Ledger
from tests.ledger.rows import row

ledger = Ledger(sys.argv[1])
for number in range(500):
    ledger.append(row(str(number)))
"""


def test_an_interpreter_that_ends_without_close_writes_what_is_left(file: Path) -> None:
    subprocess.run([sys.executable, "-c", UNCLOSED, url_of(file)], cwd=ROOT, check=True, timeout=30)
    assert len(ids(file)) == 500


KILLED = """
import sys, time
from ledger.store import Ledger
from tests.ledger.rows import row

ledger = Ledger(sys.argv[1])
for number in range(2_000):
    ledger.append(row(f"req_{number}"))
assert ledger.flush()
print("written", flush=True)
while True:
    number += 1
    ledger.append(row(f"req_{number}"))
    time.sleep(0.0001)
"""


def test_a_process_that_is_killed_leaves_a_readable_database_with_all_committed_rows(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, url_of(file)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "written\n"
            time.sleep(0.2)
        finally:
            os.kill(process.pid, signal.SIGKILL)
    found = ids(file)
    assert len(found) > 2_000
    assert found == [(f"req_{number}", 1) for number in range(len(found))], "a prefix of what was appended, with no gap"
    assert sql(file, "PRAGMA integrity_check") == [("ok",)]
    ledger = Ledger(url_of(file))
    ledger.append(row("req_next"))
    ledger.close()
    assert ids(file) == [*found, ("req_next", 1)]


# --- opening ---------------------------------------------------------------------------------------------------------------
def test_the_database_keeps_a_write_ahead_log(file: Path, ledger: Ledger) -> None:
    assert sql(file, "PRAGMA journal_mode") == [("wal",)]


def test_a_reader_that_stays_does_not_hinder_the_writer(file: Path, ledger: Ledger) -> None:
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
    ledger.append(row())
    assert ledger.flush(timeout_s=2)
    assert reader.execute("SELECT count(*) FROM attempts").fetchone() == (0,)
    reader.close()
    assert len(ids(file)) == 1


def test_a_ledger_that_is_opened_again_keeps_its_rows(file: Path) -> None:
    for number in range(3):
        ledger = Ledger(url_of(file))
        ledger.append(row(f"req_{number}"))
        ledger.close()
    assert len(ids(file)) == 3
    assert sql(file, "SELECT version FROM schema_version") == [(VERSION,)]


@pytest.mark.parametrize("version", [VERSION + 1, VERSION + 41])
def test_a_database_of_a_later_version_is_refused_and_left_as_it_is(file: Path, version: int) -> None:
    sql(file, "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)")
    sql(file, "INSERT INTO schema_version VALUES (?)", version)
    with pytest.raises(LedgerError, match=f"has version {version}; this gateway writes version {VERSION}"):
        Ledger(url_of(file))
    assert sql(file, "SELECT name FROM sqlite_master") == [("schema_version",)]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql+pymysql://db/turnout", "cannot be kept in"),
        ("sqlite+aiosqlite:///x.db", "cannot be kept in 'sqlite\\+aiosqlite'"),
        ("sqlitex:///x.db", "cannot be kept in 'sqlitex'"),
        ("turnout.db", "is not a database's URL"),
        ("sqlite", "is not a database's URL"),
        ("", "is not a database's URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_one_that_can(url: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        open_engine(url)
    assert "sqlite:///var/turnout.db" in str(caught.value)


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(file: Path) -> None:
    file.write_bytes(b"this is no database, but a text of some length\n" * 100)
    with pytest.raises(LedgerError, match="cannot be opened: file is not a database"):
        Ledger(url_of(file))
    assert file.read_bytes().startswith(b"this is no database")


@pytest.mark.parametrize("name", ["a-file/turnout.db", "a-folder"])
def test_a_place_where_no_database_can_be_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "a-file").write_text("x")
    (tmp_path / "a-folder").mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(url_of(tmp_path / name))


def in_folder(folder: Path, script: str, **env: str) -> None:
    paths = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=folder, env={**os.environ, **paths, **env}, check=True, timeout=30)


def test_a_relative_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    in_folder(tmp_path, "from ledger.store import Ledger; Ledger('sqlite:///var/turnout.db').close()")
    assert (tmp_path / "var" / "turnout.db").is_file()
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir(mode=0o755)
    in_folder(tmp_path, "from ledger.store import Ledger; Ledger('sqlite:///var/turnout.db').close()")
    assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o755


def test_a_tilde_is_the_home_folder(tmp_path: Path) -> None:
    in_folder(tmp_path, "from ledger.store import Ledger; Ledger('sqlite:///~/state/turnout.db').close()", HOME=str(tmp_path / "home"))
    assert (tmp_path / "home" / "state" / "turnout.db").is_file() and not (tmp_path / "~").exists()


OPENER = """
import sys
from ledger.store import Ledger
from tests.ledger.rows import row

sys.stdin.read(1)
ledger = Ledger(sys.argv[1])
ledger.append(row(sys.argv[2]))
ledger.close()
"""


def test_many_processes_may_open_a_new_database_at_once(file: Path) -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", OPENER, url_of(file), str(number)], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for number in range(6)
    ]
    time.sleep(1.0)
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert [process.communicate(timeout=30)[1] for process in started] == [b""] * 6
    assert sorted(name for name, _ in ids(file)) == [str(number) for number in range(6)]


def test_two_ledgers_may_write_to_one_file(file: Path) -> None:
    one, other = Ledger(url_of(file)), Ledger(url_of(file))
    for number in range(2_000):
        one.append(row(f"one_{number}"))
        other.append(row(f"other_{number}"))
    one.close()
    other.close()
    engine = open_engine(url_of(file))
    assert len(all_attempts(engine)) == 4_000
    engine.dispose()
    assert one.dropped == other.dropped == 0


def test_rows_and_usage_list_their_fields_in_the_table_s_order() -> None:
    fields = list(AttemptRow.__struct_fields__)
    at = fields.index("usage")
    fields[at : at + 1] = [*USAGE_CLASSES, "usage_source", "usage_raw", "service_tier"]
    assert fields == [column.name for column in attempts.columns]
    assert Usage.__struct_fields__ == (*USAGE_CLASSES, "source", "raw", "service_tier")
