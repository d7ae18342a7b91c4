"""Plays the fault table: every cell through one real gateway, each before upstreams of its own, and what came of it beside what was to come."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import httpx2

from tests.faults.dialects import CANARY, PROMPT_TOKENS, TOKENS, Said, Speech
from tests.faults.upstreams import Fault, Script
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream
from tests.providers.sse_oracle import events_of

Mode = Literal["stream", "unary"]
Plan = Literal["fallback", "alone", "hold"]
Address = Literal["shared", "own", "closed", "full", "nowhere", "tls"]
AT_ONCE = 4  # cells that begin together; one that has come to a wait makes room for the next
BEGINS_S = 0.1
QUICK_S = 2.0
PATIENCE_S = 4.0  # of the caller, beyond the longest that its answer may take
HOLD_MS = 30_000  # more than any fault of the table takes
HEADERS = ("x-turnout-target", "x-turnout-attempts", "retry-after", "retry-after-ms", "x-should-retry", "location")


@dataclass(frozen=True)
class Expect:
    """What the caller must see, and what must be behind it. Words that may vary are regular expressions.

    `answer`: `a:60` all of a's text, `a:40 CODE` its beginning and an error in its band, `CODE` an error in an answer's place. `trail`: the ledger's
    attempts in order, `TARGET ok` or `TARGET [STATUS] CODE`, ` xN-M` for several. `elapsed`: seconds. `apart`: the least between two calls of a.
    `most_sent`: bytes that a could send before it was stopped. `usage`: whence the ledger has it for the answer; `priced`: that its cost is known. `breaker`: of a, afterwards.
    """

    status: int
    answer: str
    trail: str
    elapsed: tuple[float, float] = (0.0, QUICK_S)
    retry_after: tuple[float, float] | None = None
    apart: float = 0.0
    most_sent: int | None = None
    usage: str = "provider"
    priced: bool = True
    finish: str | None = None
    breaker: str = "closed"


@dataclass(frozen=True)
class Row:
    """One fault. `a`, `b`, `c`: what the targets do, one fault a request, the last for ever. `clocks`: a's, where not the default ones.

    `begun`: the caller's last message is the assistant's. `heavy`: megabytes pass, so that such cells are played one at a time.
    `others`: a dialect that fares otherwise than the rest.
    """

    name: str
    source: str
    a: tuple[Fault, ...]
    stream: dict[Plan, Expect]
    unary: dict[Plan, Expect]
    b: tuple[Fault, ...] = ()
    c: tuple[Fault, ...] = ()
    clocks: str = "{}"
    address: Address = "shared"
    begun: bool = False
    heavy: bool = False
    dialects: tuple[str, ...] = ("chat", "messages", "responses", "embeddings")
    others: dict[str, dict[Plan, Expect]] = field(default_factory=dict)
    modes: tuple[Mode, ...] = ("stream", "unary")
    plans: tuple[Plan, ...] = ("fallback", "alone", "hold")


@dataclass(frozen=True)
class Cell:
    row: Row
    speech: Speech
    mode: Mode
    plan: Plan

    @property
    def name(self) -> str:
        return f"{self.row.name} - {self.speech.NAME} - {self.mode} - {self.plan}"

    @property
    def expect(self) -> Expect:
        told = self.row.others.get(self.speech.NAME) or (self.row.stream if self.mode == "stream" else self.row.unary)
        return told[self.plan]


@dataclass(frozen=True)
class Outcome:
    status: int
    said: Said
    headers: dict[str, str]
    elapsed_s: float
    leaked: bool
    request_id: str
    breaker: str


@dataclass
class Stage:
    """A cell's upstreams: `urls` of a, b and c, and their scripts."""

    urls: dict[str, str]
    scripts: dict[str, Script]


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
                stage.scripts[owner] = Script(cell.speech, owner, faults[owner])
                server = await self._server() if owner == "a" and cell.row.address == "own" else self.shared[owner]
                server.plays[model(number, owner)] = stage.scripts[owner]
                stage.urls[owner] = await self._url(cell.row.address if owner == "a" else "shared", server)

    async def _server(self) -> Upstream:
        server = await Upstream().start()
        self._servers.append(server)
        return server

    async def _url(self, address: Address, server: Upstream) -> str:
        if address == "nowhere":
            return "http://nowhere.invalid/v1"
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
            providers.append(f'  {name}: {{kind: {cell.speech.kind}, base_url: "{url}", api_key: k, timeouts: {clocks}}}')
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
    """What is wrong with each cell; nothing, where it is as it must be."""
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
                parts.append(part)  # noqa: PERF401 (what came before a cut is kept)
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


