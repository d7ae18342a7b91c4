"""An engine's break-even is where its hours cost what the same tokens cost elsewhere."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from contract.usage import Usage
from ledger.breakeven import BreakEven, Managed, Work, against, breakeven, projected
from ledger.engine_time import EngineTime, write
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.store import Ledger
from ledger.trend import Trend, trend
from ledger.window import Window
from tests.ledger.rows import row, url_of

MTOK = 1_000_000


@pytest.mark.parametrize(
    ("usd_per_hour", "usd_per_mtok", "now", "with_all"),
    [(1.0, 2.0, False, True), (0.1, 2.0, True, True), (10.0, 2.0, False, False), (1.0, 200.0, True, True)],
)
def test_it_is_cheaper_from_the_volume_on_that_its_hours_would_buy(usd_per_hour: float, usd_per_mtok: float, now: bool, with_all: bool) -> None:
    work = Work(tokens=10 * MTOK, days=2.0, most_per_s=20 * MTOK / 86_400)  # 5 a day of 20 that it can do
    found = against("cpu", work, usd_per_hour, Managed("one/gpt-5", usd_per_mtok), (2.0, 36 * MTOK))
    needed = usd_per_hour * 24 / usd_per_mtok
    assert found.breakeven_mtok_per_day == pytest.approx(needed) and found.breakeven_utilisation == pytest.approx(needed / 20, rel=1e-4)
    assert (found.mtok_per_day, found.traffic_mtok_per_day, found.utilisation) == (5, 18, 0.25)
    assert found.engine_usd_per_mtok == pytest.approx(usd_per_hour * 24 / 5, rel=1e-5)
    assert (found.cheaper_now, found.cheaper_with_all) == (now, with_all)


def test_an_engine_whose_hour_has_no_price_has_no_break_even() -> None:
    found = against("cpu", Work(10, 1.0, 1.0), None, Managed("one/gpt-5", 2.0), (1.0, 10))
    assert (found.engine_usd_per_mtok, found.breakeven_utilisation, found.cheaper_now) == (None, None, None)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(url_of(tmp_path / "turnout.db"))
    yield made
    made.close()


def told(ledger: Ledger, now: float, rows: Sequence[AttemptRow] = (), minutes: Sequence[EngineTime] = (), **filters: str) -> list[BreakEven]:
    """Of the last 24 hours, at half a dollar an hour."""
    for each in rows:
        ledger.append(each)
    assert ledger.flush()
    write(ledger.engine, minutes) if minutes else None
    roll_up(ledger.engine, now)
    return breakeven(ledger.engine, Window(int((now - 86_400) * 1e6), int(now * 1e6), filters), {"": 0.5}, now)


USED = Usage(input_uncached=500, output_visible=100)
HOUR_US = 3_600_000_000


def of_engine(id: str, at_us: int, **fields: Any) -> AttemptRow:
    return row(
        id, **{"target": "cpu", "model_sent": "cpu", "usage": USED, "started_at_us": at_us, "engine_prefill_us": 5, "engine_decode_us": 5, **fields}
    )


def test_it_is_of_the_team_s_own_traffic_on_a_machine_that_all_share(ledger: Ledger) -> None:
    now = time.time()
    began_us, at_us = int((now - 86_400) * 1e6), int((now - 7_200) * 1e6)
    first = row("req_0", started_at_us=began_us - HOUR_US, team="blue")
    rows = [
        first,
        of_engine("req_1", at_us),
        of_engine("req_2", at_us, team="blue"),
        row("req_3", started_at_us=at_us, usage=USED, cost_nusd=1_200_000),
        row("req_4", started_at_us=at_us, target="two", usage=USED),
    ]
    idle = EngineTime("cpu", began_us - 5, 60_000_000, 0)
    (found,) = told(ledger, now, rows, [idle, EngineTime("cpu", at_us, 60_000_000, 0)], team="red")
    assert (found.engine, found.target, found.target_usd_per_mtok) == ("cpu", "one/gpt-5", 2.0)
    assert found.mtok_per_day == pytest.approx(0.0006) and found.traffic_mtok_per_day == pytest.approx(0.0018)
    assert found.utilisation == pytest.approx(600 / 86_400 / 20, rel=1e-3)
    assert told(ledger, now, team="green") == []


def test_a_request_that_never_had_a_target_is_no_engine_nor_is_a_provider_whose_model_bears_its_name(ledger: Ledger) -> None:
    now = time.time()
    at_us = int((now - 7_200) * 1e6)
    refused = row("req_1", 0, target="", model_sent="", status="failed", error_code="budget_exhausted", started_at_us=at_us)
    managed = row("req_2", target="grok", model_sent="grok", usage=USED, cost_nusd=1_200_000, started_at_us=at_us)
    assert told(ledger, now, [refused, managed]) == []
    found = told(ledger, now, [of_engine("req_3", at_us)])
    assert [(each.engine, each.target, each.target_usd_per_mtok) for each in found] == [("cpu", "grok", 2.0)]


def test_attempts_whose_cost_is_not_known_are_told_and_left_out_of_the_price(ledger: Ledger) -> None:
    now = time.time()
    at_us = int((now - 7_200) * 1e6)
    rows = [
        of_engine("req_1", at_us),
        row("req_2", started_at_us=at_us, usage=USED, cost_nusd=1_200_000),
        row("req_3", started_at_us=at_us + 60_000_000, usage=Usage(input_uncached=10**6)),
        row("req_4", started_at_us=at_us, usage=None),
    ]
    (found,) = told(ledger, now, rows)
    assert (found.target_usd_per_mtok, found.target_unpriced) == (2.0, 2)


def test_what_an_engine_can_do_is_what_it_did_in_its_busy_seconds(ledger: Ledger) -> None:
    now = time.time()
    at_us = int((now - 7_200) * 1e6)
    rows = [of_engine("req_1", at_us), row("req_2", started_at_us=at_us, usage=USED, cost_nusd=12_000_000)]
    (found,) = told(ledger, now, rows, [EngineTime("cpu", at_us + HOUR_US, HOUR_US, 2_000_000)])
    assert found.breakeven_utilisation == pytest.approx(0.5 * 24 / 20 / (300 * 86_400 / 1e6), rel=1e-4), "300 tokens in a busy second"


def test_the_hours_before_an_engine_was_there_cost_nothing(ledger: Ledger) -> None:
    now = time.time()
    at_us = int((now - 3_600) * 1e6)
    rows = [of_engine("req_1", at_us), row("req_2", started_at_us=at_us - 11 * HOUR_US, usage=USED, cost_nusd=1_200_000)]
    (found,) = told(ledger, now, rows, [EngineTime("cpu", at_us + 60_000_000, 60_000_000, 2_000_000)])
    assert found.engine_usd_per_mtok == pytest.approx(0.5 / 0.0006, rel=1e-3), "an hour of it"
    assert found.mtok_per_day == pytest.approx(0.0006 * 24, rel=1e-3) and found.traffic_mtok_per_day == pytest.approx(0.0012 * 2, rel=1e-3)


def test_a_trend_is_the_line_that_is_nearest() -> None:
    assert trend([1, 2]) is None, "two days are no trend"
    found = trend([1, 3, 5, 7])
    assert found == Trend(7, 2, 4) and found.after(10) == 27 and found.reaches(17) == 5 and found.reaches(7) == 0
    falling = trend([9, 6, 3])
    assert falling is not None and falling.after(30) == 0 and falling.reaches(4) is None and found.reaches(1_000) is None


def test_a_trend_knows_how_sure_it_is() -> None:
    noisy = trend([10, 2, 9, 3, 11, 4, 12])
    assert noisy is not None
    low, high = noisy.between(30)
    assert low == 0 and high > 50 and low < noisy.after(30) < high and noisy.reaches(20) is None, "it grows by less than its noise"
    steady = trend([1, 3, 5.1, 6.9, 9])
    assert steady is not None and steady.between(30)[0] > 60 and steady.between(30)[1] < 76
    assert steady.reaches(19) == pytest.approx(5, rel=0.05)


def test_a_projection_that_could_be_either_says_neither() -> None:
    work = Work(tokens=5 * MTOK, days=1.0, most_per_s=100 * MTOK / 86_400)
    now = against("cpu", work, 1.0, Managed("one/gpt-5", 2.0), (1.0, 18 * MTOK))
    noisy = trend([10, 2, 9, 3, 11, 4, 12])
    found = projected(now, work, noisy, noisy)
    assert (found.cheaper_projected, found.cheaper_with_all_projected, found.breakeven_in_days) == (None, None, None)
    assert found.projected_mtok_per_day_low == 0 and (found.projected_mtok_per_day_high or 0) > 50


@pytest.mark.parametrize(
    ("slope", "most_per_day", "cheaper", "days"),
    [(1.0, 100.0, True, 7.0), (0.0, 100.0, False, None), (1.0, 10.0, False, None), (0.1, 100.0, False, 70.0)],
    ids=["it grows into it", "it stays", "it grows beyond what it can do", "it will, but not in a month"],
)
def test_what_is_projected_is_held_against_the_same_break_even(slope: float, most_per_day: float, cheaper: bool, days: float | None) -> None:
    work = Work(tokens=5 * MTOK, days=1.0, most_per_s=most_per_day * MTOK / 86_400)
    now = against("cpu", work, 1.0, Managed("one/gpt-5", 2.0), (1.0, 18 * MTOK))  # 12 a day are enough
    found = projected(now, work, Trend(5.0, slope), Trend(18.0, slope))
    assert (found.cheaper_now, found.cheaper_projected, found.breakeven_in_days) == (False, cheaper, days)
    assert found.projected_mtok_per_day == min(5 + 30 * slope, most_per_day) and found.projected_traffic_mtok_per_day == 18 + 30 * slope
    assert projected(now, work, None, None).cheaper_projected is None


def test_the_trend_is_of_the_whole_days_since_there_was_any_traffic(ledger: Ledger) -> None:
    today = 1_790_000_000 // 86_400 * 86_400
    now = today + 40_000.0
    for ago in range(5):  # today's is no whole day
        at_us = int((today - ago * 86_400 + 1_000) * 1e6)
        ledger.append(
            row(
                f"req_{ago}",
                target="cpu",
                model_sent="cpu",
                engine_prefill_us=1,
                engine_decode_us=1,
                usage=Usage(input_uncached=(5 - ago) * MTOK),
                started_at_us=at_us,
            )
        )
        ledger.append(row(f"req_p{ago}", usage=Usage(input_uncached=MTOK), cost_nusd=10**9, started_at_us=at_us))
    assert ledger.flush()
    first = EngineTime("cpu", int((today - 5 * 86_400) * 1e6), 60_000_000, 0, None, 6 * 10**9)
    write(ledger.engine, [first, EngineTime("cpu", int(now * 1e6) - 10, 60_000_000, 30_000_000, None, 6 * 10**9)])
    roll_up(ledger.engine, now)
    whole = Window(int((now - 30 * 86_400) * 1e6), int(now * 1e6))
    (found,) = breakeven(ledger.engine, whole, {"cpu": 1.0}, now)
    assert found.projected_mtok_per_day == pytest.approx(4 + 30) and found.projected_traffic_mtok_per_day == pytest.approx(5 + 30)
    assert (found.breakeven_mtok_per_day, found.breakeven_in_days, found.cheaper_projected) == (24.0, 20.0, True)
    assert found.recent is not None and found.recent.hour is not None and found.recent.hour.usd_per_mtok is None, "no tokens came of that hour"
    assert found.recent.day is not None and found.recent.day.usd_per_mtok == pytest.approx(0.1 / 5)
    (of_red,) = breakeven(ledger.engine, Window(whole.from_us, whole.to_us, {"team": "red"}), {"cpu": 1.0}, now)
    assert of_red.recent is None and of_red.breakeven_in_days == 20.0
