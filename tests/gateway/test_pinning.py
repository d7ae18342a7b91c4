"""A request that carries one target's state goes to that target and to no other, wherever it stands in the order, and fails where it fails."""

import itertools
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, status
from tests.matrix import said
from tests.matrix.cells import WIRES, Provider
from tests.matrix.dialects import chat, messages, responses
from tests.matrix.gaps import gap
from tests.matrix.said import PARIS, SIGNATURE, Script

SIGNED = Script(text=(), reasoning=("Let me", " think"), signature=SIGNATURE, calls=(PARIS,), finish="tool_calls")
MAKERS = [wire for wire in WIRES if "signature" not in wire.ABSENT]
PAIRS = [(d, w) for d, w in itertools.product((chat, responses, messages), MAKERS) if gap(d.NAME, w.NAME, "signature") is None]
FOREIGN = [(dialect, maker) for dialect, maker in PAIRS if dialect.NAME not in maker.NAME]  # for whom the answer is translated
pytestmark = pytest.mark.asyncio(loop_scope="module")
each_pair = pytest.mark.parametrize(("dialect", "maker"), PAIRS, ids=lambda module: module.NAME)
OTHER_TEAM = "sk-other-team"


class Pinned:
    """A gateway before every provider. The model NAME is that provider's; `last-NAME` has all the others first; `not-NAME` the others alone;
    `drop-NAME` those too, with a policy that leaves out what cannot be honoured."""

    def __init__(self, gateway: Gateway, providers: dict[str, Provider]) -> None:
        self.gateway = gateway
        self.providers = providers

    async def ask(self, dialect: ModuleType, body: dict[str, Any], key: str = KEY) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
        response = await self.gateway.http.post(dialect.PATH, json=body, headers=headers)
        return response.status_code, response.text if response.headers["content-type"].startswith("text/event-stream") else response.json()

    async def second_turn(self, dialect: ModuleType, maker: ModuleType, *, stream: bool = False) -> dict[str, Any]:
        """What a client sends after an answer of the maker's, its state in it."""
        self.providers[maker.NAME].script = SIGNED
        body = dialect.request("signature", maker.NAME, stream)
        code, answer = await self.ask(dialect, body)
        assert code == 200, answer
        made: dict[str, Any] = dialect.follow_up(body, dialect.read_stream(answer) if stream else dialect.read(answer))
        return made

    def journal(self, but: str) -> list[str]:
        """Who was asked, but for one."""
        return [name for name, provider in self.providers.items() if name != but and provider.upstream.journal]


