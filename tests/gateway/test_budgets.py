"""Budgets at the edge: reserved at the worst case, settled at the true cost, exhausted as the configuration says, told at their thresholds."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from contract.call import Call
from gateway.metering.bounds import MOST_PICTURE_TOKENS, UNTOLD_CALLS, ToolCalls, tool_calls_of
from ledger.spent import spent_nusd
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Exchange, Seen, Upstream, chunk, completion, good, silent, status

ASK = [{"role": "user", "content": "Hi"}]
COST = 20 * 1000 + 5 * 2000  # nano-dollars: what `good` tells of its usage, 8 of its 20 tokens cached at the same price
TARGET = "{provider: one, model: m1, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}"
DEAR = "{provider: one, model: dear, price: {input_usd_per_mtok: 100, output_usd_per_mtok: 200}}"
FREE = "{provider: one, model: free, price: free}"
TEMPLATE = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: {redis}, redis_deadline_ms: 5000}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models: {{m: {{targets: [{targets}]}}, "x/*": {{targets: [{{provider: one, model: "*"}}]}}}}
organisations: {{acme: {{{organisation}}}}}
teams:
  red: {{organisation: acme, keys: [{key}], {red}}}
  blue: {{organisation: acme, keys: [sk-blue]}}
{more}
"""
Serve = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(params=["memory", "redis"])
def redis_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        yield "null"
        return
    server = RedisServer(tmp_path).start()
    yield f'"{server.url}"'
    server.kill()


@pytest.fixture
def serve(one: Upstream, redis_url: str, tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serving(red: str = "", organisation: str = "", targets: str = TARGET, more: str = "") -> AsyncIterator[Gateway]:
        told = {"redis": redis_url, "one": one.base_url, "key": KEY, "red": red, "organisation": organisation, "targets": targets, "more": more}
        async with running(TEMPLATE.format(folder=tmp_path, **told), tmp_path) as gateway:
            yield gateway

    return serving


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": ASK, "max_tokens": 10, **more}


def worst_nusd() -> int:
    """What the body may cost at most: a token for each of its bytes, and all of its answer."""
    return len(json.dumps(body(), separators=(",", ":"))) * 1000 + 10 * 2000


def usd(nusd: int) -> str:
    return f"{nusd / 1e9:.9f}"


async def spent(gateway: Gateway, kind: Any = "team", name: str = "red") -> int:
    await asyncio.to_thread(gateway.runtime.ledger.flush)
    return await asyncio.to_thread(spent_nusd, gateway.runtime.ledger.engine, kind, name, 0)


# --- reserved and settled --------------------------------------------------------------------------------------------------
async def test_as_many_run_at_once_as_could_be_paid_at_the_worst_and_no_more(serve: Serve, one: Upstream) -> None:
    go = asyncio.Event()

    async def held(x: Exchange) -> None:
        await go.wait()
        await good(x)

    one.plays["m1"] = held
    async with serve(f"budget: {{usd: {usd(worst_nusd() * 7 + 1)}, window: total}}") as gateway:
        asked = [asyncio.create_task(gateway.post(body())) for _ in range(30)]
        done: set[asyncio.Task[httpx2.Response]] = set()
        async with asyncio.timeout(20):
            while len(done) < 23 or len(one.journal) < 7:
                done, _ = await asyncio.wait(asked, timeout=0.1)
        assert {task.result().status_code for task in done} == {402} and len(one.journal) == 7
        go.set()
        answers = await asyncio.gather(*asked)
        assert sum(answer.status_code == 200 for answer in answers) == 7
        assert await spent(gateway) == 7 * COST
        (scope,) = gateway.runtime.keys.principal([(b"x-api-key", KEY.encode())]).scopes
        standing = await gateway.runtime.meter.standing(scope)
    assert (standing.budgets[0].spent_nusd, standing.budgets[0].reserved_nusd, standing.running) == (7 * COST, 0, 0)


async def test_searches_that_a_request_may_make_are_reserved(serve: Serve) -> None:
    """Two cents beside the tokens: enough for the one that asks for no search, and not for five searches of a cent each."""
    searching = TARGET.replace("price: {", "price: {web_search_usd: 0.01, ")
    assert searching != TARGET
    async with serve(f"budget: {{usd: {usd(2 * worst_nusd() + 20_000_000)}, window: total}}", targets=searching) as gateway:
        assert (await gateway.post(body(web_search_options={}))).status_code == 402
        assert (await gateway.post(body())).status_code == 200


async def test_pictures_are_reserved_each_as_large_as_it_may_be(serve: Serve, one: Upstream) -> None:
    go, asked = asyncio.Event(), {"model": "m", "prompt": "a cat", "n": 3}

    async def held(x: Exchange) -> None:
        await go.wait()
        await x.respond(200, json.dumps({"data": [], "usage": {"input_tokens": 9, "output_tokens": 3 * 12_329}}).encode())

    one.plays["m1"] = held
    async with serve("budget: {usd: 10, window: day}", targets=TARGET) as gateway:
        asking = asyncio.create_task(gateway.post(asked, path="/v1/images/generations"))
        while not one.journal:
            await asyncio.sleep(0.01)
        (scope,) = gateway.runtime.keys.principal([(b"x-api-key", KEY.encode())]).scopes
        reserved = (await gateway.runtime.meter.standing(scope)).budgets[0].reserved_nusd
        go.set()
        assert (await asking).status_code == 200
        assert reserved == len(json.dumps(asked, separators=(",", ":"))) * 1000 + 3 * MOST_PICTURE_TOKENS * 2000
        assert await spent(gateway) == 9 * 1000 + 3 * 12_329 * 2000


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, ToolCalls(web=3)),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, ToolCalls(web=UNTOLD_CALLS)),
        ({"tools": [{"type": "web_search"}, {"type": "file_search"}, {"type": "function"}], "max_tool_calls": 2}, ToolCalls(web=2, files=2)),
        ({"tools": [{"type": "function", "name": "my_search", "parameters": {"x": "web_search"}}]}, ToolCalls()),
        ({"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}, {"type": "x_search"}], "max_tool_calls": 3}, ToolCalls(others=6)),
        ({"tools": "_search"}, ToolCalls()),
        ({"web_search_options": None}, ToolCalls()),
    ],
)
def test_how_often_a_provider_may_search_is_told_by_the_request(fields: dict[str, Any], calls: ToolCalls) -> None:
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    plain = {"request_id": "req_1", "model": "m", "stream": False, "include_usage": False, "body": b"{}", "fields": raw}
    assert tool_calls_of(Call(dialect="openai_responses", choices=1, **plain)) == calls


