"""Runs the matrix: every cell through a real gateway before a scripted provider of each wire, streamed and unary."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import httpx2

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream
from tests.matrix import rows
from tests.matrix.dialects import chat, completions, messages, responses
from tests.matrix.features import FEATURES, Feature
from tests.matrix.gaps import gap, not_in_dialect
from tests.matrix.said import Asked, Got, Json, Script
from tests.matrix.wires import anthropic_messages, bedrock, cohere, gemini, mistral, openai_chat, openai_responses

DIALECTS: list[ModuleType] = [chat, completions, responses, messages]
WIRES: list[ModuleType] = [openai_chat, openai_responses, anthropic_messages, gemini, bedrock, cohere, mistral]
Wire = ModuleType | SimpleNamespace
Key = tuple[str, str, str]  # dialect, provider, feature
ASKED: list[tuple[ModuleType, Wire, Feature]] = [
    *((dialect, wire, feature) for dialect in DIALECTS for wire in WIRES for feature in FEATURES),
    *(
        (dialect, row, feature)
        for dialect in DIALECTS
        for row in rows.ROWS
        for feature in FEATURES
        if dialect.NAME in rows.DIALECTS and feature.name in rows.FEATURES
    ),
]


class CellFailed(AssertionError):
    """A cell that is neither done, nor refused, nor a named gap."""


@dataclass(frozen=True)
class Outcome:
    """`kind`: works, told (left out and named, as the policy has it for hints), refused, gap, absent, failed. `detail`: fields, or why."""

    kind: str
    detail: str = ""


class Provider:
    """One wire's provider: plays the script that is set, and keeps the last request."""

    def __init__(self, wire: Wire, upstream: Upstream) -> None:
        self.wire = wire
        self.upstream = upstream
        self.rest()

    def rest(self) -> None:
        """As at first: nothing asked, and a plain answer."""
        self.script = Script()
        self.upstream.plays = dict.fromkeys(("", self.wire.MODEL), self._play)
        self.upstream.journal.clear()

    async def _play(self, x: Exchange) -> None:
        path = x.seen.head[":path"]
        streamed = x.seen.body.get("stream") or "streamGenerateContent" in path or path.endswith("converse-stream")
        if streamed:
            await x.respond(200, self.wire.stream(self.script), self.wire.STREAM_TYPE)
        else:
            await x.respond(200, self.wire.unary(self.script))

    @property
    def asked(self) -> Asked:
        asked: Asked = self.wire.read(self.upstream.journal[-1].body)
        return asked


def configuration(providers: dict[str, Provider], folder: Path) -> str:
    """A model for each wire: its name, with the default policy, and NAME-drop, NAME-strict, with one that drops all, or nothing."""
    policies = "policies: {drop: {drop_unsupported: true}, strict: {drop_unsupported: false}}"
    lines = [f'state: {{database: "sqlite:///{folder}/matrix.db"}}', policies, "providers:"]
    for name, provider in providers.items():
        url = f"http://127.0.0.1:{provider.upstream.port}"
        lines.append(f"  {name}: {{{provider.wire.PROVIDER.format(url=url)}}}")
    lines.append("models:")
    for name, provider in providers.items():
        targets = f'targets: [{{provider: {name}, model: "{provider.wire.MODEL}"}}]'
        lines += [f"  {name}: {{{targets}}}", f"  {name}-drop: {{policy: drop, {targets}}}", f"  {name}-strict: {{policy: strict, {targets}}}"]
    return "\n".join([*lines, f"teams: {{matrix: {{keys: [{KEY}]}}}}"])


@dataclass
class Answer:
    """One answer of the gateway, read. `got` None: it was refused, and `refused` names the field."""

    dropped: str
    got: Got | None = None
    refused: str | None = None
    error: str = ""