def _configuration(providers: dict[str, Provider], folder: Path) -> str:
    target = {name: f'{{provider: {name}, model: "{provider.wire.MODEL}"}}' for name, provider in providers.items()}
    lines = [f'state: {{database: "sqlite:///{folder}/t.db"}}', "policies: {drop: {drop_unsupported: true}}", "providers:"]
    for name, provider in providers.items():
        lines.append(f"  {name}: {{{provider.wire.PROVIDER.format(url=f'http://127.0.0.1:{provider.upstream.port}')}}}")
    lines.append("models:")
    for name in providers:
        others = [target[other] for other in providers if other != name]
        lines += [
            f"  {name}: {{targets: [{target[name]}]}}",
            f"  last-{name}: {{targets: [{', '.join([*others, target[name]])}]}}",
            f"  not-{name}: {{targets: [{', '.join(others)}]}}",
            f"  drop-{name}: {{policy: drop, targets: [{', '.join(others)}]}}",
        ]
    return "\n".join([*lines, f"teams: {{one: {{keys: [{KEY}]}}, two: {{keys: [{OTHER_TEAM}]}}}}"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway_before_all(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pinned]:
    tmp_path = tmp_path_factory.mktemp("pinning")
    async with AsyncExitStack() as stack:
        providers: dict[str, Provider] = {}
        for wire in WIRES:
            upstream = await Upstream().start()
            stack.push_async_callback(upstream.stop)
            providers[wire.NAME] = Provider(wire, upstream)
        gateway = await stack.enter_async_context(running(_configuration(providers, tmp_path), tmp_path))
        yield Pinned(gateway, providers)


@pytest.fixture
def pinned(gateway_before_all: Pinned) -> Pinned:
    """With empty journals, and every provider well."""
    for provider in gateway_before_all.providers.values():
        provider.rest()
    gateway_before_all.gateway.heal()
    return gateway_before_all


@each_pair
@pytest.mark.parametrize("stream", [False, True])
async def test_state_goes_to_its_maker_though_it_is_the_last_in_the_order(
    pinned: Pinned, dialect: ModuleType, maker: ModuleType, stream: bool
) -> None:
    body = await pinned.second_turn(dialect, maker, stream=stream)
    code, answer = await pinned.ask(dialect, {**body, "model": f"last-{maker.NAME}"})
    assert code == 200, answer
    assert pinned.providers[maker.NAME].asked.signatures == [SIGNATURE]
    assert pinned.journal(but=maker.NAME) == []


@each_pair
async def test_a_maker_that_fails_fails_the_request(pinned: Pinned, dialect: ModuleType, maker: ModuleType) -> None:
    body = await pinned.second_turn(dialect, maker)
    pinned.providers[maker.NAME].upstream.plays = dict.fromkeys(("", maker.MODEL), status(503, retry_after="60"))
    code, answer = await pinned.ask(dialect, {**body, "model": f"last-{maker.NAME}"})
    assert code >= 500 and "CANARY" not in json.dumps(answer), answer
    assert pinned.journal(but=maker.NAME) == []


@pytest.mark.parametrize(("dialect", "maker"), FOREIGN, ids=lambda module: module.NAME)
async def test_a_foreign_signature_never_reaches_another_provider_s_wire(pinned: Pinned, dialect: ModuleType, maker: ModuleType) -> None:
    """Where the maker is none of the model's targets, the request is refused; or the state is left out, when the policy says so."""
    body = await pinned.second_turn(dialect, maker)
    refused, _ = await pinned.ask(dialect, {**body, "model": f"not-{maker.NAME}"})
    dropped, answer = await pinned.ask(dialect, {**body, "model": f"drop-{maker.NAME}"})
    assert (refused, dropped) == (400, 200), answer
    (name,) = pinned.journal(but=maker.NAME)
    (seen,) = pinned.providers[name].upstream.journal
    assert SIGNATURE.encode() not in seen.raw and b"tnt1_" not in seen.raw, name


@pytest.mark.parametrize("dialect", [chat, responses, messages], ids=lambda module: module.NAME)
async def test_a_request_without_state_is_free_to_fall_over(pinned: Pinned, dialect: ModuleType) -> None:
    pinned.providers["openai_chat"].upstream.plays = dict.fromkeys(("", "gpt-5.5"), status(503, retry_after="60"))
    code, _ = await pinned.ask(dialect, dialect.request("text", "last-gemini", False))
    assert code == 200
    assert pinned.journal(but="openai_chat") == ["openai_responses"]


async def test_a_previous_response_that_another_team_s_is_is_not_found(pinned: Pinned) -> None:
    code, answer = await pinned.ask(responses, responses.request("text", "openai_responses", False))
    assert code == 200
    body = {"model": "last-openai_responses", "input": "Go on", "previous_response_id": answer["id"]}
    asked = len(pinned.providers["openai_responses"].upstream.journal)
    code, answer = await pinned.ask(responses, body, key=OTHER_TEAM)
    assert (code, answer["error"]["code"]) == (400, "previous_response_not_found")
    assert pinned.journal(but="openai_responses") == [] and len(pinned.providers["openai_responses"].upstream.journal) == asked


async def test_a_previous_response_that_its_provider_keeps_is_asked_of_that_provider(pinned: Pinned) -> None:
    _, answer = await pinned.ask(responses, responses.request("text", "openai_responses", False))
    body = {"model": "last-openai_responses", "input": "Go on", "previous_response_id": answer["id"]}
    code, answer = await pinned.ask(responses, body)
    assert code == 200, answer
    assert pinned.providers["openai_responses"].upstream.journal[-1].body["previous_response_id"] == "resp_1"
    assert pinned.journal(but="openai_responses") == []


async def test_a_previous_response_whose_provider_is_no_target_of_the_model_is_refused(pinned: Pinned) -> None:
    _, answer = await pinned.ask(responses, responses.request("text", "openai_responses", False))
    body = {"model": "anthropic_messages", "input": "Go on", "previous_response_id": answer["id"]}
    code, refused = await pinned.ask(responses, body)
    assert (code, refused["error"]["param"]) == (400, "previous_response_id")
    assert pinned.journal(but="openai_responses") == []


async def test_a_previous_response_that_we_keep_may_be_answered_by_any_target(pinned: Pinned) -> None:
    _, answer = await pinned.ask(responses, responses.request("text", "anthropic_messages", False))
    body = {"model": "gemini", "input": "Go on", "previous_response_id": answer["id"]}
    code, answer = await pinned.ask(responses, body)
    assert code == 200, answer
    assert pinned.providers["gemini"].asked.turns == [("user", "Hi"), ("assistant", "Hello there"), ("user", "Go on")]


async def test_a_previous_response_with_sealed_reasoning_goes_to_who_sealed_it(pinned: Pinned) -> None:
    """The state is in the history that we keep, not in the request."""
    provider = pinned.providers["gemini"]
    provider.script = SIGNED
    body = {**responses.request("signature", "gemini", False), "store": True}
    _, answer = await pinned.ask(responses, body)
    call = next(item for item in answer["output"] if item["type"] == "function_call")
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny"}
    code, answer = await pinned.ask(
        responses, {"model": "last-gemini", "input": [result], "previous_response_id": answer["id"], "tools": body["tools"]}
    )
    assert code == 200, answer
    assert provider.asked.signatures == [SIGNATURE] and provider.asked.results == [(said.TOOL[0], "Sunny")]
    assert pinned.journal(but="gemini") == []
