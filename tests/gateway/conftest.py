"""A real gateway on a real port, in the test's own loop, before a scripted upstream."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import uvloop
from openai import AsyncOpenAI

from config.load import load
from gateway.app import create_app
from gateway.cli.settings import known_kinds
from gateway.connection import ClientConnection
from gateway.fastpath import FastPath
from gateway.runtime import Runtime, build_runtime
from gateway.server import bind
from gateway.workers.host import Host as EngineHost
from ledger.queries import all_attempts, attempts_of
from policy.breaker import Breaker
from tests.gateway.metering import Host as MeterHost
from tests.gateway.upstream import Upstream

KEY = "sk-test-key"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # no certificates to load anew for each client


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: sk-upstream-one, timeouts: {timeouts}}}
  two: {{kind: openai-compatible, base_url: "{two}", api_key: sk-upstream-two}}
models:
  solo: {{targets: [{{provider: one, model: m1}}]}}
  pair: {{targets: [{{provider: one, model: m1}}, {{provider: two, model: m2}}]}}
  "one/*": {{targets: [{{provider: one, model: "*"}}]}}
teams:
  search: {{keys: [{key}]}}
  narrow: {{models: [solo], keys: [sk-narrow]}}
"""


class Gateway:
    """A running gateway, its base URL, and ways to ask it."""

    def __init__(self, runtime: Runtime, url: str) -> None:
        self.runtime = runtime
        self.url = url
        self.http = httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False, verify=NO_TLS)

    @functools.cached_property
    def sdk(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=60)

    async def post(self, body: Any, key: str | None = KEY, path: str = "/v1/chat/completions", **headers: str) -> httpx2.Response:
        auth = {"authorization": f"Bearer {key}"} if key else {}
        kwargs: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self.http.post(path, headers={"content-type": "application/json", **auth, **headers}, **kwargs)

    def heal(self) -> None:
        """As after a long rest: no breaker is open, no failure of a target is remembered."""
        for route in self.runtime.routes.all:
            for target in route.targets:
                target.health.breaker = Breaker()

    async def rows(self, request_id: str) -> list[Any]:
        await asyncio.to_thread(self.runtime.ledger.flush)
        return attempts_of(self.runtime.ledger.engine, request_id, team=None)

    async def all_rows(self) -> list[Any]:
        await asyncio.to_thread(self.runtime.ledger.flush)
        return all_attempts(self.runtime.ledger.engine)


@contextlib.asynccontextmanager
async def running(
    yaml: str, folder: Path, protocol: type[ClientConnection] = ClientConnection, host: EngineHost | None = None
) -> AsyncIterator[Gateway]:
    """Serves a configuration on a free port until the block ends. `host`: whose engines are used, instead of its own."""
    path = folder / "turnout.yaml"
    path.write_text(yaml)
    runtime = build_runtime(load(path, {}, known_kinds()).settings, host=host)
    listener = bind("127.0.0.1", 0)
    config = uvicorn.Config(
        FastPath(create_app(runtime, "test"), runtime), http=protocol, ws="none", lifespan="on", log_config=None, access_log=False
    )
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server._serve([listener]))
    while not server.started:
        assert not serving.done(), serving
        await asyncio.sleep(0.01)
    gateway = Gateway(runtime, f"http://127.0.0.1:{listener.getsockname()[1]}")
    try:
        yield gateway
    finally:
        await gateway.http.aclose()
        if "sdk" in vars(gateway):
            await gateway.sdk.close()
        server.should_exit = True
        await serving
        listener.close()


@pytest.fixture
async def one() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest.fixture
async def two() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    yield upstream
    await upstream.stop()


@pytest.fixture
def config_text(one: Upstream, two: Upstream, tmp_path: Path) -> Callable[..., str]:
    def text(timeouts: str = "{}") -> str:
        return CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY, timeouts=timeouts)

    return text


@pytest.fixture
async def gateway(config_text: Callable[..., str], tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(config_text(), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def host() -> AsyncIterator[MeterHost]:
    host = MeterHost()
    yield host
    await host.close()