async def test_a_spent_budget_is_refused_for_good(serve: Serve, one: Upstream) -> None:
    async with serve(f"budget: {{usd: {usd(COST + worst_nusd() - 1)}, window: month}}") as gateway:
        assert (await gateway.post(body())).status_code == 200
        refused = await gateway.post(body())
        sdk = await gateway.post(body(), path="/v1/messages", **{"x-api-key": KEY})
    assert refused.status_code == 402 and len(one.journal) == 1
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("budget_exhausted", "insufficient_quota")
    assert error["message"].startswith("the team 'red' has too little left of its budget of $")
    assert sdk.status_code == 402 and sdk.json()["type"] == "error"


async def test_a_failure_costs_nothing(serve: Serve, one: Upstream) -> None:
    async with serve(f"budget: {{usd: {usd(worst_nusd() + COST - 1)}, window: day}}") as gateway:
        one.plays["m1"] = status(400)
        for _ in range(5):
            assert (await gateway.post(body())).status_code == 400
        one.plays["m1"] = good
        assert (await gateway.post(body())).status_code == 200
        assert (await gateway.post(body())).status_code == 402
        assert await spent(gateway) == COST


async def test_who_leaves_before_the_answer_pays_for_the_prompt(serve: Serve, one: Upstream) -> None:
    """Its provider charges it, and nobody tells how much: an estimate, flagged as such."""
    one.plays["m1"] = silent
    async with serve(f"budget: {{usd: {usd(10 * worst_nusd())}, window: day}}") as gateway:
        with pytest.raises(httpx2.TimeoutException):
            await gateway.http.post("/v1/chat/completions", json=body(), headers={"authorization": f"Bearer {KEY}"}, timeout=0.3)
        async with asyncio.timeout(5):
            while not (rows := [row for row in await gateway.all_rows() if row.attempt]):
                await asyncio.sleep(0.02)
        assert rows[0].usage is not None and rows[0].usage.source == "estimated"
        assert 0 < await spent(gateway) == rows[0].cost_nusd < worst_nusd()


