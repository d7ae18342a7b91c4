"""Batches as they are looked at: one that has ended and one that runs, its rows as they come, its cost, and how it is stopped."""

import asyncio

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.conftest import KEY
from tests.dashboard.looking import looking
from tests.dashboard.test_pages import picture
from tests.gateway.batching import chat, ended, made, row, until
from tests.gateway.conftest import Gateway
from tests.gateway.oidc_admin import ADMIN_KEY
from tests.gateway.upstream import Exchange, Upstream, good

pytestmark = pytest.mark.asyncio(loop_scope="session")
FREE = 30  # rows that are answered before the others are held


async def test_a_batch_is_watched_and_cancelled(browser: Browser, gateway: Gateway, upstreams: tuple[Upstream, Upstream]) -> None:
    open_ = asyncio.Semaphore(FREE)

    async def held(x: Exchange) -> None:
        await open_.acquire()
        await good(x)

    upstreams[1].plays["slow"] = held
    sdk = gateway.sdk.with_options(api_key=KEY)
    done = await ended(sdk, await made(sdk, [row(f"a{i}", chat(f"a{i}", "chat")) for i in range(20)]))
    other = gateway.sdk.with_options(api_key="sk-ads")
    await ended(other, await made(other, [row("other", chat("other", "chat"))]))
    bad = await ended(sdk, await made(sdk, [row("b", {"model": "nothing"})]))
    runs = await made(sdk, [row(f"s{i}", chat(f"s{i}", "slow")) for i in range(60)])
    await until(sdk, runs, lambda each: each.request_counts is not None and each.request_counts.completed == FREE)
    async with looking(browser, gateway.url, clock=True) as looker:
        page = looker.page
        await looker.open("Batches")
        rows = page.get_by_role("region", name="Batches").locator("tbody tr")
        assert [(await each.inner_text()).split("\t")[1] for each in await rows.all()] == ["in progress", "failed", "completed"]
        assert await page.locator("a[href*='batch_']").count() == 3 and bad.id in await rows.nth(1).inner_html()  # none of another team
        await expect(rows.first).to_contain_text(f"{FREE} of 60")
        assert await looker.violations() == []
        await picture(looker, "Batches")
        await rows.first.get_by_role("link").click()
        await looker.settled()
        tile = page.locator(".tile", has_text="Rows done")
        await expect(tile).to_contain_text(f"{FREE}of 60")
        await expect(page.get_by_role("region", name="Answered by")).to_contain_text("beta")
        for _ in range(10):
            open_.release()
        await until(sdk, runs, lambda each: each.request_counts is not None and each.request_counts.completed == FREE + 10)
        await looker.later()
        await expect(tile).to_contain_text(f"{FREE + 10}of 60")
        await expect(page.locator(".tile", has_text="Cost so far")).to_contain_text("$0.00")
        money = {}
        for name in ("Projected", "Cost so far"):
            money[name] = float((await page.locator(".tile", has_text=name).locator("dd").inner_text()).split()[0].strip("$"))
        assert money["Projected"] == pytest.approx(money["Cost so far"] * 60 / (FREE + 10), rel=0.02)
        assert await looker.violations() == []
        await picture(looker, "Batch")
        await looker.small_and_dark()
        await page.get_by_role("button", name="Cancel this batch").click()
        await page.get_by_role("button", name="Yes, cancel it").click()
        await expect(page.get_by_role("status").filter(has_text="being cancelled")).to_be_visible()
        for _ in range(60):
            open_.release()
        await ended(sdk, runs)
        await looker.later()
        await expect(page.locator(".tile", has_text="State")).to_contain_text("cancelled")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save output").click()
        assert (await download.value).suggested_filename == "output.jsonl"
        assert looker.wrong == []
    assert gateway.runtime.admin is not None
    async with looking(browser, gateway.runtime.admin.url, key=ADMIN_KEY) as looker:
        await looker.open("Batches")
        region = looker.page.get_by_role("region", name="Batches")
        await expect(region).to_contain_text("ads")
        await region.get_by_role("link").last.click()
        await expect(looker.page.get_by_text("for the team's own keys")).to_be_visible()  # what is in its files is not an administrator's
        await expect(looker.page.locator(".tile", has_text="Rows done")).to_contain_text(f"{done.request_counts.total if done.request_counts else 0}")
        assert looker.wrong == []
