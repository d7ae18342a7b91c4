"""An engine that works, beside managed targets with prices: what it does now, what its tokens cost, and where it breaks even."""

import asyncio
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from ledger.rollups import roll_up
from tests.dashboard.conftest import ADMIN, CONFIG, TEAMS
from tests.dashboard.history import fill
from tests.dashboard.looking import looking
from tests.dashboard.test_pages import picture
from tests.gateway.conftest import running
from tests.gateway.oidc_admin import ADMIN_KEY, KEY
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")
ENGINE = """
engines:
  cpu: {kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512, gpu_usd_per_hour: 0.04}
"""
ASKED = {"model": "local", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}


async def test_an_engine_s_cost_and_break_even_are_shown(browser: Browser, upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    one, two = upstreams
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, teams=TEAMS, more=ADMIN + ENGINE)
    text = text.replace("  broken:", "  local: {targets: [{engine: cpu}]}\n  broken:")
    async with running(text, tmp_path) as gateway:
        assert gateway.runtime.admin is not None
        await asyncio.to_thread(fill, gateway.runtime.ledger.engine, 16_000, 24 * 6)
        assert (await gateway.post(ASKED, key="sk-search")).status_code == 200
        await asyncio.to_thread(roll_up, gateway.runtime.ledger.engine, time.time())
        async with looking(browser, gateway.runtime.admin.url, key=ADMIN_KEY) as looker:
            page = looker.page
            await page.get_by_role("combobox", name="Time").select_option("7d")
            await looker.open("Engines")
            await expect(page.get_by_role("region", name="Engines now")).to_contain_text("cpu")
            told = (await gateway.http.get(f"{looker.url}/admin/reports/breakeven?since=7d", headers=KEY)).json()["data"]
            assert {line["target"] for line in told} == {"alpha/small", "beta/small"}
            first = (await gateway.http.get(f"{looker.url}/admin/reports/breakeven?since=7d&limit=1", headers=KEY)).json()
            rest = await gateway.http.get(f"{looker.url}/admin/reports/breakeven?since=7d&limit=1&cursor={first['next_cursor']}", headers=KEY)
            assert [line["target"] for line in first["data"] + rest.json()["data"]] == [line["target"] for line in told]
            charts = page.locator(".chart figcaption")
            for line in told:
                assert line["usd_per_hour"] == pytest.approx(0.04) and line["breakeven_mtok_per_day"] > 0
                await expect(charts.filter(has_text=f"cpu or {line['target']}")).to_contain_text(
                    f"even at {line['breakeven_mtok_per_day']:.3g} Mtok a day"
                )
            effective = page.get_by_role("region", name="Effective cost")
            engines = (await gateway.http.get(f"{looker.url}/admin/reports/engines?since=7d", headers=KEY)).json()["data"]
            hours = page.get_by_role("region", name="Engines' hours")
            assert engines[0]["asleep_h"] > 1 and float(engines[0]["asleep_usd"]) > 0
            await expect(hours).to_contain_text(f"${float(engines[0]['asleep_usd']):.3g}")
            for span in ("hour", "day", "week"):
                await expect(effective).to_contain_text(f"{engines[0]['last'][span]['usd_per_mtok']:.3g}")
            assert await looker.violations() == [] and looker.wrong == []
            await picture(looker, "Engines")
            await looker.small_and_dark()
            await page.get_by_label("an hour costs").fill("4")
            await page.get_by_label("an hour costs").press("Enter")
            await expect(charts.first).not_to_contain_text(f"even at {told[0]['breakeven_mtok_per_day']:.3g} ")
            assert "hour=4" in page.url
            field = page.get_by_label("an hour costs")
            await field.fill("0")
            await field.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("more than 0 US dollars")
            await expect(field).to_have_value("0")
            await expect(charts.first).to_contain_text(f"even at {told[0]['breakeven_mtok_per_day']:.3g} ")
            await field.fill("4")
            await field.press("Enter")
            await expect(page.get_by_role("alert")).to_have_count(0)
            assert looker.wrong == [], "nothing was refused"