def differences(cell: Cell, outcome: Outcome, stage: Stage, rows: list[Any]) -> Iterable[str]:
    expect = cell.expect
    said = outcome.said
    answer = " ".join(part for part in (said.told, said.code) if part) if not said.whole else said.told
    trail = [walked(row) for row in rows]
    pattern = trail_pattern(expect.trail)
    if outcome.status != expect.status:
        yield f"status {outcome.status}, not {expect.status}"
    if not re.fullmatch(expect.answer, answer):
        yield f"answer {answer!r}, not {expect.answer!r}"
    if said.whole is not bool(re.fullmatch(r"[abc]:60", expect.answer)):
        yield f"the answer looks {'whole' if said.whole else 'cut'}"
    if not re.fullmatch(pattern, ", ".join(trail)):
        yield f"ledger {', '.join(trail)!r}, not {expect.trail!r}"
    if not expect.elapsed[0] <= outcome.elapsed_s <= expect.elapsed[1]:
        yield f"took {outcome.elapsed_s:.2f} s, not {expect.elapsed}"
    if outcome.leaked:
        yield "the upstream's text reached the caller"
    if expect.finish is not None and said.finish != expect.finish:
        yield f"finish {said.finish!r}, not {expect.finish!r}"
    yield from headers_wrong(expect, outcome, len(rows), answer)
    yield from calls_wrong(cell, stage, trail)
    if not re.fullmatch(expect.breaker, outcome.breaker):
        yield f"a's breaker is {outcome.breaker}, not {expect.breaker}"
    if said.whole and rows:
        yield from accounts_wrong(expect, rows[-1], cell)


def walked(row: Any) -> str:
    """A ledger row as one step of the trail."""
    owner = row.target[-1]
    if row.status == "ok":
        return f"{owner} ok"
    return f"{owner} {row.error_code}" if row.status == "failed" else f"{owner} {row.status} {row.error_code}"


def trail_pattern(trail: str) -> str:
    """`a CODE x1-3, b ok` as a regular expression for the walked steps."""
    steps = []
    for step in trail.split(", "):
        found = re.fullmatch(r"(.*?)(?: x(\d)(?:-(\d))?)?", step)
        assert found is not None
        words, least, most = found[1], int(found[2] or 1), int(found[3] or found[2] or 1)
        steps.append(rf"(?:{words}(?:, |$)){{{least},{most}}}")
    return "".join(steps)


def headers_wrong(expect: Expect, outcome: Outcome, attempts: int, answer: str) -> Iterable[str]:
    told = outcome.headers
    if "location" in told:
        yield "a redirect was handed on"
    if told.get("x-turnout-attempts", "0") != str(attempts) and answer[:1] not in ("", "a"):
        yield f"x-turnout-attempts {told.get('x-turnout-attempts')}, with {attempts} in the ledger"
    if outcome.status == 200 and not told.get("x-turnout-target", "").endswith(f"-{answer[:1]}"):
        yield f"x-turnout-target {told.get('x-turnout-target')} for {answer!r}"
    if outcome.status in (429, 503):
        wait = float(told.get("retry-after", "0"))
        least, most = expect.retry_after or (1.0, 60.0)
        if not least <= wait <= most:
            yield f"retry-after {wait}, not {(least, most)}"
        if expect.answer != "upstream_quota_exhausted" and told.get("x-should-retry") != "true":
            yield "x-should-retry is not true"


def calls_wrong(cell: Cell, stage: Stage, trail: list[str]) -> Iterable[str]:
    """Every request that an upstream saw is in the ledger, and none that it did not see, unless it could not be reached."""
    reachable = cell.row.address in ("shared", "own")
    for owner, script in stage.scripts.items():
        rows = sum(step.startswith(f"{owner} ") for step in trail)
        seen = len(script.calls)
        if seen != (rows if owner != "a" or reachable else 0):
            yield f"{owner} was asked {seen} times, with {rows} in the ledger"
    expect, calls = cell.expect, stage.scripts["a"].calls
    apart = [later - earlier for (earlier, _), (later, _) in zip(calls, calls[1:], strict=False)]
    if apart and min(apart) < expect.apart:
        yield f"a was asked again after {min(apart):.2f} s, not {expect.apart} s"
    if expect.most_sent is not None and calls and calls[0][1].sent > expect.most_sent:
        yield f"a could send {calls[0][1].sent} bytes"


def accounts_wrong(expect: Expect, row: Any, cell: Cell) -> Iterable[str]:
    """The answer's row holds its usage and its cost."""
    if row.usage is None or not re.fullmatch(expect.usage, row.usage.source):
        yield f"usage {row.usage}, not from {expect.usage}"
    elif (row.cost_nusd is not None) is not expect.priced:
        yield f"cost {row.cost_nusd}"
    elif expect.priced and expect.usage == "provider" and row.cost_nusd != PROMPT_TOKENS * 1000 + (TOKENS * 2000 if cell.speech.streams else 0):
        yield f"cost {row.cost_nusd}"
