"""A gateway of half an hour: what its pages show is of all its requests, on the time that was asked for."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, expect

from contract.usage import Usage
from ledger.rollups import roll_up
from tests.dashboard.conftest import CONFIG
from tests.dashboard.looking import Looker, looking
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Upstream
from tests.ledger.rows import row

pytestmark = pytest.mark.asyncio(loop_scope="session")
KEY = {"authorization": "Bearer sk-search"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def young(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Nine slow streams of one target and a quick one of another; one that failed; two that were refused before they had a target."""
    folder = tmp_path_factory.mktemp("young")
    one, two = await Upstream().start(), await Upstream().start()
    text = CONFIG.format(folder=folder, one=one.base_url, two=two.base_url, teams="{search: {keys: [sk-search]}}", more="")
    at_us = int((time.time() - 1_800) * 1e6)
    plain: dict[str, Any] = {"team": "search", "started_at_us": at_us, "stream": True, "usage": Usage(input_uncached=9, output_visible=9)}
    async with running(text, folder) as gateway:
        for n in range(9):
            gateway.runtime.ledger.append(
                row(f"slow_{n}", target="beta", model_sent="small", first_token_us=2_000_000, end_us=2_100_000, cost_nusd=740, **plain)
            )
        gateway.runtime.ledger.append(row("quick", target="alpha", model_sent="small", first_token_us=20_000, end_us=60_000, cost_nusd=740, **plain))
        gateway.runtime.ledger.append(row("failed", status="failed", **{**plain, "usage": None}))
        for n in range(2):
            refused = {**plain, "usage": None, "status": "failed", "target": "", "model_sent": "", "client_status": 402}
            gateway.runtime.ledger.append(row(f"refused_{n}", 0, error_code="budget_exhausted", **refused))
        assert await asyncio.to_thread(gateway.runtime.ledger.flush)
        await asyncio.to_thread(roll_up, gateway.runtime.ledger.engine, time.time())
        yield gateway
    await one.stop()
    await two.stop()


async def tile(looker: Looker, name: str) -> str:
    return await looker.page.locator(".tile", has=looker.page.locator("dt", has_text=name)).inner_text()


async def test_the_first_token_is_everybody_s(browser: Browser, young: Gateway) -> None:
    async with looking(browser, young.url) as looker:
        await looker.open("Overview")
        told = (await young.http.get("/v1/reports/latency?group_by=", headers=KEY)).json()["data"]
        assert len(told) == 1 and told[0]["ttft"]["n"] == 10 and told[0]["ttft"]["p50_ms"] > 1_500
        assert f"{told[0]['ttft']['p50_ms'] / 1_000:.3g} s" in await tile(looker, "First token")


async def test_what_was_refused_is_no_failed_attempt(browser: Browser, young: Gateway) -> None:
    async with looking(browser, young.url) as looker:
        await looker.open("Overview")
        assert (await tile(looker, "Failed attempts")).split() == ["Failed", "attempts", "1", "9.1%"]
        assert (await tile(looker, "Refused requests")).split() == ["Refused", "requests", "2", "15%"]


@pytest.mark.parametrize(("name", "charts"), [("Overview", 4), ("Latency", 2), ("Spend", 1)])
async def test_the_time_that_was_asked_for_is_the_axis(browser: Browser, young: Gateway, name: str, charts: int) -> None:
    async with looking(browser, young.url) as looker:
        await looker.open(name)
        for label, hours in (("1 hour", 1), ("24 hours", 24), ("7 days", 168)):
            await looker.page.locator("header").get_by_label("Time").select_option(label=label)
            await looker.settled()
            shown = looker.page.locator(".plot")
            await expect(shown).to_have_count(charts)
            for n in range(charts):
                begin, end = await axis(shown.nth(n), hours)
                assert end - begin == timedelta(hours=hours) and datetime.now(UTC) - end < timedelta(hours=1, minutes=5), (label, n)


async def axis(plot: Locator, hours: int) -> tuple[datetime, datetime]:
    """From when to when the chart says that it is, once it is of so many hours."""
    async with asyncio.timeout(20):
        while True:
            found = re.search(r"\((\S+ \S+) to (\S+ \S+)\)\.", await plot.get_attribute("aria-label") or "")
            begin, end = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (found.groups() if found else ("1970-01-01", "1970-01-01"))]
            if end - begin == timedelta(hours=hours):
                return begin, end
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("name", ["Overview", "Spend", "Latency", "Requests", "Models and prices", "Targets", "Engines", "Batches"])
async def test_every_column_is_in_sight(browser: Browser, young: Gateway, name: str) -> None:
    async with looking(browser, young.url) as looker:
        await looker.open(name)
        for table in await looker.page.locator(".scroll:has(table)").all():
            label = await table.get_attribute("aria-label")
            assert await table.evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0, label


async def test_a_request_that_was_refused_had_no_attempt(browser: Browser, young: Gateway) -> None:
    async with looking(browser, young.url) as looker:
        await looker.open("Requests")
        rows = looker.page.get_by_role("region", name="Requests").locator("tbody tr")
        await expect(rows).to_have_count(13)
        told = [await row.locator("td").all_inner_texts() for row in await rows.all()]
        assert sorted(cells[5] for cells in told) == ["0", "0"] + 11 * ["1"]
    csv = (await young.http.get("/v1/requests?format=csv", headers=KEY)).text.splitlines()
    place = csv[0].split(",").index("attempts")
    assert sorted(line.split(",")[place] for line in csv[1:]) == ["0", "0"] + 11 * ["1"]
