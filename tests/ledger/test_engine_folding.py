"""After rows were deleted, engines' hours and what is made of them are what they were; hours that were lost before are left out on both sides."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, delete, event, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from contract.usage import Usage
from ledger.breakeven import breakeven
from ledger.database import open_engine
from ledger.engine_folding import fold, folded
from ledger.engine_time import EngineTime, engine_lines, recent, write
from ledger.rollups import roll_up
from ledger.schema import engine_minutes, rollup_state
from ledger.store import Ledger
from ledger.upkeep import purge
from ledger.window import Window
from tests.ledger.rows import emptied, row

DAY, HOUR, US = 86_400, 3_600, 1_000_000
MINUTE_US = 60 * US
NOW_S = 1_790_000_000 // DAY * DAY + 5 * HOUR + 600
BEGAN_S = NOW_S // DAY * DAY - 4 * DAY
ALL = Window(BEGAN_S * US, NOW_S * US)
PRICE = 40_000_000


def minute(ended_us: int, **fields: Any) -> EngineTime:
    return replace(EngineTime("cpu", ended_us, MINUTE_US, US // 2, 10, PRICE, 0), **fields)


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    """An engine that was up throughout at 0.04 $ an hour, and grows by a request an hour each day; a managed target beside it."""
    engine = open_engine(database)
    emptied(engine)
    with engine.begin() as connection:
        connection.execute(update(rollup_state).values(purged_s=0))
    write(engine, [minute(at * US) for at in range(BEGAN_S + 60, NOW_S + 1, 60)])
    ledger, used = Ledger(database), Usage(input_uncached=1_000, output_visible=500)
    for hour in range(BEGAN_S, NOW_S - HOUR, HOUR):
        for n in range(1 + (hour - BEGAN_S) // DAY):
            at_us = (hour + 60 * n) * US
            id = f"req_{hour}_{n}"
            ledger.append(row(f"{id}_cpu", target="cpu", model_sent="cpu", usage=used, started_at_us=at_us, engine_prefill_us=5, engine_decode_us=5))
            ledger.append(row(id, usage=used, cost_nusd=6_250_000, started_at_us=at_us))
    assert ledger.flush()
    ledger.close()
    assert roll_up(engine, NOW_S)
    yield engine
    engine.dispose()


def figures(engine: Engine, window: Window = ALL) -> Any:
    return engine_lines(engine, window, NOW_S), breakeven(engine, window, {}, NOW_S), recent(engine, window.to_us, NOW_S)


def of_time(engine: Engine, window: Window = ALL) -> Any:
    """Without what is of the hour, day and week before its end."""
    found = breakeven(engine, window, {}, NOW_S)
    return [{**line, "last": None} for line in engine_lines(engine, window, NOW_S)], [replace(each, recent=None) for each in found]


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(engine_minutes)).scalar_one()


def test_figures_are_the_same_when_rows_were_deleted(engine: Engine) -> None:
    windows = [ALL, Window((BEGAN_S + 5 * HOUR) * US, (BEGAN_S + 30 * HOUR) * US), Window((BEGAN_S - DAY) * US, NOW_S * US)]
    before = [figures(engine, window) for window in windows]
    minutes = count(engine)
    assert purge(engine, 1, NOW_S) > 0
    assert [figures(engine, window) for window in windows] == before
    assert count(engine) == minutes - 3 * 24 * 59, "three days' hours, and the minutes since"
    fold(engine, (BEGAN_S + 3 * DAY) * US)
    assert count(engine) == minutes - 3 * 24 * 59


def test_hours_that_were_cut_are_left_out_of_tokens_and_costs_alike(engine: Engine) -> None:
    inner = Window((BEGAN_S + 6 * HOUR) * US, (BEGAN_S + 9 * HOUR) * US)
    told = of_time(engine, inner)
    purge(engine, 1, NOW_S)
    ragged = Window(inner.from_us - 50 * MINUTE_US, inner.to_us + 10 * MINUTE_US)
    assert of_time(engine, ragged) == told
    assert engine_lines(engine, Window(inner.from_us + 10 * MINUTE_US, inner.from_us + 50 * MINUTE_US), NOW_S) == []


def test_whoever_is_stopped_leaves_the_rest_for_the_next_time(engine: Engine) -> None:
    before, folding = of_time(engine), [0]

    def stop(*seen: Any) -> None:
        if "INSERT INTO engine_minutes" in seen[2]:
            folding[0] += 1
            if folding[0] == 2:
                raise SQLAlchemyError("stopped")

    event.listen(engine, "before_cursor_execute", stop)
    with pytest.raises(SQLAlchemyError, match="stopped"):
        purge(engine, 1, NOW_S)
    event.remove(engine, "before_cursor_execute", stop)
    assert of_time(engine) == before
    some = count(engine)
    assert roll_up(engine, NOW_S) and purge(engine, 1, NOW_S + DAY) > 0
    assert count(engine) < some - 2 * 24 * 59 and of_time(engine) == before


def test_processes_that_fold_at_once_count_every_minute_once(engine: Engine, database: str) -> None:
    before, minutes = figures(engine), count(engine)
    others = [open_engine(database) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda each: fold(each, (BEGAN_S + 3 * DAY) * US), others))
    for each in others:
        each.dispose()
    assert count(engine) == minutes - 3 * 24 * 59 and figures(engine) == before


def test_an_engine_whose_first_hours_are_lost_is_told_by_what_is_known(engine: Engine) -> None:
    """As versions before left a ledger: minutes were deleted with the rows."""
    lines, even, _ = figures(engine)
    since_us = (BEGAN_S + 3 * DAY) * US
    (known,) = engine_lines(engine, Window(since_us, NOW_S * US), NOW_S)
    with engine.begin() as connection:
        connection.execute(delete(engine_minutes).where(engine_minutes.c.ended_at_us < since_us))
    assert purge(engine, 1, NOW_S) > 0
    ((line,), (found,), of_last) = figures(engine)
    assert line["usd_per_mtok"] == pytest.approx(known["usd_per_mtok"], rel=1e-3) and line["tokens"] == known["tokens"] < lines[0]["tokens"]
    assert of_last["cpu"].week.usd_per_mtok == line["usd_per_mtok"] and of_last["cpu"].day == recent(engine, NOW_S * US, NOW_S)["cpu"].day
    assert found.engine_usd_per_mtok == pytest.approx(even[0].engine_usd_per_mtok, rel=0.01), "it was there when it was first asked"
    assert (found.cheaper_now, found.cheaper_with_all) == (even[0].cheaper_now, even[0].cheaper_with_all)


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        ({}, 1),
        ({"nusd_per_hour": PRICE + 1}, 2),
        ({"nusd_per_hour": None}, 2),
        ({"energy_mj": None}, 2),
        ({"asleep_us": None}, 2),
        ({"engine": "gpu"}, 2),
        ({"ended_at_us": 62 * MINUTE_US + 60 * MINUTE_US}, 2),
        ({"ended_at_us": 64 * MINUTE_US}, 2),
        ({"up_us": 0, "asleep_us": MINUTE_US}, 1),
    ],
    ids=["alike", "another price", "no price", "no energy", "sleep not counted", "another engine", "another hour", "after a break", "asleep"],
)
def test_only_what_is_alike_and_without_a_break_becomes_one_row(other: dict[str, Any], rows: int) -> None:
    one = minute(61 * MINUTE_US)
    two = replace(minute(62 * MINUTE_US), **other)
    found = folded([two, one])
    assert len(found) == rows and folded(found) == found
    assert sum(each.up_us for each in found) == one.up_us + two.up_us
    if rows == 1:
        asleep_us = one.asleep_us + two.asleep_us  # type: ignore[operator]
        assert found == [EngineTime("cpu", two.ended_at_us, one.up_us + two.up_us, US, 20, PRICE, asleep_us)]


def test_engines_of_one_name_on_two_machines_are_put_together_each_for_itself() -> None:
    times = [minute(HOUR * US + n * MINUTE_US + late) for n in range(1, 4) for late in (0, MINUTE_US // 2)]
    assert folded(times) == [
        EngineTime("cpu", HOUR * US + 3 * MINUTE_US + late, 3 * MINUTE_US, 3 * US // 2, 30, PRICE, 0) for late in (0, MINUTE_US // 2)
    ]
