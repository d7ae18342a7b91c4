"""An engine's break-even is where its hours cost what the same tokens cost elsewhere."""

import time
from pathlib import Path

import pytest

from contract.usage import Usage
from ledger.breakeven import Work, against, breakeven, projected
from ledger.engine_time import EngineTime, write
from ledger.rollups import roll_up
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
    work = Work(tokens=10 * MTOK, most_per_s=20 * MTOK / 86_400)  # 5 a day of 20 that it can do
    found = against("cpu", work, usd_per_hour, "one/gpt-5", usd_per_mtok, (2.0, 36 * MTOK))
    needed = usd_per_hour * 24 / usd_per_mtok
    assert found.breakeven_mtok_per_day == pytest.approx(needed) and found.breakeven_utilisation == pytest.approx(needed / 20, rel=1e-4)
    assert (found.mtok_per_day, found.traffic_mtok_per_day, found.utilisation) == (5, 18, 0.25)
    assert found.engine_usd_per_mtok == pytest.approx(usd_per_hour * 24 / 5, rel=1e-5)
    assert (found.cheaper_now, found.cheaper_with_all) == (now, with_all)


def test_an_engine_whose_hour_has_no_price_has_no_break_even() -> None:
    found = against("cpu", Work(10, 1.0), None, "one/gpt-5", 2.0, (1.0, 10))
    assert (found.engine_usd_per_mtok, found.breakeven_utilisation, found.cheaper_now) == (None, None, None)


def test_it_is_of_the_team_s_own_traffic_on_a_machine_that_all_share(tmp_path: Path) -> None:
    now = time.time()
    at_us = int((now - 7_200) * 1e6)
    used = Usage(input_uncached=500, output_visible=100)
    engine_row = {"target": "cpu", "model_sent": "cpu", "usage": used, "started_at_us": at_us}
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    for each in (
        row("req_1", **engine_row),
        row("req_2", team="blue", **engine_row),
        row("req_3", started_at_us=at_us, usage=used, cost_nusd=1_200_000),
        row("req_4", started_at_us=at_us, target="two", usage=used),
    ):
        ledger.append(each)
    assert ledger.flush()
    roll_up(ledger.engine, now)
    window = Window(int((now - 86_400) * 1e6), int(now * 1e6), {"team": "red"})
    (found,) = breakeven(ledger.engine, window, {"": 0.5}, now)
    assert (found.engine, found.target, found.target_usd_per_mtok) == ("cpu", "one/gpt-5", 2.0)
    assert found.mtok_per_day == pytest.approx(0.0006) and found.traffic_mtok_per_day == pytest.approx(0.0018)
    assert found.utilisation == pytest.approx(600 / 86_400 / 20, rel=1e-3)
    assert breakeven(ledger.engine, Window(window.from_us, window.to_us, {"team": "green"}), {"": 0.5}, now) == []
    ledger.close()


def test_a_trend_is_the_line_that_is_nearest() -> None:
    assert trend([1, 2]) is None, "two days are no trend"
    found = trend([1, 3, 5, 7])
    assert found == Trend(7, 2) and found.after(10) == 27 and found.reaches(17) == 5 and found.reaches(7) == 0
    falling = trend([9, 6, 3])
    assert falling is not None and falling.after(30) == 0 and falling.reaches(4) is None and found.reaches(1_000) is None


@pytest.mark.parametrize(
    ("slope", "most_per_day", "cheaper", "days"),
    [(1.0, 100.0, True, 7.0), (0.0, 100.0, False, None), (1.0, 10.0, False, None), (0.1, 100.0, False, 70.0)],
    ids=["it grows into it", "it stays", "it grows beyond what it can do", "it will, but not in a month"],
)
def test_what_is_projected_is_held_against_the_same_break_even(slope: float, most_per_day: float, cheaper: bool, days: float | None) -> None:
    work = Work(tokens=5 * MTOK, most_per_s=most_per_day * MTOK / 86_400)
    now = against("cpu", work, 1.0, "one/gpt-5", 2.0, (1.0, 18 * MTOK))  # 12 a day are enough
    found = projected(now, work, Trend(5.0, slope), Trend(18.0, slope))
    assert (found.cheaper_now, found.cheaper_projected, found.breakeven_in_days) == (False, cheaper, days)
    assert found.projected_mtok_per_day == min(5 + 30 * slope, most_per_day) and found.projected_traffic_mtok_per_day == 18 + 30 * slope
    assert projected(now, work, None, None).cheaper_projected is None


def test_the_trend_is_of_the_whole_days_since_there_was_any_traffic(tmp_path: Path) -> None:
    today = 1_790_000_000 // 86_400 * 86_400
    now = today + 40_000.0
    ledger = Ledger(url_of(tmp_path / "turnout.db"))
    for ago in range(5):  # today's is no whole day
        at_us = int((today - ago * 86_400 + 1_000) * 1e6)
        ledger.append(row(f"req_{ago}", target="cpu", model_sent="cpu", usage=Usage(input_uncached=(5 - ago) * MTOK), started_at_us=at_us))
        ledger.append(row(f"req_p{ago}", usage=Usage(input_uncached=MTOK), cost_nusd=10**9, started_at_us=at_us))
    assert ledger.flush()
    write(ledger.engine, [EngineTime("cpu", int(now * 1e6) - 10, 60_000_000, 30_000_000, None, 6 * 10**9)])
    roll_up(ledger.engine, now)
    whole = Window(int((now - 30 * 86_400) * 1e6), int(now * 1e6))
    (found,) = breakeven(ledger.engine, whole, {"cpu": 1.0}, now)
    assert found.projected_mtok_per_day == pytest.approx(4 + 30) and found.projected_traffic_mtok_per_day == pytest.approx(5 + 30)
    assert (found.breakeven_mtok_per_day, found.breakeven_in_days, found.cheaper_projected) == (24.0, 20.0, True)
    assert found.recent is not None and found.recent.hour is not None and found.recent.hour.usd_per_mtok is None, "no tokens came of that hour"
    assert found.recent.day is not None and found.recent.day.usd_per_mtok == pytest.approx(0.1 / 5)
    (of_red,) = breakeven(ledger.engine, Window(whole.from_us, whole.to_us, {"team": "red"}), {"cpu": 1.0}, now)
    assert of_red.recent is None and of_red.breakeven_in_days == 20.0
    ledger.close()
