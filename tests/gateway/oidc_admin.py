"""A provider's process, an admin API behind a gate, and a browser, all over loopback."""

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import uvicorn
from fastapi import Depends, FastAPI, Request, Response

from config.tenancy import AdminSettings
from contract.errors import TurnoutError
from gateway.admin.gate import Gate
from gateway.admin.oidc import Provider
from gateway.admin.roles import AdminCaller
from gateway.admin.sign_in import add_sign_in
from gateway.errors import shown
from gateway.server import bind
from ledger.database import open_engine
from providers.http.client import PooledClient
from tests.gateway.oidc_server import CLIENT, CLIENT_SECRET, PASSWORD

ADMIN_KEY = "sk-admin-of-the-tests"
KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
ROLES = {"admins": ["gateway-admins"], "viewers": ["gateway-viewers"], "team_owners": {"search-leads": ["search", "maps"]}}


@contextlib.contextmanager
def process(command: list[str], ready: str) -> Iterator[None]:
    """A program that writes a line with `ready` when it listens; it is killed at the end."""
    running = subprocess.Popen([sys.executable, "-W", "ignore", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert running.stdout is not None
        said = ""
        while ready not in said:
            line = running.stdout.readline()
            assert line, f"it ended: {said}"
            said += line
        yield
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class OidcServer:
    """The provider of oidc_server.py, as tests speak to it."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self._http = httpx2.Client(trust_env=False, verify=False)  # plain HTTP: no certificates to load

    def close(self) -> None:
        self._http.close()

    def control(self, **wanted: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._http.post(f"{self.issuer}/control", json=wanted).json()
        return answer

    def sign(self, claims: dict[str, Any] | None = None, header: dict[str, Any] | None = None, forged: bool = False) -> str:
        body = {"claims": claims or {}, "header": header or {}, "forged": forged}
        token: str = self._http.post(f"{self.issuer}/sign", json=body).json()
        return token


@contextlib.contextmanager
def oidc_server() -> Iterator[OidcServer]:
    port = free_port()
    with process([str(Path(__file__).parent / "oidc_server.py"), str(port)], "listens"):
        server = OidcServer(port)
        yield server
        server.close()


def settings_of(issuer: str, **oidc: Any) -> AdminSettings:
    given = {"issuer": issuer, "client_id": CLIENT, "client_secret": CLIENT_SECRET, **ROLES, **oidc}
    return AdminSettings.model_validate({"key": ADMIN_KEY, "oidc": given})


def make_app(gate: Gate) -> FastAPI:
    """An API with a route to read and one to write what belongs to a team, and to nobody's."""
    app = FastAPI()
    add_sign_in(app, gate)
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/things/{team}")
    async def read(team: str, caller: Caller) -> str:
        caller.require_read(team)
        return "read"

    @app.post("/things/{team}")
    async def write(team: str, caller: Caller) -> str:
        caller.require_write(team)
        return "written"

    @app.post("/things")
    async def write_all(caller: Caller) -> str:
        caller.require_write(None)
        return "written"

    @app.exception_handler(TurnoutError)
    async def failed(request: Request, exc: TurnoutError) -> Response:
        return Response(f"{exc.reason}: {exc.message}", shown(exc).status)

    return app


@contextlib.asynccontextmanager
async def admin(settings: AdminSettings, folder: Path, renew_s: float = 0.0) -> AsyncIterator[str]:
    """An admin API over the database of a folder, as one of several processes would serve it; gives its URL. `renew_s`: as of Provider."""
    client, engine = PooledClient(), open_engine(f"sqlite:///{folder}/turnout.db")
    gate = Gate(settings, client, engine)
    if gate.sign_on is not None:
        gate.sign_on.provider = Provider(gate.sign_on.settings, client, renew_s=renew_s)
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(make_app(gate), ws="none", lifespan="off", log_config=None, access_log=False))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.create_task(server._serve([listener]))
    while not server.started:
        assert not serving.done(), serving
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listener.close()
        await client.aclose()
        engine.dispose()


class Browser(httpx2.AsyncClient):
    """Follows redirects, keeps cookies, fills in forms."""

    def __init__(self) -> None:
        super().__init__(follow_redirects=True, trust_env=False, verify=False, timeout=30)

    async def sign_in(self, url: str, name: str, return_to: str = "/auth/session") -> httpx2.Response:
        """From the login of the admin API at `url` to wherever it ends."""
        form = await self.get(f"{url}/auth/login", params={"return_to": return_to})
        assert form.status_code == 200 and "<form" in form.text, form.text
        fields = {field: {"name": name, "sub": name, "password": PASSWORD}[field] for field in re.findall(r'name="(name|sub|password)"', form.text)}
        return await self.post(form.url, data=fields)

    async def write(self, url: str) -> httpx2.Response:
        """A write as our own page would make it."""
        origin = str(httpx2.URL(url).join("/auth/session"))
        token = (await self.get(origin)).json()["csrf_token"]
        return await self.post(url, headers={"x-turnout-csrf": token})
