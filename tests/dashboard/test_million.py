"""A million requests in the ledger: the pages come, their sums grow until they are whole, and the list is as quick at its end as at its beginning."""

import asyncio
import time
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from ledger.rollups import roll_up
from tests.dashboard.conftest import CONFIG, TEAMS
from tests.dashboard.history import fill
from tests.dashboard.looking import looking
from tests.gateway.conftest import running
from tests.gateway.upstream import Upstream

ROWS = 1_000_000
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow, pytest.mark.timeout(600)]


async def whole(engine: Engine) -> None:
    """Until all sums are made: by us, or by the gateway, which has the database to itself meanwhile."""
    async with asyncio.timeout(300):
        while True:
            try:
                if await asyncio.to_thread(roll_up, engine, time.time()):
                    return
            except OperationalError:
                await asyncio.sleep(0.5)


async def test_a_million_requests_are_shown(browser: Browser, upstreams: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    one, two = upstreams
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, teams=TEAMS, more="")
    async with running(text, tmp_path) as gateway:
        engine = gateway.runtime.ledger.engine
        await asyncio.to_thread(fill, engine, ROWS, 24 * 7 - 1)  # all of them are still of the last 7 days at the test's end
        async with looking(browser, gateway.url) as looker:
            page = looker.page
            page.set_default_timeout(60_000)
            await looker.open("Requests")
            region = page.get_by_role("region", name="Requests")
            for read in (400, 600, 800, 1000):
                await region.evaluate("(element) => element.scrollTo(0, element.scrollHeight)")
                await page.get_by_text(f"{read} requests, and more below").wait_for()
            assert await region.locator("tbody tr").count() <= 60
            began = time.monotonic()
            await whole(engine)
            print(f"sums of {ROWS} rows made in {time.monotonic() - began:.1f} s")
            await page.get_by_label("Time").select_option("7d")
            for name in ("Overview", "Spend", "Latency", "Targets"):
                began = time.monotonic()
                await looker.open(name)
                print(f"{name} of 7 days shown after {time.monotonic() - began:.2f} s")
                assert await page.get_by_role("alert").count() == 0
            await looker.open("Overview")
            tile = page.locator(".tile", has=page.get_by_text("Requests", exact=True))
            await expect(tile.locator("dd")).to_have_text("800K")  # the team's, of four in five
            assert looker.wrong == []
