"""Gateways with caching before one upstream, whose answers a test can hold back; for the tests of kept and shared answers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from ledger.row import AttemptRow
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import USAGE, Exchange, Play, Upstream, chunk, good

COST = 20 * 1000 - 8 * 500 + 5 * 2000  # nano-dollars of the upstream's USAGE: 12 tokens in, 8 from its cache, 5 out
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"{state}}}
policies: {{kept: {{cache: {{{cache}}}, retry: {{max_attempts: 1}}{policy}}}, plain: {{retry: {{max_attempts: 1}}}}}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  claude: {{kind: anthropic, base_url: "{one}", api_key: k}}
models:
  solo: {{policy: kept, targets: [{{provider: one, model: m1, price: {price}}}]}}
  plain: {{policy: plain, targets: [{{provider: one, model: m1, price: {price}}}]}}
  claude: {{policy: kept, targets: [{{provider: claude, model: c1}}]}}
  mixed: {{policy: kept, targets: [{{provider: claude, model: c1}}]}}
teams:
  search: {{keys: [{key}, sk-search-2], overrides: true}}
  other: {{keys: [sk-other]}}
"""
PRICE = "{input_usd_per_mtok: 1, output_usd_per_mtok: 2, cache_read_usd_per_mtok: 0.5}"
ASKED: dict[str, Any] = {"model": "solo", "messages": [{"role": "user", "content": "Hello?"}]}
STREAMED = {**ASKED, "stream": True}


def config(folder: Path, one: Upstream, *, cache: str = "", policy: str = "", state: str = "") -> str:
    return CONFIG.format(folder=folder, one=one.base_url, key=KEY, price=PRICE, cache=cache, policy=policy, state=state)


@contextlib.asynccontextmanager
async def world(folder: Path, one: Upstream, **settings: str) -> AsyncIterator[Gateway]:
    async with running(config(folder, one, **settings), folder) as gateway:
        yield gateway


class Gate:
    """A play that says that it was asked, and goes on once the test lets it: the first piece at once, where it streams."""

    def __init__(self, rest: Play = good) -> None:
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.rest = rest

    async def __call__(self, x: Exchange) -> None:
        self.asked.set()
        if not x.seen.body.get("stream"):
            await self._opened(x)
            return await self.rest(x)
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hello"}))
        await self._opened(x)
        await x.event(chunk({"content": " there"}))
        await x.event(chunk({}, finish="stop"))
        if (x.seen.body.get("stream_options") or {}).get("include_usage"):
            await x.event(chunk(None, usage=USAGE))
        await x.event("[DONE]")
        return await x.end_stream()

    async def _opened(self, x: Exchange) -> None:
        """Until the test says so, or the gateway has gone."""
        opened, gone = asyncio.ensure_future(self.open.wait()), asyncio.ensure_future(x.wait_until_gone())
        await asyncio.wait({opened, gone}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        gone.cancel()
        await asyncio.gather(opened, gone, return_exceptions=True)


async def row_of(gateway: Gateway, answer: Any) -> AttemptRow:
    """The only row of a request."""
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    return row


def use(answer: Any) -> str:
    told: str = answer.headers["x-turnout-cache"]
    return told


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what has to come; a test that waits in vain is ended by its own time limit."""
    while not holds():
        await asyncio.sleep(0.005)


def under_way(gateway: Gateway, waiting: int) -> Callable[[], bool]:
    """Whether so many wait for the one answer under way."""
    caches = gateway.runtime.caches
    assert caches is not None
    return lambda: [flight.waiting for flight in caches.flights] == [waiting]