async def test_every_level_counts_and_each_windows_budget(serve: Serve) -> None:
    two = usd(2 * COST + worst_nusd() - 1)
    async with serve(
        f"budget: [{{usd: {two}, window: day}}, {{usd: 5, window: month}}]", f"budget: {{usd: {usd(3 * COST + worst_nusd() - 1)}, window: week}}"
    ) as gateway:
        assert [(await gateway.post(body())).status_code for _ in range(3)] == [200, 200, 402]
        blue = [await gateway.post(body(), "sk-blue") for _ in range(2)]
        assert (await spent(gateway, "organisation", "acme")) == 3 * COST
    assert "the organisation 'acme'" in blue[-1].json()["error"]["message"] and blue[-1].status_code == 402


async def test_a_restart_goes_on_from_the_ledger(serve: Serve) -> None:
    red = f"budget: {{usd: {usd(2 * COST + worst_nusd() - 1)}, window: month}}"
    async with serve(red) as gateway:
        assert (await gateway.post(body())).status_code == 200
    async with serve(red) as gateway:
        assert [(await gateway.post(body())).status_code for _ in range(2)] == [200, 402]


# --- where too little is left ------------------------------------------------------------------------------------------------
async def test_what_cannot_be_paid_of_the_dearest_is_answered_by_the_cheapest(serve: Serve, one: Upstream) -> None:
    async with serve(f"budget: {{usd: {usd(2 * worst_nusd())}, window: month}}", targets=f"{DEAR}, {TARGET}") as gateway:
        answer = await gateway.post(body())
        assert answer.headers["x-turnout-target"] == "one/m1"
        await asyncio.to_thread(gateway.runtime.ledger.flush)
        path = f"/v1/decisions/{answer.headers['x-request-id']}"
        told = (await gateway.http.get(path, headers={"authorization": f"Bearer {KEY}"})).json()
    (dear,) = (each for each in told["decision"]["candidates"] if each["target"] == "one/dear")
    assert dear["rule"].startswith("budget: may cost $")


async def test_local_degrades_to_what_costs_nothing(serve: Serve) -> None:
    red = f"budget: {{usd: {usd(COST + worst_nusd() - 1)}, window: month, on_exhausted: local}}"
    async with serve(red, targets=f"{TARGET}, {FREE}") as gateway:
        answers = [await gateway.post(body()) for _ in range(3)]
    assert [answer.headers["x-turnout-target"] for answer in answers] == ["one/m1", "one/free", "one/free"]


async def test_reject_does_not_degrade(serve: Serve) -> None:
    async with serve(f"budget: {{usd: {usd(COST + worst_nusd() - 1)}, window: month}}", targets=f"{TARGET}, {FREE}") as gateway:
        assert [(await gateway.post(body())).status_code for _ in range(2)] == [200, 402]


async def test_local_without_anything_local_is_refused(serve: Serve) -> None:
    async with serve(f"budget: {{usd: {usd(COST + worst_nusd() - 1)}, window: month, on_exhausted: local}}") as gateway:
        refused = [await gateway.post(body()) for _ in range(2)][1]
    assert refused.status_code == 402 and refused.headers["x-should-retry"] == "false"


async def test_a_budget_keeps_away_what_has_no_price(serve: Serve, one: Upstream) -> None:
    """A name that a client makes up: nobody knows what it costs."""
    async with serve("budget: {usd: 5}") as gateway:
        refused = await gateway.post(body(model="x/unheard-of"))
        assert (await gateway.post(body(model="x/unheard-of"), "sk-blue")).status_code == 200
    assert refused.status_code == 402 and "its price is not known" in refused.json()["error"]["message"]
    assert len(one.journal) == 1


# --- service tiers --------------------------------------------------------------------------------------------------------------
def tier(name: str) -> Callable[[Exchange], Any]:
    async def answered(x: Exchange) -> None:
        await x.respond(200, json.dumps(completion(service_tier=name)).encode())

    return answered


