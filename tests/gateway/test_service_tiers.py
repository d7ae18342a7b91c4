"""An answer in another service tier costs what that tier costs, or nobody knows what; the ledger knows the tier."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import USAGE, Exchange, Upstream, chunk, completion

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models:
  solo: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2, service_tiers: {{flex: 0.5, dear: 3}}}}}}]}}
  free: {{targets: [{{provider: one, model: m1, price: free}}]}}
teams: {{search: {{keys: [sk-search]}}}}
"""
STANDARD_NUSD = 20_000 + 10_000
ASKED = {"messages": [{"role": "user", "content": "Hi"}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Gateway, Upstream]]:
    folder: Path = tmp_path_factory.mktemp("tiers")
    upstream = await Upstream().start()
    async with running(CONFIG.format(folder=folder, one=upstream.base_url), folder) as gateway:
        yield gateway, upstream
    await upstream.stop()


async def cost_and_tier(served: tuple[Gateway, Upstream], model: str, stream: bool, tier: Any) -> tuple[int | None, str | None]:
    gateway, upstream = served

    async def play(x: Exchange) -> None:
        if not stream:
            await x.respond(200, json.dumps(completion(service_tier=tier)).encode())
            return
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}, service_tier=tier))
        await x.event(chunk({}, finish="stop", service_tier=tier))
        await x.event(chunk(None, usage=USAGE, service_tier=tier))
        await x.event("[DONE]")
        await x.end_stream()

    upstream.plays["m1"] = play
    answer = await gateway.post({"model": model, "stream": stream, **ASKED}, key="sk-search")
    assert answer.status_code == 200
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    return row.cost_nusd, row.usage.service_tier


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
@pytest.mark.parametrize(
    ("model", "tier", "found"),
    [
        ("solo", "default", (STANDARD_NUSD, None)),
        ("solo", None, (STANDARD_NUSD, None)),
        ("solo", 5, (STANDARD_NUSD, None)),
        ("solo", "flex", (STANDARD_NUSD // 2, "flex")),
        ("solo", "priority", (None, "priority")),
        ("free", "priority", (0, "priority")),
    ],
)
async def test_a_tier_has_its_own_price_or_none(
    served: tuple[Gateway, Upstream], model: str, tier: Any, found: tuple[int | None, str | None], stream: bool
) -> None:
    assert await cost_and_tier(served, model, stream, tier) == found


async def test_what_has_no_price_is_listed(served: tuple[Gateway, Upstream]) -> None:
    gateway, _ = served
    before = await unpriced(gateway)
    await cost_and_tier(served, "solo", False, "priority")
    assert await unpriced(gateway) == before + 1


async def unpriced(gateway: Gateway) -> int:
    told = (await gateway.http.get("/v1/reports/cost", headers={"authorization": "Bearer sk-search"})).json()["unpriced"]
    return sum(line["attempts"] for line in told if line["target"] == "one/m1")


# --- told, but without its usage ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "told", "times", "tier"),
    [
        (None, "priority", None, "priority"),
        (None, "dear", 3, "dear"),
        (None, "default", 1, None),
        ("dear", "default", 1, None),
        ("flex", "auto", 0.5, "flex"),
        ("flex", None, 0.5, "flex"),
    ],
)
@pytest.mark.parametrize("ends", ["whole", "usage: null", "cut"])
async def test_a_tier_is_charged_as_it_was_told_where_no_usage_came(
    served: tuple[Gateway, Upstream], asked: str | None, told: str | None, times: float | None, tier: str | None, ends: str
) -> None:
    """By the estimate: a token for four bytes of the request, and one for "Hello"."""
    gateway, upstream = served

    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": ""}))
        await x.event(chunk({"content": "Hello"}, **({} if told is None else {"service_tier": told})))
        if ends != "cut":
            await x.event(chunk({}, finish="stop", **({"usage": None} if ends == "usage: null" else {})))
            await x.event("[DONE]")
        await x.end_stream()

    upstream.plays["m1"] = play
    body = {"model": "solo", "stream": True, **ASKED, **({} if asked is None else {"service_tier": asked})}
    gateway.heal()
    answer = await gateway.post(body, key="sk-search")
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    standard = len(json.dumps(body, separators=(",", ":"))) // 4 * 1000 + 2000
    assert (row.cost_nusd, row.usage.service_tier, row.usage.source) == (None if times is None else standard * times, tier, "estimated")


async def test_so_is_that_of_a_whole_answer_without_usage_and_of_one_that_is_translated(served: tuple[Gateway, Upstream]) -> None:
    gateway, upstream = served

    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps({**completion(service_tier="priority"), "usage": None}).encode())

    upstream.plays["m1"] = play
    rows = [(await gateway.rows((await gateway.post({"model": "solo", **ASKED}, key="sk-search")).headers["x-request-id"]))[0]]
    messages = {"model": "solo", "max_tokens": 9, **ASKED}
    rows += await gateway.rows((await gateway.post(messages, key="sk-search", path="/v1/messages")).headers["x-request-id"])
    assert [(row.cost_nusd, row.usage.service_tier, row.usage.source) for row in rows] == [(None, "priority", "estimated")] * 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize(("asked", "told", "tier"), [(None, "dear", "dear"), ("dear", "default", None)])
@pytest.mark.parametrize("usage", [None, USAGE], ids=["no usage", "usage so far"])
async def test_a_tier_that_is_told_after_the_first_output_counts_though_the_stream_is_cut(
    served: tuple[Gateway, Upstream], asked: str | None, told: str, tier: str | None, usage: Any, path: str
) -> None:
    gateway, upstream = served

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for word in ("Hello", " there", " you"):
            await x.event(chunk({"content": word}))
        await x.event(chunk({"content": " all"}, service_tier=told))
        await x.event(chunk({"content": "."}, **({} if usage is None else {"usage": usage})))
        await x.end_stream()

    upstream.plays["m1"] = play
    body = {"model": "solo", "stream": True, "max_tokens": 9, **ASKED, **({} if asked is None or path == "/v1/messages" else {"service_tier": asked})}
    gateway.heal()
    answer = await gateway.post(body, key="sk-search", path=path)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.service_tier, row.usage.source) == ("cut", tier, "estimated")
    if usage is not None:
        assert row.cost_nusd == STANDARD_NUSD * (3 if tier else 1)
