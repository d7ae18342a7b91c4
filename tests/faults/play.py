"""Plays the fault table: every cell through one real gateway, each before upstreams of its own."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2

from tests.faults.dialects import CANARY, Said
from tests.faults.judge import LATE, Outcome, Stage, differences
from tests.faults.rows import Address, Cell
from tests.faults.upstreams import Script
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream
from tests.providers.sse_oracle import events_of

AT_ONCE = 4  # cells that begin together; one that has come to a wait makes room for the next
BEGINS_S = 0.1
LATE_AGAIN = 2  # times that a cell which was late is played again
PATIENCE_S = 4.0  # of the caller, beyond the longest that its answer may take
HOLD_MS = 30_000  # more than any fault of the table takes
NOWHERE = ".".join(["nowhere" * 8] * 5) + ".invalid"  # longer than a name may be, so that no name server is asked
HEADERS = ("x-turnout-target", "x-turnout-attempts", "retry-after", "retry-after-ms", "x-should-retry", "location")


class Theatre:
    """The upstreams of many cells. Those whose faults are their connections' have a server of their own."""

    def __init__(self) -> None:
        self._servers: list[Upstream] = []
        self._plain_servers: list[asyncio.Server] = []
        self._sockets: list[socket.socket] = []
        self.shared: dict[str, Upstream] = {}
        self.stages: dict[int, Stage] = {}

    async def open(self, cells: list[Cell]) -> None:
        for owner in "abc":
            self.shared[owner] = await self._server()
        for number, cell in enumerate(cells):
            faults = {"a": cell.row.a, "b": cell.row.b, "c": cell.row.c}
            stage = self.stages[number] = Stage({}, {})
            for owner in owners(cell):
                stage.scripts[owner] = Script(cell.spoken(owner), owner, faults[owner])
                server = await self._server() if owner == "a" and cell.row.address == "own" else self.shared[owner]
                server.plays[model(number, owner)] = stage.scripts[owner]
                stage.urls[owner] = await self._url(cell.row.address if owner == "a" else "shared", server)

    async def _server(self) -> Upstream:
        server = await Upstream().start()
        self._servers.append(server)
        return server

    async def _url(self, address: Address, server: Upstream) -> str:
        if address == "nowhere":
            return f"http://{NOWHERE}/v1"
        if address == "tls":
            return f"https://127.0.0.1:{await self._plain()}/v1"
        if address in ("closed", "full"):
            return f"http://127.0.0.1:{self._deaf(full=address == 'full')}/v1"
        return server.base_url

    async def _plain(self) -> int:
        """A port that takes any first bytes for a bad request in plain HTTP."""

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        self._plain_servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def _deaf(self, *, full: bool) -> int:
        """A port that refuses connections, or one whose queue of connections is full, so that they get no answer."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        self._sockets.append(listener)
        if full:
            listener.listen(0)
            for _ in range(4):
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
                self._sockets.append(waiting)
        return port

    async def close(self) -> None:
        for server in self._servers:
            await server.stop()
        for each in (*self._plain_servers, *self._sockets):
            each.close()


def model(number: int, owner: str) -> str:
    return f"cell{number}-{owner}"


def owners(cell: Cell) -> str:
    return "a" if cell.plan == "alone" else "abc" if cell.row.c else "ab"


def configuration(cells: list[Cell], theatre: Theatre, folder: Path) -> str:
    """A provider and a model for each cell's target, so that what one cell does to keys, breakers and statistics is no other's."""
    providers, models = [], []
    for number, cell in enumerate(cells):
        targets = []
        for owner in owners(cell):
            name = model(number, owner)
            clocks = cell.row.clocks if owner == "a" else "{}"
            url = theatre.stages[number].urls[owner]
            providers.append(f'  {name}: {{kind: {cell.spoken(owner).kind}, base_url: "{url}", api_key: k, timeouts: {clocks}}}')
            targets.append(f"{{provider: {name}, model: {name}, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}")
        models.append(f"  cell{number}: {{policy: {cell.plan}, targets: [{', '.join(targets)}]}}")
    hold = f"hold: {{recovery: hold, commit_after_ms: {HOLD_MS}}}" if any(cell.plan == "hold" for cell in cells) else ""
    return "\n".join(
        [
            f'state: {{database: "sqlite:///{folder}/faults.db"}}',
            f"policies: {{fallback: {{fallback: any}}, alone: {{fallback: none}}, {hold}}}",
            "providers:",
            *providers,
            "models:",
            *models,
            f"teams: {{t: {{keys: [{KEY}]}}}}",
        ]
    )


@asynccontextmanager
async def staged(cells: list[Cell], folder: Path) -> AsyncIterator[tuple[Gateway, Theatre]]:
    theatre = Theatre()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(theatre.close)
        await theatre.open(cells)
        yield await stack.enter_async_context(running(configuration(cells, theatre, folder), folder)), theatre


async def play(cells: list[Cell], folder: Path) -> list[list[str]]:
    """What is wrong with each cell; nothing, where it is as it must be. One that was late is played again, by itself."""
    found = await together(cells, folder)
    for number, cell in enumerate(cells):
        for again in range(LATE_AGAIN):
            if late(found[number]):
                (folder / f"{number}-{again}").mkdir()
                [found[number]] = await together([cell], folder / f"{number}-{again}")
    return found


def late(wrong: list[str]) -> bool:
    """Whatever else is wrong then may be so because the caller had given up."""
    return any(each.startswith(LATE) for each in wrong)


async def together(cells: list[Cell], folder: Path) -> list[list[str]]:
    async with staged(cells, folder) as (gateway, theatre):
        gate, heavy = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(1)
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=90, limits=httpx2.Limits(max_connections=None), trust_env=False) as http:

            async def one(number: int, cell: Cell) -> Outcome:
                async with heavy if cell.row.heavy else gate:
                    asking = asyncio.create_task(ask(http, gateway, number, cell))
                    await asyncio.wait([asking], timeout=None if cell.row.heavy else BEGINS_S)
                return await asking

            outcomes = await asyncio.gather(*(one(number, cell) for number, cell in enumerate(cells)))
        rows: dict[str, list[Any]] = {}
        for row in await gateway.all_rows():
            rows.setdefault(row.request_id, []).append(row)
        judged = zip(cells, outcomes, theatre.stages.values(), strict=True)
        return [list(differences(cell, outcome, stage, rows.get(outcome.request_id, []))) for cell, outcome, stage in judged]


async def ask(http: httpx2.AsyncClient, gateway: Gateway, number: int, cell: Cell) -> Outcome:
    limit_s = cell.expect.elapsed[1] + PATIENCE_S
    try:
        async with asyncio.timeout(limit_s):
            return await answer_of(http, gateway, number, cell)
    except (TimeoutError, httpx2.TransportError) as exc:
        return Outcome(0, Said("", False, code=type(exc).__name__), {}, limit_s, False, "", "closed")


async def answer_of(http: httpx2.AsyncClient, gateway: Gateway, number: int, cell: Cell) -> Outcome:
    speech = cell.speech
    body = speech.ask(f"cell{number}", cell.mode == "stream", cell.row.begun)
    headers = {"authorization": f"Bearer {KEY}", **speech.headers}
    began = monotonic()
    parts: list[bytes] = []
    cut = False
    async with http.stream("POST", speech.path, json=body, headers=headers) as response:
        try:
            async for part in response.aiter_raw():
                parts.append(part)  # what came before a cut is kept
        except httpx2.RemoteProtocolError:
            cut = True
    elapsed_s = monotonic() - began
    given = b"".join(parts)
    if response.headers["content-type"].startswith("text/event-stream"):
        said = speech.read_stream(events_of(given))
    else:
        said = Said("", False, code="cut") if cut else speech.read(json.loads(given))
    leaked = CANARY.encode() in given or CANARY in str(response.headers)
    kept = {name: response.headers[name] for name in HEADERS if name in response.headers}
    return Outcome(response.status_code, said, kept, elapsed_s, leaked, response.headers["x-request-id"], breaker_of(gateway, number))


def breaker_of(gateway: Gateway, number: int) -> str:
    route = gateway.runtime.routes.find(f"cell{number}")
    assert route is not None
    return route.targets[0].health.breaker.state(monotonic())
