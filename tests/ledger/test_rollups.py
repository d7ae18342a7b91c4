"""Roll-ups say exactly what their rows say, whatever came late, however often they were made, and whichever part of the time is asked for."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Engine, delete, event, func, select

from contract.scale import PROMPTS, prompt_at
from contract.usage import Usage
from ledger.calibration import calibration
from ledger.database import open_engine
from ledger.histogram import Tally, buckets, count, histograms_of, packed, quantile, unpacked
from ledger.latency import latency
from ledger.rollups import Slice, roll_up
from ledger.row import AttemptRow
from ledger.schema import attempts, latency_rollups, latency_summaries, stale_spans, usage_rollups, usage_summaries
from ledger.spent import spent_nusd
from ledger.store import Ledger
from ledger.summed import Sums, summed
from ledger.upkeep import purge
from ledger.window import TIMES, Window
from policy.sketch import Sketch
from tests.ledger.rows import row, sql, url_of

NOW_S = 1_790_000_000
DAYS_3 = 3 * 86_400
TOKENS = st.none() | st.integers(0, 200_000)
US = st.none() | st.integers(0, 10**8)
USAGES = st.builds(Usage, input_uncached=TOKENS, cache_read=TOKENS, output_visible=TOKENS, source=st.sampled_from(["provider", "estimated"]))
ROWS = st.builds(
    row,
    attempt=st.integers(0, 3),
    # three days up to now: whole days, whole hours, minutes, and the one that is not over
    started_at_us=st.one_of(st.integers((NOW_S - DAYS_3) * 10**6, NOW_S * 10**6), st.integers((NOW_S - 200) * 10**6, NOW_S * 10**6)),
    team=st.sampled_from(["red", "blue"]),
    model_asked=st.sampled_from(["solo", "other"]),
    target=st.sampled_from(["one", "cpu"]),
    model_sent=st.sampled_from(["gpt-5", "cpu"]),
    status=st.sampled_from(["ok", "failed", "abandoned"]),
    stream=st.booleans(),
    usage=st.none() | USAGES,
    cost_nusd=st.none() | st.integers(0, 10**12),
    billed=st.sampled_from(["team", "gateway"]),
    policy=st.sampled_from(["", "fast"]),
    slo_met=st.none() | st.booleans(),
    first_token_us=US,
    end_us=US,
    queue_us=US,
    overhead_us=US,
)


@pytest.fixture(scope="module")
def ledger(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(database, spool=tmp_path_factory.mktemp("spool"))
    yield ledger
    ledger.close()


def refill(ledger: Ledger, rows: list[AttemptRow]) -> None:
    with ledger.engine.begin() as connection:
        for table in (attempts, usage_rollups, latency_rollups, usage_summaries, latency_summaries, stale_spans):
            connection.execute(delete(table))
    put(ledger, rows)


def put(ledger: Ledger, rows: list[AttemptRow]) -> None:
    for one in rows:
        ledger.append(one)
    assert ledger.flush() and not ledger.dropped


def key(one: AttemptRow, groups: tuple[str, ...]) -> tuple[Any, ...]:
    at_s = one.started_at_us // 10**6
    known = {"team": one.team, "model": one.model_asked, "policy": one.policy, "status": one.status, "provider": one.target}
    known["target"] = one.target if one.target == one.model_sent else f"{one.target}/{one.model_sent}"
    prompt = None if one.usage is None else one.usage.input_total
    known["prompt"] = None if prompt is None else PROMPTS[prompt_at(prompt)]  # type: ignore[assignment]
    return tuple(at_s - at_s % TIMES[name] if name in TIMES else known[name] for name in groups)


def total(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def expected(rows: list[AttemptRow], groups: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, int | None]]:
    found: dict[tuple[Any, ...], list[AttemptRow]] = {}
    for one in rows:
        found.setdefault(key(one, groups), []).append(one)
    return {
        group: {
            "rows": len(of),
            "requests": sum(one.attempt <= 1 for one in of),
            "attempts": sum(one.attempt > 0 for one in of),
            "failed": sum(one.status == "failed" for one in of),
            "unpriced": sum(one.priced and one.cost_nusd is None for one in of),
            "cache_read": total([one.usage and one.usage.cache_read for one in of]),
            "cost_nusd": total([one.cost_nusd if one.billed == "team" else None for one in of]),
            "absorbed_nusd": total([one.cost_nusd if one.billed == "gateway" else None for one in of]),
            "slo_met": sum(one.slo_met is True for one in of),
            "slo_missed": sum(one.slo_met is False for one in of),
        }
        for group, of in found.items()
    }


def told(found: list[Sums]) -> dict[tuple[Any, ...], dict[str, int | None]]:
    names = ("rows", "requests", "attempts", "failed", "unpriced", "cache_read", "cost_nusd", "absorbed_nusd", "slo_met", "slo_missed")
    return {sums.group: {name: getattr(sums, name) for name in names} for sums in found}


GROUPINGS = [(), ("team",), ("target", "status"), ("day",), ("hour", "policy"), ("minute", "model"), ("team", "model"), ("team", "status")]


@settings(max_examples=15, deadline=None)
@given(st.lists(ROWS, max_size=30), st.lists(ROWS, max_size=5), st.sampled_from(GROUPINGS), st.integers(0, DAYS_3), st.integers(0, DAYS_3))
def test_a_report_of_any_time_is_the_sum_of_its_rows(
    ledger: Ledger, rows: list[AttemptRow], late: list[AttemptRow], groups: tuple[str, ...], ago_s: int, length_s: int
) -> None:
    rows, late = ([replace(one, request_id=f"{name}_{n}") for n, one in enumerate(some)] for name, some in (("req", rows), ("late", late)))
    refill(ledger, rows)
    assert roll_up(ledger.engine, NOW_S)
    put(ledger, late)
    assert roll_up(ledger.engine, NOW_S) and roll_up(ledger.engine, NOW_S)
    window = Window((NOW_S - ago_s) * 10**6 + 7, (NOW_S - ago_s + length_s) * 10**6 + 3)
    chosen = [one for one in (*rows, *late) if window.from_us <= one.started_at_us < window.to_us]
    assert told(summed(ledger.engine, window, groups, NOW_S)) == expected(chosen, groups)
    red = replace(window, filters={"team": "red"})
    assert told(summed(ledger.engine, red, groups, NOW_S)) == expected([one for one in chosen if one.team == "red"], groups)


LATENCY_GROUPINGS = [(), ("team",), ("target", "prompt"), ("day",), ("hour", "policy"), ("model", "target"), ("team", "model")]


@settings(max_examples=15, deadline=None)
@given(st.lists(ROWS, max_size=30), st.sampled_from(LATENCY_GROUPINGS), st.sampled_from(["", "red"]), st.integers(0, DAYS_3))
def test_latencies_of_any_time_are_counted_in_the_buckets_of_the_policy_s_sketches(
    ledger: Ledger, rows: list[AttemptRow], groups: tuple[str, ...], team: str, ago_s: int
) -> None:
    rows = [replace(one, request_id=f"req_{n}") for n, one in enumerate(rows)]
    refill(ledger, rows)
    assert roll_up(ledger.engine, NOW_S)
    window = Window((NOW_S - ago_s) * 10**6 + 7, NOW_S * 10**6, {"team": team} if team else {})
    ends: dict[tuple[Any, ...], tuple[Sketch, Tally]] = {}
    for one in rows:
        chosen = window.from_us <= one.started_at_us < window.to_us and team in ("", one.team)
        if chosen and one.status == "ok" and one.end_us is not None:
            sketch, tally = ends.setdefault(key(one, groups), (Sketch(), {}))
            sketch.add(one.end_us / 1e6, 1.0)
            count(tally, None, one.end_us, None, None, None)
    found = {each.group: each.end for each in latency(ledger.engine, window, groups, NOW_S) if each.end.n}
    assert {group: each.n for group, each in found.items()} == {group: sketch.total for group, (sketch, _) in ends.items()}
    for group, (sketch, tally) in ends.items():
        histogram = histograms_of(tally)
        assert {bucket: number for bucket, number in enumerate(sketch.counts, sketch.first) if number} == buckets(histogram["end"])
        assert found[group].p90_ms == round((quantile(histogram["end"], 0.9) or 0.0) * 1e3, 3)


def test_rows_of_an_older_version_are_rolled_up_once_the_database_was_brought_up(tmp_path: Path) -> None:
    file = tmp_path / "turnout.db"
    ledger = Ledger(url_of(file))
    put(ledger, [row(started_at_us=(NOW_S - 3_000) * 10**6, cost_nusd=5)])
    ledger.close()
    for table in ("usage_rollups", "latency_rollups", "usage_summaries", "latency_summaries", "stale_spans", "rollup_state"):
        sql(file, f"DROP TABLE {table}")
    sql(file, "UPDATE schema_version SET version = 7")
    engine = open_engine(url_of(file))
    roll_up(engine, NOW_S)
    assert [sums.cost_nusd for sums in summed(engine, Window(0, NOW_S * 10**6), (), NOW_S)] == [5]
    assert counted(engine, usage_rollups) == 2  # a minute and an hour; the day is not over
    engine.dispose()


def test_a_ledger_of_version_9_gets_its_summaries_also_of_days_whose_rows_are_gone(tmp_path: Path) -> None:
    file = tmp_path / "turnout.db"
    ledger = Ledger(url_of(file))
    put(ledger, [row(f"req_{day}", started_at_us=(NOW_S - day * 86_400) * 10**6, cost_nusd=10**day, queue_us=5, status="cut") for day in range(6)])
    roll_up(ledger.engine, NOW_S)
    assert purge(ledger.engine, 2, NOW_S) == 3
    ledger.close()
    for table in ("usage_summaries", "latency_summaries"):
        sql(file, f"DROP TABLE {table}")
    old = b"\x81\xa3end\x81\xd0\xb9\x01"  # as that version kept it: MessagePack of {"end": {-71: 1}}
    sql(file, "ALTER TABLE latency_rollups DROP COLUMN predictions")
    sql(file, "UPDATE latency_rollups SET counts = ?", old)
    sql(file, "INSERT INTO latency_rollups SELECT span_s, start_s, '', model_asked, target, model_sent, policy, prompt, counts FROM latency_rollups")
    sql(file, "UPDATE schema_version SET version = 9")
    engine = open_engine(url_of(file))
    assert roll_up(engine, NOW_S)
    whole = Window(0, (NOW_S + 1) * 10**6)
    assert [(sums.cost_nusd, sums.failed) for sums in summed(engine, whole, ("team",), NOW_S)] == [(111_111, 6)]
    assert [each.end.n for groups in ((), ("team", "model")) for each in latency(engine, whole, groups, NOW_S)] == [
        5,
        5,
    ]  # the minute that is not over has its row
    engine.dispose()


def test_a_ledger_of_version_10_gets_what_its_predictions_came_to(tmp_path: Path) -> None:
    file = tmp_path / "turnout.db"
    ledger = Ledger(url_of(file))
    put(ledger, [row(f"req_{n}", started_at_us=(NOW_S - 90_000 - n * 61) * 10**6, end_us=5, predicted_end_us=n) for n in range(6)])
    roll_up(ledger.engine, NOW_S)
    ledger.close()
    for table in ("latency_rollups", "latency_summaries"):
        sql(file, f"ALTER TABLE {table} DROP COLUMN predictions")
    sql(file, "UPDATE schema_version SET version = 10")
    engine, whole = open_engine(url_of(file)), Window(0, (NOW_S + 1) * 10**6)
    assert calibration(engine, whole, (), NOW_S) == []
    assert roll_up(engine, NOW_S)
    assert calibration(engine, whole, (), NOW_S) == calibration(engine, whole, (), 0)
    assert calibration(engine, whole, (), NOW_S)[0].attempts == 6
    engine.dispose()


def test_counts_are_what_they_were_once_they_are_packed() -> None:
    tally: Tally = {}
    for us in (0, 1, 5, 5, 10**12, 2**62):
        count(tally, None, us, None, None, None)
    histograms = histograms_of(tally)
    assert histograms_of({}) == {}
    assert unpacked(packed(histograms)) == histograms and sum(buckets(histograms["end"]).values()) == 6


def counted(engine: Engine, table: Any) -> int:
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_processes_that_roll_up_at_once_count_every_row_once(tmp_path: Path) -> None:
    url = url_of(tmp_path / "turnout.db")
    ledgers = [Ledger(url) for _ in range(2)]
    for n in range(200):
        for number, ledger in enumerate(ledgers):
            ledger.append(row(f"req_{number}_{n}", started_at_us=(NOW_S - 100_000 + n * 61) * 10**6))
        if n % 20 == 0:
            for ledger in ledgers:
                roll_up(ledger.engine, NOW_S)
    for ledger in ledgers:
        ledger.close()
    engine = open_engine(url)
    roll_up(engine, NOW_S)
    assert [sums.rows for sums in summed(engine, Window(0, NOW_S * 10**6), (), NOW_S)] == [400]
    assert counted(engine, stale_spans) == 0
    engine.dispose()


def test_while_spans_are_added_up_others_write(tmp_path: Path) -> None:
    """Whoever adds up waits at the last row that it read; a writer with no patience at all writes meanwhile, and its row is made part of it later."""
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    put(ledger, [row(f"req_{n}", started_at_us=(NOW_S - 90_000) * 10**6) for n in range(5)])
    engine, written = ledger.engine, []

    def write(*_: Any) -> None:
        connection = sqlite3.connect(tmp_path / "turnout.db", timeout=0)
        with connection:
            connection.execute("INSERT INTO bindings VALUES (?, 'one', ?)", (bytes([len(written)]) * 32, len(written)))
        connection.close()
        written.append(1)

    event.listen(engine, "after_cursor_execute", lambda *seen: write() if "FROM attempts" in seen[2] else None)
    assert roll_up(engine, NOW_S)
    assert len(written) > 1, "while rows were read and summed"
    assert [sums.rows for sums in summed(engine, Window(0, NOW_S * 10**6), (), NOW_S)] == [5]
    ledger.close()


def test_a_slice_is_left_when_somebody_else_made_its_spans_meanwhile(tmp_path: Path) -> None:
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    put(ledger, [row("req_1", started_at_us=(NOW_S - 90_000) * 10**6)])
    engine = ledger.engine
    entries = {start_s: [id] for id, start_s in sql(tmp_path / "turnout.db", "SELECT id, start_s FROM stale_spans")}
    put(ledger, [row("req_2", started_at_us=(NOW_S - 90_000) * 10**6)])
    assert roll_up(engine, NOW_S)
    with engine.connect() as connection:
        assert not Slice(connection, 60, entries).make()
    assert [sums.rows for sums in summed(engine, Window(0, NOW_S * 10**6), (), NOW_S)] == [2] and counted(engine, stale_spans) == 0
    ledger.close()


def test_rows_that_are_kept_no_longer_are_deleted_and_their_sums_stay(tmp_path: Path) -> None:
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    put(ledger, [row(f"req_{day}", started_at_us=(NOW_S - day * 86_400) * 10**6, cost_nusd=10**day, end_us=5) for day in range(6)])
    engine = ledger.engine
    assert purge(engine, 2, NOW_S) == 0  # nothing was rolled up yet
    roll_up(engine, NOW_S)
    assert purge(engine, 2, NOW_S) == 3 and purge(engine, 2, NOW_S) == 0
    assert counted(engine, attempts) == 3
    put(ledger, [row("req_late", started_at_us=(NOW_S - 5 * 86_400) * 10**6, cost_nusd=1)])
    roll_up(engine, NOW_S)
    whole = Window(0, (NOW_S + 1) * 10**6)
    assert [sums.cost_nusd for sums in summed(engine, whole, (), NOW_S)] == [111_111]
    assert latency(engine, whole, (), NOW_S)[0].end.n == 6
    assert spent_nusd(engine, "team", "red", 0) == 111_111
    assert spent_nusd(engine, "key", "key_1", NOW_S // 86_400 * 86_400 - 86_400) == 11
    ledger.close()
