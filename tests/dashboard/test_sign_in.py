"""People at the dashboard by single sign-on: to the provider and back, as far as their role goes, and out again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.conftest import CONFIG, TEAMS
from tests.dashboard.looking import looking
from tests.gateway.conftest import running
from tests.gateway.oidc_admin import OidcServer, oidc_server
from tests.gateway.oidc_server import CLIENT, CLIENT_SECRET, PASSWORD
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="session")
ADMIN = """
admin:
  port: 0
  oidc: {{issuer: "{issuer}", client_id: {client}, client_secret: "{secret}", admins: [gateway-admins], team_owners: {{search-leads: [search]}}}}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcServer]:
    with oidc_server() as server:
        yield server


async def test_an_owner_signs_in_sees_their_own_team_and_signs_out(
    browser: Browser, provider: OidcServer, upstreams: tuple[Upstream, Upstream], tmp_path: Path
) -> None:
    one, two = upstreams
    more = ADMIN.format(issuer=provider.issuer, client=CLIENT, secret=CLIENT_SECRET)
    text = CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, teams=TEAMS, more=more)
    async with running(text, tmp_path) as gateway:
        assert gateway.runtime.admin is not None
        async with looking(browser, gateway.runtime.admin.url, key=None) as looker:
            page = looker.page
            await page.goto(f"{looker.url}/dashboard")
            await page.get_by_role("button", name="Sign in").click()
            await page.locator("[name=name]").fill("tom")
            await page.locator("[name=password]").fill(PASSWORD)
            await page.locator("form").evaluate("(form) => form.submit()")
            await page.get_by_role("navigation").wait_for()
            assert await page.evaluate("JSON.stringify([{...sessionStorage}, document.cookie])") == '[{},""]'
            await looker.open("Teams and budgets")
            panels = page.locator(".budgets > section")
            await expect(panels).to_have_count(1)
            await expect(panels).to_contain_text("search")
            assert await page.get_by_label("Team").locator("option").all_inner_texts() == ["search"]
            await looker.open("Routing")
            await page.get_by_role("button", name="Replay").click()  # a write, which needs the session's token
            await expect(page.get_by_text("No request of this time can be planned again.")).to_be_visible(timeout=60_000)
            await page.get_by_role("button", name="Sign out").click()
            async with asyncio.timeout(20):
                while await page.context.cookies():
                    await asyncio.sleep(0.05)
            later = await page.context.new_page()
            await later.goto(f"{looker.url}/")  # where providers lead after a logout
            await expect(later.get_by_role("button", name="Sign in")).to_be_visible()
