"""A real gateway with a past, and a real headless Chromium that looks at it."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from ledger.rollups import roll_up
from tests.dashboard.history import fill
from tests.gateway.conftest import Gateway, running
from tests.gateway.oidc_admin import ADMIN_KEY
from tests.gateway.upstream import Upstream, status

ROOT = Path(__file__).parents[2]
NODE_MODULES = ROOT / "dashboard" / "node_modules"
KEY = "sk-search"
TEAMS = """
  search: {keys: [sk-search], limits: {rpm: 6000, tpm: 2000000, concurrency: 40}, budget: {usd: 2, window: week}}
  ads: {keys: [sk-ads], budget: {usd: 1, window: month, on_exhausted: local}}
"""
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  alpha: {{kind: openai-compatible, base_url: "{one}", api_key: k, region: eu}}
  beta: {{kind: openai-compatible, base_url: "{two}", api_key: k, region: us}}
policies:
  interactive: {{objective: cheapest, slo: {{ttft_p95_ms: 800}}}}
models:
  chat:
    policy: interactive
    targets:
      - {{provider: alpha, model: small, price: {{input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}}}}
      - {{provider: beta, model: small, price: {{input_usd_per_mtok: 0.2, output_usd_per_mtok: 0.8}}}}
  slow: {{targets: [{{provider: beta, model: slow, price: {{input_usd_per_mtok: 0.2, output_usd_per_mtok: 0.8}}}}]}}
  broken: {{targets: [{{provider: beta, model: broken, price: free}}, {{provider: alpha, model: small, price: free}}]}}
teams: {teams}
{more}
"""
ADMIN = f"admin: {{port: 0, key: {ADMIN_KEY}}}"


def chromium() -> str:
    """Where it is."""
    found = os.environ.get("TURNOUT_CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("the dashboard's tests need Chromium: run scripts/install_servers.sh as root, or name it with TURNOUT_CHROMIUM")
    if not (NODE_MODULES / "axe-core" / "axe.min.js").is_file():
        pytest.skip("the dashboard's tests need what npm installs: run `make dashboard-dev`")
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=20_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    one, two = await Upstream().start(), await Upstream().start()
    two.plays["broken"] = status(500)
    yield one, two
    await one.stop()
    await two.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Two teams, a day and a half of eight thousand requests, an admin API."""
    folder = tmp_path_factory.mktemp("dashboard")
    one, two = upstreams
    async with running(CONFIG.format(folder=folder, one=one.base_url, two=two.base_url, teams=TEAMS, more=ADMIN), folder) as gateway:
        await asyncio.to_thread(fill, gateway.runtime.ledger.engine, 8_000, 36)
        await asyncio.to_thread(roll_up, gateway.runtime.ledger.engine, time.time())
        yield gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def empty(upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """One team and no request ever."""
    folder = tmp_path_factory.mktemp("empty")
    one, two = upstreams
    text = CONFIG.format(folder=folder, one=one.base_url, two=two.base_url, teams="{search: {keys: [sk-search]}}", more="")
    async with running(text, folder) as gateway:
        yield gateway
