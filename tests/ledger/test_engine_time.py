"""Owned engines' hours in the ledger: what they cost, idle and busy apart, beside the tokens that came of them; the same in either database."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from contract.usage import Usage
from ledger.database import open_engine
from ledger.engine_time import LIKE, EngineTime, engine_lines, recent, uptimes, write
from ledger.reports import report
from ledger.rollups import roll_up
from ledger.schema import VERSION, engine_minutes
from ledger.store import Ledger
from ledger.window import Window
from tests.ledger.rows import STARTED_AT_US, emptied, row

HOUR_US = 3_600_000_000
END_US = STARTED_AT_US + HOUR_US
WINDOW = Window(STARTED_AT_US - 1, END_US + 1, {})
NOW_S = END_US / 1e6 + 60


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = open_engine(database)
    emptied(engine)
    yield engine
    engine.dispose()


def test_an_hour_costs_the_same_busy_or_not_and_its_idle_part_is_told_apart(engine: Engine, database: str) -> None:
    half = HOUR_US // 2
    write(
        engine,
        [
            EngineTime("gpu", STARTED_AT_US + half, half, half // 2, 1_800_000_000, 2_000_000_000, 0),
            EngineTime("gpu", END_US, half, 0, 1_800_000_000, 4_000_000_000, 0),
            EngineTime("cpu", END_US, half, half, None, None),
            EngineTime("gpu", END_US + HOUR_US, half, half, 1, 1),  # later than what is asked for
        ],
    )
    ledger = Ledger(database)
    usage = Usage(input_uncached=600_000, output_visible=400_000)
    ledger.append(row(target="gpu", usage=usage, engine_prefill_us=half // 4, engine_decode_us=half // 4, engine_nusd=500_000_000, cost_nusd=None))
    assert ledger.flush()
    ledger.close()
    roll_up(engine, NOW_S)
    cost = {"usd_per_mtok": 3.0, "busy_usd_per_mtok": 0.5, "idle_share": 0.75, "mtok": 1.0}
    cpu, gpu = engine_lines(engine, WINDOW, NOW_S)
    assert list(LIKE) == list(gpu), "CSV has a column for each"
    assert gpu == {
        "engine": "gpu",
        "up_h": 1.0,
        "busy_h": 0.25,
        "asleep_h": 0.0,
        "idle_share": 0.75,
        "requests": 1,
        "tokens": 1_000_000,
        "output_tokens": 400_000,
        "busy_tokens_per_s": 444.4,
        "kwh": 1.0,
        "usd": "3.000000000",
        "idle_usd": "2.500000000",
        "asleep_usd": "0.000000000",
        "usd_per_mtok": 3.0,
        "last": {"hour": {**cost, "usd_per_mtok": None, "busy_usd_per_mtok": None, "mtok": 0.0}, "day": cost, "week": cost},
    }
    assert (cpu["busy_h"], cpu["kwh"], cpu["usd"], cpu["idle_usd"], cpu["usd_per_mtok"]) == (0.5, None, None, None, None), "unknown is null"
    assert {name: up.usd_per_hour for name, up in uptimes(engine, WINDOW).items()} == {"cpu": None, "gpu": 4.0}
    ((line,), whole) = report(engine, "cost", WINDOW, ("target",), NOW_S)
    assert whole and (line["cost_usd"], line["engine_usd"], line["unpriced"], line["usd_per_mtok"]) == (None, "0.500000000", 0, 0.5)


def slept(engine: Engine, *times: EngineTime) -> dict[str, Any]:
    write(engine, times)
    (line,) = engine_lines(engine, WINDOW, NOW_S)
    return line


def test_an_hour_asleep_is_paid_for_and_is_neither_up_nor_idle(engine: Engine, database: str) -> None:
    quarter = HOUR_US // 4
    ledger = Ledger(database)
    ledger.append(row(target="gpu", model_sent="gpu", usage=Usage(input_uncached=10**6), engine_nusd=500_000_000, cost_nusd=None))
    assert ledger.flush()
    ledger.close()
    roll_up(engine, NOW_S)
    woken = EngineTime("gpu", END_US - quarter, quarter, quarter // 2, None, 4_000_000_000, quarter)
    line = slept(engine, woken, EngineTime("gpu", END_US, 0, 0, None, 4_000_000_000, 2 * quarter))
    assert (line["up_h"], line["busy_h"], line["asleep_h"], line["idle_share"]) == (0.25, 0.125, 0.75, 0.5)
    assert (line["usd"], line["idle_usd"], line["asleep_usd"]) == ("4.000000000", "0.500000000", "3.000000000")
    assert line["usd_per_mtok"] == 4.0 and line["last"]["day"] == {"usd_per_mtok": 4.0, "busy_usd_per_mtok": 0.5, "idle_share": 0.5, "mtok": 1.0}


def test_an_engine_that_did_nothing_but_sleep_has_a_line(engine: Engine) -> None:
    line = slept(engine, EngineTime("gpu", END_US, 0, 0, None, None, HOUR_US))
    assert (line["up_h"], line["asleep_h"], line["idle_share"], line["asleep_usd"]) == (0.0, 1.0, None, None)


def test_what_an_engine_slept_is_not_known_of_rows_that_did_not_count_it(engine: Engine) -> None:
    older = EngineTime("gpu", END_US - HOUR_US // 2, HOUR_US // 4, 0, None, 4_000_000_000)
    line = slept(engine, older, EngineTime("gpu", END_US, 0, 0, None, 4_000_000_000, HOUR_US // 4))
    assert (line["asleep_h"], line["asleep_usd"], line["usd"], line["idle_usd"]) == (None, None, "2.000000000", "1.000000000")


def test_engines_hours_of_version_11_are_kept(engine: Engine, database: str) -> None:
    write(engine, [EngineTime("gpu", END_US, HOUR_US // 4, 0, None, 4_000_000_000, 5)])
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP INDEX engine_minutes_by_engine")
        connection.exec_driver_sql("ALTER TABLE engine_minutes DROP COLUMN asleep_us")
        connection.exec_driver_sql("UPDATE schema_version SET version = 11")
    new = open_engine(database)
    (line,) = engine_lines(new, WINDOW, NOW_S)
    assert (line["up_h"], line["asleep_h"], line["usd"]) == (0.25, None, "1.000000000")
    write(new, [EngineTime("gpu", END_US, 0, 0, None, 4_000_000_000, HOUR_US // 4)])
    with new.connect() as connection:
        assert connection.exec_driver_sql("SELECT version FROM schema_version").scalar() == VERSION
        assert set(connection.execute(select(engine_minutes.c.asleep_us)).scalars()) == {None, HOUR_US // 4}
    new.dispose()


def test_the_last_hour_day_and_week_are_told_apart(engine: Engine, database: str) -> None:
    ledger = Ledger(database)
    for n, hours in enumerate((0.5, 10, 100)):
        ended = int(END_US - hours * HOUR_US)
        write(engine, [EngineTime("gpu", ended, HOUR_US // 4, HOUR_US // 8, None, 4_000_000_000)])
        ledger.append(row(f"req_{n}", target="gpu", model_sent="gpu", started_at_us=ended - 5, usage=Usage(input_uncached=10**6 // 2**n)))
    assert ledger.flush()
    ledger.close()
    roll_up(engine, NOW_S)
    found = recent(engine, END_US, NOW_S)["gpu"]
    assert found.hour is not None and found.day is not None and found.week is not None
    assert [(each.mtok, each.usd_per_mtok, each.busy_usd_per_mtok) for each in (found.hour, found.day, found.week)] == [
        (1.0, 1.0, 0.5),
        (1.5, 1.333333, 0.666667),
        (1.75, 1.714286, 0.857143),
    ]
    assert recent(engine, END_US - 9 * HOUR_US, NOW_S)["gpu"].hour is None, "it was not up then"
    assert recent(engine, END_US - 200 * HOUR_US, NOW_S) == {}
