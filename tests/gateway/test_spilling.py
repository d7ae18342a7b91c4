"""Owned and managed by the same plan: a full engine spills over to a provider, a limited provider to the engine, and neither where it may not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, status

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  limited: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  secret: {{kind: openai-compatible, base_url: "{two}", api_key: k}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, max_queue: 0, context: 512}}}}
policies: {{inside: {{residency: local_only}}, backed: {{fallback: local}}}}
models:
  own-first: {{targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
  managed-first: {{targets: [{{provider: limited, model: m2}}, {{engine: cpu}}]}}
  backed: {{policy: backed, targets: [{{provider: limited, model: m3}}]}}
  inside: {{policy: inside, targets: [{{provider: secret, model: m1}}, {{engine: cpu}}]}}
  "pl/*": {{targets: [{{provider: limited, model: m4}}]}}
teams:
  search: {{keys: [{key}], overrides: [policy]}}
  backed: {{keys: [sk-backed], policy: backed}}
"""
BUSY = "not ready: the engine's queue is full"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    server = await Upstream().start()
    server.plays = {"m2": status(429, retry_after="30"), "m3": status(429, retry_after="30"), "m4": status(429, retry_after="30")}
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def forbidden() -> AsyncIterator[Upstream]:
    server = await Upstream().start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream: Upstream, forbidden: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("spilling")
    async with running(CONFIG.format(folder=folder, one=upstream.base_url, two=forbidden.base_url, key=KEY), folder) as gateway:
        yield gateway


def body(model: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "stream": stream, "max_tokens": 4, **more}


async def removed(gateway: Gateway, answer: httpx2.Response) -> dict[str, str]:
    await asyncio.to_thread(gateway.runtime.ledger.flush)
    path = f"/v1/decisions/{answer.headers['x-request-id']}"
    told = (await gateway.http.get(path, headers={"authorization": f"Bearer {KEY}"})).json()
    return {each["target"]: each["rule"] for each in told["decision"]["candidates"] if each["verdict"] == "removed"}


@asynccontextmanager
async def full(gateway: Gateway) -> AsyncIterator[None]:
    """The engine's only slot is taken until the block ends, and free after it."""
    engine = gateway.runtime.routes.exact["inside"].targets[1]
    asking = body("inside", True, max_tokens=450, ignore_eos=True)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=asking, headers={"authorization": f"Bearer {KEY}"}) as response:
        assert response.headers["x-turnout-target"] == "cpu"
        yield
    async with asyncio.timeout(10):
        while engine.health.running:
            await asyncio.sleep(0.01)


async def test_a_full_engine_spills_over_to_a_provider(gateway: Gateway) -> None:
    async with full(gateway):
        answer = await gateway.post(body("own-first"))
        assert (answer.headers["x-turnout-target"], answer.headers["x-turnout-attempts"]) == ("one/m1", "1")
        assert await removed(gateway, answer) == {"cpu": BUSY}
    assert (await gateway.post(body("own-first"))).headers["x-turnout-target"] == "cpu", "and takes its requests back"


@pytest.mark.parametrize("model", ["managed-first", "backed"])
async def test_a_limited_provider_spills_over_to_the_engine(gateway: Gateway, upstream: Upstream, model: str) -> None:
    before = len(upstream.journal)
    answers = [await gateway.post(body(model, stream)) for stream in (True, False)]
    assert [answer.headers["x-turnout-target"] for answer in answers] == ["cpu", "cpu"]
    assert len(upstream.journal) - before == 1, "once it has said so it is not asked again"


@pytest.mark.parametrize("who", [{"key": "sk-backed"}, {"x-turnout-policy": "backed"}])
async def test_a_team_s_policy_or_the_header_s_spills_over_to_the_engine_too(gateway: Gateway, who: dict[str, str]) -> None:
    answer = await gateway.post(body("pl/small"), **who)
    assert (answer.status_code, answer.headers.get("x-turnout-target")) == (200, "cpu"), answer.text


async def test_other_policies_do_not_see_an_engine_that_the_model_does_not_list(gateway: Gateway) -> None:
    answer = await gateway.post(body("pl/other"))
    assert answer.status_code in (429, 503) and "cpu" not in answer.text
    headers = {"authorization": f"Bearer {KEY}"}
    told = (await gateway.http.get("/v1/routing", headers=headers)).json()["data"]
    assert [[target["target"] for target in each["targets"]] for each in told if each["model"] == "pl/*"] == [["limited/m4"]]
    asked = (await gateway.http.get("/v1/explain?model=pl/other", headers=headers)).json()
    assert [each["target"] for each in asked["candidates"]] == ["limited/m4"]
    asked = (await gateway.http.get("/v1/explain?model=pl/other", headers={"authorization": "Bearer sk-backed"})).json()
    assert [each["target"] for each in asked["candidates"]] == ["limited/m4", "cpu"]


async def test_both_full_and_limited_is_a_503_that_says_when(gateway: Gateway) -> None:
    assert (await gateway.post(body("managed-first"))).status_code == 200
    async with full(gateway):
        answer = await gateway.post(body("managed-first"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_target_ready")
        assert 1 <= int(answer.headers["retry-after"]) <= 30


async def test_several_choices_are_not_asked_of_an_engine(gateway: Gateway) -> None:
    answer = await gateway.post(body("own-first", n=2))
    assert (answer.headers["x-turnout-target"], answer.headers["x-turnout-attempts"]) == ("one/m1", "1")
    assert await removed(gateway, answer) == {"cpu": "cannot: n"}


Case = Callable[[Gateway], Awaitable[int]]


async def answers(gateway: Gateway) -> int:
    return (await gateway.post(body("inside"))).status_code


async def has_no_room(gateway: Gateway) -> int:
    async with full(gateway):
        return (await gateway.post(body("inside", True))).status_code


async def cannot(gateway: Gateway) -> int:
    return (await gateway.post(body("inside", n=2))).status_code


async def takes_no_such_prompt(gateway: Gateway) -> int:
    return (await gateway.post(body("inside", messages=[{"role": "user", "content": "word " * 2000}]))).status_code


@pytest.mark.parametrize(("case", "expected"), [(answers, 200), (has_no_room, 503), (cannot, 400), (takes_no_such_prompt, 400)])
async def test_local_only_opens_no_socket_to_a_provider_whatever_the_engine_does(
    gateway: Gateway, forbidden: Upstream, case: Case, expected: int
) -> None:
    assert await case(gateway) == expected
    assert forbidden.connections == 0
