"""An engine's break-even is where its hours cost what the same tokens cost elsewhere."""

import time
from pathlib import Path

import pytest

from contract.usage import Usage
from ledger.breakeven import Work, against, breakeven
from ledger.rollups import roll_up
from ledger.store import Ledger
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
