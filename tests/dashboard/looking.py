"""Somebody at the dashboard: a page of the browser that is signed in, and what is wrong with what it shows."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.dashboard.conftest import KEY, NODE_MODULES

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 375, "height": 740}


class Looker:
    """`wrong`: errors of scripts, broken rules of the content policy, failed loads. `asked`: every address that the page asked for."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self.asked.append(request.url))

    async def sign_in(self, key: str = KEY) -> None:
        await self.page.goto(f"{self.url}/dashboard")
        await self.page.get_by_label("key").fill(key)
        await self.page.get_by_role("button", name="Use this key").click()
        await self.page.get_by_role("navigation").wait_for()

    async def open(self, name: str) -> None:
        """A page by the menu, once its figures are there."""
        await self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        await self.page.get_by_role("heading", level=1, name=name).wait_for()
        await self.settled()

    async def settled(self) -> None:
        await self.page.locator(".sources").first.wait_for()
        await expect(self.page.locator("[aria-busy=true]")).to_have_count(0)

    async def later(self, seconds: float = 5) -> None:
        """So much later by the page's clock, at which it looks again."""
        await self.page.clock.fast_forward(int(seconds * 1000))

    async def small_and_dark(self) -> None:
        """What is shown is also whole at a phone's width and in the dark."""
        await self.page.emulate_media(color_scheme="dark")
        await self.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert await self.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        assert await self.violations() == []
        await self.page.emulate_media(color_scheme="light")
        await self.page.set_viewport_size(WIDE)  # type: ignore[arg-type]

    async def violations(self) -> list[str]:
        """What axe finds, by rule and element."""
        # By the debugger, not by a tag: the page's own policy would refuse that.
        if not await self.page.evaluate("Boolean(window.axe)"):
            await self.page.evaluate((NODE_MODULES / "axe-core" / "axe.min.js").read_text() + "; undefined")
        found: list[dict[str, Any]] = await self.page.evaluate("axe.run().then((result) => result.violations)")
        return [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]


@contextlib.asynccontextmanager
async def looking(
    browser: Browser, url: str, size: dict[str, int] | None = None, dark: bool = False, key: str | None = KEY, clock: bool = False
) -> AsyncIterator[Looker]:
    """`clock`: the page's goes on by itself, and `later` puts it forward."""
    context = await browser.new_context(viewport=size or WIDE, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
    if clock:
        await context.clock.install()
    looker = Looker(await context.new_page(), url)
    looker.page.set_default_timeout(20_000)
    try:
        if key is not None:
            await looker.sign_in(key)
        yield looker
    finally:
        await context.close()