class Matrix:
    """A gateway and its providers."""

    def __init__(self, gateway: Gateway, providers: dict[str, Provider]) -> None:
        self._gateway = gateway
        self._providers = providers

    async def run(self) -> dict[Key, Outcome]:
        return {(dialect.NAME, wire.NAME, feature.name): await self.cell(dialect, wire, feature) for dialect, wire, feature in ASKED}

    async def cell(self, dialect: ModuleType, wire: Wire, feature: Feature) -> Outcome:
        """The cell's one outcome, or both where streamed and unary differ."""
        if dialect.request(feature.name, "m", False) is None:
            why = not_in_dialect(dialect.NAME, feature.name)
            return Outcome("absent", why) if why else Outcome("failed", "the dialect's module has no request for it, and no reason")
        reason = gap(dialect.NAME, wire.NAME, feature.name)
        try:
            unary = await self._one(dialect, wire, feature, stream=False)
            streamed = await self._one(dialect, wire, feature, stream=True)
        except (CellFailed, AssertionError, KeyError, IndexError, TypeError, ValueError) as error:
            return Outcome("gap", reason) if reason else Outcome("failed", f"{type(error).__name__}: {error}")
        if reason:
            return Outcome("failed", "it is a named gap, and is none any more")
        if unary != streamed:
            return Outcome("failed", f"unary {unary}, streamed {streamed}")
        return unary

    async def _one(self, dialect: ModuleType, wire: Wire, feature: Feature, *, stream: bool) -> Outcome:
        provider = self._providers[wire.NAME]
        provider.script = feature.script
        answer = await self._ask(dialect, feature, wire.NAME, stream)
        if answer.got is None:
            return await self._refused(dialect, wire, feature, stream, answer)
        if feature.name in wire.ABSENT:
            _check_text(answer.got, feature.script)
            return Outcome("absent", wire.ABSENT[feature.name])
        if answer.dropped:
            _check_text(answer.got, feature.script)
            works = feature.asked(provider.asked) and feature.got(answer.got)
            await self._strictly(dialect, wire, feature, stream, answer.dropped)
            return Outcome("works" if works else "told", answer.dropped)
        _check(feature, provider, answer.got)
        return Outcome("works")

    async def _strictly(self, dialect: ModuleType, wire: Wire, feature: Feature, stream: bool, dropped: str) -> None:
        """What is left out and named by the default policy is refused by name where nothing may be."""
        strict = await self._ask(dialect, feature, f"{wire.NAME}-strict", stream)
        if strict.refused not in dropped.split(", "):
            raise CellFailed(f"streamed={stream}: {dropped} is dropped, but {strict.refused} is what the strict policy refuses")

    async def _refused(self, dialect: ModuleType, wire: Wire, feature: Feature, stream: bool, answer: Answer) -> Outcome:
        """Refused by the default policy, so it must be named when the other one drops it."""
        if answer.refused is None:
            raise CellFailed(f"streamed={stream}: {answer.error}")
        dropping = await self._ask(dialect, feature, f"{wire.NAME}-drop", stream)
        if dropping.got is None:
            raise CellFailed(f"streamed={stream}: {answer.refused} is refused, and not dropped either: {dropping.error}")
        if answer.refused not in dropping.dropped.split(", "):
            raise CellFailed(f"streamed={stream}: {answer.refused} is refused, but {dropping.dropped!r} is named as dropped")
        _check_text(dropping.got, feature.script)
        return Outcome("refused", answer.refused)

    async def _ask(self, dialect: ModuleType, feature: Feature, model: str, stream: bool) -> Answer:
        body = dialect.request(feature.name, model, stream)
        answer = await self._post(dialect, body, stream)
        if feature.name == "signature" and answer.got is not None:
            return await self._post(dialect, dialect.follow_up(body, answer.got), stream)
        return answer

    async def _post(self, dialect: ModuleType, body: Json, stream: bool) -> Answer:
        response = await self._gateway.post(body, path=dialect.PATH, **{"anthropic-version": "2023-06-01"})
        dropped = response.headers.get("x-turnout-dropped", "")
        if response.status_code == 400:
            return Answer(dropped, refused=_param(response), error=response.text)
        if response.status_code != 200:
            return Answer(dropped, error=f"{response.status_code} {response.text}")
        return Answer(dropped, got=dialect.read_stream(response.text) if stream else dialect.read(response.json()))


def _param(response: httpx2.Response) -> str | None:
    """The field that a refusal names: as OpenAI's errors do, or in the text, for Anthropic's have no place for it."""
    error = json.loads(response.content)["error"]
    if "param" in error:
        return str(error["param"])
    return str(error["message"]).split("`")[1] if "`" in error["message"] else None


def _check_text(got: Got, script: Script) -> None:
    if got.text != "".join(script.text) and not script.refusal:
        raise CellFailed(f"the text is {got.text!r}")


def _check(feature: Feature, provider: Provider, got: Got) -> None:
    asked = provider.asked
    if not feature.asked(asked):
        raise CellFailed(f"lost on the way to the provider: {asked}")
    _check_text(got, feature.script)
    if not feature.got(got):
        raise CellFailed(f"lost on the way to the client: {got}")
    if feature.name == "usage":
        counts = {name: provider.wire.COUNTS[name] for name in got.usage}
        if got.usage != counts:
            raise CellFailed(f"usage is {got.usage}, not {counts}")


@asynccontextmanager
async def matrix(folder: Path) -> AsyncIterator[Matrix]:
    """The gateway with all its providers, until the block ends."""
    async with AsyncExitStack() as stack:
        providers: dict[str, Provider] = {}
        for wire in (*WIRES, *rows.ROWS):
            upstream = await Upstream().start()
            stack.push_async_callback(upstream.stop)
            providers[wire.NAME] = Provider(wire, upstream)
        gateway = await stack.enter_async_context(running(configuration(providers, folder), folder))
        yield Matrix(gateway, providers)


async def outcomes(folder: Path) -> dict[Key, Outcome]:
    async with matrix(folder) as running_matrix:
        return await running_matrix.run()