async def test_an_answer_without_a_known_cost_is_charged_what_was_reserved_also_after_a_restart(serve: Serve, one: Upstream) -> None:
    """The provider answers in a tier that has no price: the ledger lists it without a cost, and the budget holds."""
    one.plays["m1"] = tier("priority")
    red = f"budget: {{usd: {usd(3 * worst_nusd())}, window: month}}"
    async with serve(red) as gateway:
        first = [await gateway.post(body()) for _ in range(2)]
        (row,) = await gateway.rows(first[0].headers["x-request-id"])
        assert (row.cost_nusd, row.held_nusd) == (None, worst_nusd())
        assert await spent(gateway) == 2 * worst_nusd()
    async with serve(red) as gateway:
        then = [await gateway.post(body()) for _ in range(2)]
    assert [answer.status_code for answer in (*first, *then)] == [200, 200, 200, 402]


async def test_an_answer_beyond_its_bound_in_an_unknown_tier_is_charged_the_standard_price(serve: Serve, one: Upstream) -> None:
    async def long(x: Exchange) -> None:
        told = {"prompt_tokens": 20, "completion_tokens": 100_000}
        await x.respond(200, json.dumps({**completion(service_tier="priority"), "usage": told}).encode())

    one.plays["m1"] = long
    async with serve("budget: {usd: 5}") as gateway:
        assert (await gateway.post(body())).status_code == 200
        assert await spent(gateway) == 20 * 1000 + 100_000 * 2000


async def test_what_is_free_is_charged_nothing_in_any_tier(serve: Serve, one: Upstream) -> None:
    one.plays["free"] = tier("priority")
    async with serve("budget: {usd: 0.000001, window: month, on_exhausted: local}", targets=f"{TARGET}, {FREE}") as gateway:
        assert [(await gateway.post(body())).status_code for _ in range(3)] == [200, 200, 200]
        assert await spent(gateway) == 0


@pytest.mark.parametrize("asked", ["priority", "flex", "made-up"])
async def test_a_tier_without_a_price_is_refused_where_a_budget_pays(serve: Serve, one: Upstream, asked: str) -> None:
    async with serve("budget: {usd: 5}") as gateway:
        refused = await gateway.post(body(service_tier=asked))
        assert (await gateway.post(body(service_tier=asked), "sk-blue")).status_code == 200
        assert (await gateway.post(body(service_tier="default"))).status_code == 200
    error = refused.json()["error"]
    assert (refused.status_code, error["param"], error["code"]) == (400, "service_tier", "service_tier_unpriced")
    assert "price.service_tiers" in error["message"] and len(one.journal) == 2


