"""What somebody does at the dashboard: signs in, filters, opens a request, waits for news, asks, chats; by keys alone too."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.looking import looking
from tests.dashboard.test_pages import picture
from tests.gateway.conftest import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")
CHAT = {"model": "broken", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}


async def test_a_wrong_key_is_refused_and_a_right_one_is_forgotten_at_the_end(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url, key=None) as looker:
        page = looker.page
        await page.goto(f"{gateway.url}/dashboard")
        await page.get_by_label("key").fill("sk-nobody-s")
        await page.get_by_role("button", name="Use this key").click()
        await expect(page.get_by_role("alert")).to_contain_text("not valid")
        await looker.sign_in()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("key").wait_for()
        assert await page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])") == '[{},{},""]'


async def test_filters_are_in_the_address_and_hold_after_a_reload(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await looker.open("Requests")
        await page.get_by_label("Status").select_option("failed")
        rows = page.get_by_role("region", name="Requests").locator("tbody tr:not(.gap)")
        await expect(rows.first).to_contain_text("failed")
        assert "status=failed" in page.url and "sk-search" not in page.url
        await page.reload()
        await expect(rows.first).to_contain_text("failed")
        assert await page.get_by_label("Status").input_value() == "failed"
        assert all("failed" in text and "beta" in text for text in await rows.all_inner_texts())
        await page.get_by_label("Model").fill("no-such-model")
        await page.get_by_label("Model").press("Enter")
        await page.get_by_text("No request matches.").wait_for()
        await page.go_back()
        await expect(rows.first).to_contain_text("failed")


async def test_a_long_list_is_read_as_one_scrolls_and_only_what_is_in_sight_is_there(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await looker.open("Requests")
        region = page.get_by_role("region", name="Requests")
        for read in (400, 600, 800):
            await region.evaluate("(element) => element.scrollTo(0, element.scrollHeight)")
            await page.get_by_text(f"{read} requests, and more below").wait_for()
        assert await region.locator("tbody tr").count() <= 60
        first = await region.locator("tbody tr:not(.gap)").first.get_attribute("aria-rowindex")
        assert first is not None and int(first) > 300


async def test_a_request_opens_into_its_attempts_and_its_decision(browser: Browser, gateway: Gateway) -> None:
    answer = await gateway.post(CHAT, key="sk-search")
    assert answer.status_code == 200
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await looker.open("Requests")
        await page.get_by_label("Model").fill("broken")
        await page.get_by_label("Model").press("Enter")
        await page.get_by_role("region", name="Requests").get_by_role("link").first.click()
        await page.get_by_role("heading", name="Request", exact=True).wait_for()
        await page.get_by_role("heading", name="Decision").wait_for()
        attempts = page.get_by_role("region", name="Attempts", exact=True)
        assert [re.split(r"\s", text)[0] for text in await attempts.locator("tbody tr").all_inner_texts()] == ["beta", "beta", "alpha"]
        assert await page.locator(".waterfall rect").count() >= 2
        await expect(page.get_by_role("region", name="Candidates")).to_contain_text("chosen")
        assert await looker.violations() == [] and looker.wrong == []
        await picture(looker, "request")


async def test_another_team_s_request_does_not_open(browser: Browser, gateway: Gateway) -> None:
    answer = await gateway.post({**CHAT, "model": "chat"}, key="sk-ads")
    async with looking(browser, gateway.url) as looker:
        await looker.page.goto(f"{gateway.url}/dashboard#/requests/{answer.headers['x-request-id']}")
        await expect(looker.page.get_by_role("alert")).to_contain_text("there is no request")


async def test_what_happens_is_seen_without_a_reload(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url, clock=True) as looker:
        await looker.open("Requests")
        answer = await gateway.post({**CHAT, "model": "chat"}, key="sk-search")
        await looker.later()
        await looker.page.locator(f"a[href*='{answer.headers['x-request-id']}']").wait_for()


async def test_the_form_explains_what_would_be_decided(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await looker.open("Routing")
        candidates = page.get_by_role("region", name="Candidates")
        await expect(candidates).to_contain_text("chosen")
        await page.get_by_label("Prompt tokens").fill("5000")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_text("about 5,000 tokens in the prompt")).to_be_visible()
        assert "prompt_tokens=5000" in page.url
        await page.get_by_label("Model").fill("nothing")
        await page.get_by_role("button", name="Explain").click()
        await expect(page.get_by_role("alert")).to_contain_text("there is no model")


async def test_another_policy_is_replayed_and_stands_in_the_address(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await looker.open("Routing")
        policy = page.get_by_label("Policies to try")
        assert "objective: fastest" in await policy.input_value()
        await policy.fill("policies: {interactive: {objective: nonsense}}")
        await page.get_by_role("button", name="Replay").click()
        await expect(page.get_by_role("alert")).to_contain_text("policies.interactive.objective")
        await policy.fill("policies:\n  interactive:\n    objective: fastest\n    slo: {ttft_p95_ms: 600}\n")
        await page.get_by_role("button", name="Replay").click()
        choices = page.get_by_role("region", name="First choices of the replay")
        await expect(choices).to_contain_text("beta/small", timeout=60_000)  # it runs behind everything else on the machine
        evidence = page.locator(".tile", has_text="With evidence")
        await expect(evidence).to_contain_text("%")
        figures = await page.get_by_role("region", name="Figures of the replay").inner_text()
        assert re.search(r"cost\s+\$[0-9.]+\s+\$[0-9.]+\s+[+−][0-9.]+%", figures), figures
        assert await page.get_by_role("alert").count() == 0 and await looker.violations() == []
        await picture(looker, "Replay", part="Replay")
        await looker.small_and_dark()
        await page.reload()
        await expect(choices).to_contain_text("beta/small")
        refused = [each for each in looker.wrong if "400" not in each]
        assert refused == []


async def test_a_chat_streams_and_its_decision_is_shown_by_keys_alone(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        page = looker.page
        await page.get_by_role("link", name="Playground").focus()
        await page.keyboard.press("Enter")
        await page.get_by_label("Message").focus()
        await page.keyboard.type("Hello?")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("log")).to_have_text("Hello there")
        await page.get_by_role("heading", name="Decision").wait_for()
        await expect(page.get_by_role("region", name="Candidates")).to_contain_text("chosen")
        assert await looker.violations() == [] and looker.wrong == []
        await picture(looker, "Playground")


async def test_the_theme_is_the_system_s_until_somebody_chooses(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url, dark=True) as looker:
        theme = "document.documentElement.dataset.theme"
        assert await looker.page.evaluate(theme) == "dark"
        await looker.page.get_by_role("button", name="Light").click()
        assert await looker.page.evaluate(theme) == "light"
        await looker.page.reload()
        await looker.page.get_by_role("navigation").wait_for()
        assert await looker.page.evaluate(theme) == "light"


async def test_the_json_of_a_page_can_be_saved(browser: Browser, gateway: Gateway) -> None:
    async with looking(browser, gateway.url) as looker:
        await looker.open("Spend")
        await looker.page.get_by_text("JSON of this page").click()
        async with looker.page.expect_download() as download:
            await looker.page.get_by_role("button", name=re.compile("^Save")).first.click()
        assert (await download.value).suggested_filename == "v1-reports-cost.json"
