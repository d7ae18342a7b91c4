"""Owned engines' hours in the ledger: what they cost, idle and busy apart, beside the tokens that came of them; the same in either database."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from contract.usage import Usage
from ledger.database import open_engine
from ledger.engine_time import EngineTime, engine_lines, recent, usd_per_hour, write
from ledger.reports import report
from ledger.rollups import roll_up
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
            EngineTime("gpu", STARTED_AT_US + half, half, half // 2, 1_800_000_000, 2_000_000_000),
            EngineTime("gpu", END_US, half, 0, 1_800_000_000, 4_000_000_000),
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
    assert gpu == {
        "engine": "gpu",
        "up_h": 1.0,
        "busy_h": 0.25,
        "idle_share": 0.75,
        "requests": 1,
        "tokens": 1_000_000,
        "output_tokens": 400_000,
        "busy_tokens_per_s": 444.4,
        "kwh": 1.0,
        "usd": "3.000000000",
        "idle_usd": "2.500000000",
        "usd_per_mtok": 3.0,
        "last": {"hour": {**cost, "usd_per_mtok": None, "busy_usd_per_mtok": None, "mtok": 0.0}, "day": cost, "week": cost},
    }
    assert (cpu["busy_h"], cpu["kwh"], cpu["usd"], cpu["idle_usd"], cpu["usd_per_mtok"]) == (0.5, None, None, None, None), "unknown is null"
    assert usd_per_hour(engine, WINDOW) == {"gpu": 4.0}
    ((line,), whole) = report(engine, "cost", WINDOW, ("target",), NOW_S)
    assert whole and (line["cost_usd"], line["engine_usd"], line["unpriced"], line["usd_per_mtok"]) == (None, "0.500000000", 0, 0.5)


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
