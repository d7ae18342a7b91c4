"""Every page in a real browser, light and dark, wide and on a phone, full and empty: it shows its figures, breaks no rule and asks nobody else."""

import os
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.dashboard.looking import PHONE, Looker, looking
from tests.gateway.conftest import Gateway
from tests.gateway.oidc_admin import ADMIN_KEY

pytestmark = pytest.mark.asyncio(loop_scope="session")
PAGES = ("Overview", "Spend", "Latency", "Requests", "Teams and budgets", "Models and prices", "Routing", "Targets", "Engines", "Batches")
PICTURES = os.environ.get("TURNOUT_PICTURES")  # a folder to keep pictures of the pages in: docs/images


HEIGHTS = {"Requests": 640, "Latency": 780}  # where less shows as much


async def picture(looker: Looker, name: str, part: str | None = None) -> None:
    """All of the page, up to a height that is still read at a glance; or the region of that name in it."""
    if not PICTURES:
        return
    page, path = looker.page, Path(PICTURES) / f"dashboard-{name.lower().replace(' ', '-')}.png"
    if part is not None:
        await page.get_by_role("region", name=part, exact=True).screenshot(path=path)
        return
    high = await page.evaluate("document.documentElement.scrollHeight")
    assert page.viewport_size is not None
    clip = {"x": 0, "y": 0, "width": page.viewport_size["width"], "height": min(HEIGHTS.get(name, 1100), high)}
    await page.screenshot(path=path, full_page=True, clip=clip)  # type: ignore[arg-type]


@pytest.mark.parametrize("phone", [False, True], ids=["wide and light", "a phone and dark"])
async def test_every_page_is_whole_and_accessible(browser: Browser, gateway: Gateway, phone: bool) -> None:
    async with looking(browser, gateway.url, size=PHONE if phone else None, dark=phone) as looker:
        for name in (*PAGES, "Playground"):
            await looker.open(name)
            assert await looker.page.get_by_role("alert").count() == 0, name
            assert await looker.violations() == [], name
            if not phone and name not in ("Playground", "Engines", "Batches"):
                await picture(looker, name)
            if not phone and name == "Latency":
                await picture(looker, "Predictions", part="Predictions")
            wide = await looker.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is {wide} pixels wider than the window"
        if phone:
            await looker.open("Overview")
            await picture(looker, "phone")
        assert looker.wrong == []
        assert all(url.startswith((gateway.url, "blob:")) for url in looker.asked)
        assert not any("sk-search" in url for url in looker.asked)


async def test_an_administrator_sees_all_teams_or_one_and_has_no_playground(browser: Browser, gateway: Gateway) -> None:
    assert gateway.runtime.admin is not None
    async with looking(browser, gateway.runtime.admin.url, key=ADMIN_KEY) as looker:
        for name in PAGES:
            await looker.open(name)
            assert await looker.page.get_by_role("alert").count() == 0, name
        assert await looker.page.get_by_role("link", name="Playground").count() == 0
        await looker.open("Engines")
        engines = looker.page.get_by_role("region", name="Engines' hours")
        assert "cpu" in await engines.inner_text()
        await looker.page.get_by_label("Team").select_option("ads")
        await looker.open("Requests")
        rows = looker.page.get_by_role("region", name="Requests")
        assert "alpha" in await rows.inner_text() and "team=ads" in looker.page.url
        assert looker.wrong == [] and all(
            "team=ads" in url for url in looker.asked if "/admin/requests" in url and "cursor" not in url and "team=" in url
        )


async def test_without_any_request_every_page_says_so(browser: Browser, empty: Gateway) -> None:
    async with looking(browser, empty.url) as looker:
        for name in (*PAGES, "Playground"):
            await looker.open(name)
            assert await looker.page.get_by_role("alert").count() == 0, name
        await looker.open("Overview")
        spend = looker.page.locator(".tile", has_text="Spend")
        assert "–" in await spend.inner_text()  # unknown is not nothing
        await looker.open("Requests")
        await looker.page.get_by_text("No request matches.").wait_for()
        assert looker.wrong == []


async def test_all_that_a_browser_loads_is_small(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url, key=None) as looker:
        await looker.page.goto(f"{gateway.url}/dashboard", wait_until="networkidle")
        sizes = await looker.page.evaluate("performance.getEntries().filter((e) => e.encodedBodySize).map((e) => e.encodedBodySize)")
        assert len(sizes) > 15 and sum(sizes) <= 250_000