@pytest.mark.parametrize(("asked", "times"), [("priority", 3), ("flex", 1), ("default", 1), ("auto", 3), (None, 3)])
async def test_a_tier_is_reserved_at_its_price_and_at_the_dearest_where_the_provider_chooses(serve: Serve, asked: str | None, times: int) -> None:
    tiers = TARGET.replace("price: {", "price: {service_tiers: {flex: 0.5, priority: 3}, ")
    told = body(service_tier=asked)
    most = (len(json.dumps(told, separators=(",", ":"))) * 1000 + 10 * 2000) * times
    async with serve(f"budget: {{usd: {usd(most - 1)}, window: total}}", targets=tiers) as gateway:
        assert (await gateway.post(told)).status_code == 402
    async with serve(f"budget: {{usd: {usd(most)}, window: day}}", targets=tiers) as gateway:
        assert (await gateway.post(told)).status_code == 200


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "streamed"])
async def test_an_answer_in_a_dearer_tier_than_was_asked_for_is_charged_at_its_price(serve: Serve, one: Upstream, stream: bool) -> None:
    """It is reserved at the standard price, and spent at the truth: beyond the reservation too."""

    async def play(x: Exchange) -> None:
        if not stream:
            await x.respond(200, json.dumps(completion(service_tier="priority")).encode())
            return
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}, service_tier="priority"))
        await x.event(chunk({}, finish="stop", service_tier="priority"))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = play
    tiers = TARGET.replace("price: {", "price: {service_tiers: {flex: 0.5, priority: 30}, ")
    told = body(service_tier="flex", stream=stream)
    most = len(json.dumps(told, separators=(",", ":"))) * 1000 + 10 * 2000
    true = 30 * (len(json.dumps(told, separators=(",", ":"))) // 4 * 1000 + 2000) if stream else 30 * COST
    async with serve(f"budget: {{usd: {usd(most)}, window: total}}", targets=tiers) as gateway:
        answer = await gateway.post(told)
        (row,) = await gateway.rows(answer.headers["x-request-id"])
        assert (row.cost_nusd, await spent(gateway)) == (true, true) and true > most
        assert (await gateway.post(told)).status_code == 402


async def test_who_asks_for_a_dear_tier_and_leaves_pays_for_it(serve: Serve, one: Upstream) -> None:
    one.plays["m1"] = silent
    tiers = TARGET.replace("price: {", "price: {service_tiers: {priority: 3}, ")
    told = body(service_tier="priority")
    async with serve("budget: {usd: 5}", targets=tiers) as gateway:
        with pytest.raises(httpx2.ReadTimeout):
            await gateway.http.post("/v1/chat/completions", json=told, headers={"authorization": f"Bearer {KEY}"}, timeout=0.5)
        async with asyncio.timeout(10):
            while await spent(gateway) == 0:
                await asyncio.sleep(0.05)
        assert await spent(gateway) == len(json.dumps(told, separators=(",", ":"))) // 4 * 1000 * 3


# --- told --------------------------------------------------------------------------------------------------------------------
class Webhook:
    """Standard Webhooks' own check of what it is told."""

    def __init__(self, server: Upstream, secret: bytes) -> None:
        self._server = server
        self._secret = secret

    async def told(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(15):
            while len(self._server.journal) < count:
                await asyncio.sleep(0.02)
        return [self._checked(seen) for seen in self._server.journal]

    def _checked(self, seen: Seen) -> dict[str, Any]:
        signed = f"{seen.head['webhook-id']}.{seen.head['webhook-timestamp']}.".encode() + seen.raw
        expected = base64.b64encode(hmac.digest(self._secret, signed, "sha256")).decode()
        assert seen.head["webhook-signature"] == f"v1,{expected}"
        return dict(seen.body)


SECRET = b"a secret of thirty-two bytes, no"


def alerting(url: str) -> str:
    return f"alerts: {{url: '{url}/hook', secret: 'whsec_{base64.b64encode(SECRET).decode()}'}}"


async def test_thresholds_are_told_once_and_signed(serve: Serve, two: Upstream) -> None:
    two.plays[""] = status(204, b"")
    hook = Webhook(two, SECRET)
    red = f"budget: {{usd: {usd(4 * COST + worst_nusd())}, window: month, alert_at: [0.1, 0.2]}}"
    async with serve(red, more=alerting(two.base_url)) as gateway:
        for _ in range(4):
            assert (await gateway.post(body())).status_code == 200
        told = await hook.told(2)
    async with serve(red, more=alerting(two.base_url)) as gateway:  # after a restart nobody is told again
        await gateway.post(body())
        await asyncio.sleep(1.2)
    assert len(two.journal) == 2
    assert sorted(each["data"]["threshold"] for each in told) == [0.1, 0.2]
    data = told[0]["data"]
    assert told[0]["type"] == "budget.threshold_reached"
    assert data["scope"] == {"kind": "team", "name": "red"} and data["window"] == "month" and data["on_exhausted"] == "reject"
    assert data["spent_usd"] >= data["threshold"] * data["budget_usd"]


async def test_a_webhook_that_fails_is_told_again(serve: Serve, two: Upstream) -> None:
    two.plays[""] = [status(500), status(204, b"")]
    red = f"budget: {{usd: {usd(COST + worst_nusd())}, window: month, alert_at: [0.01]}}"
    async with serve(red, more=alerting(two.base_url)) as gateway:
        assert (await gateway.post(body())).status_code == 200
        told = await Webhook(two, SECRET).told(2)
    assert told[0] == told[1] and two.journal[0].head["webhook-id"] == two.journal[1].head["webhook-id"]
