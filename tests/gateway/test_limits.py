"""Limits at the edge: what is admitted, refused, waited for and given back, in one process's memory and over a Redis, by the same tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import Exchange, Upstream, completion, good, status

ASK = [{"role": "user", "content": "Hi"}]
TEMPLATE = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: {redis}, redis_deadline_ms: 5000}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models: {{m: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}}}
organisations: {{acme: {{{organisation}}}}}
teams:
  red: {{organisation: acme, keys: [{key}], {red}}}
  blue: {{organisation: acme, keys: [sk-blue], {blue}}}
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
    async def serving(red: str = "", blue: str = "", organisation: str = "") -> AsyncIterator[Gateway]:
        text = TEMPLATE.format(folder=tmp_path, redis=redis_url, one=one.base_url, key=KEY, red=red, blue=blue, organisation=organisation)
        async with running(text, tmp_path) as gateway:
            yield gateway

    return serving


def body(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": ASK, "max_tokens": 10, **more}


async def statuses(gateway: Gateway, count: int, key: str = KEY, **more: Any) -> list[int]:
    answers = await asyncio.gather(*(gateway.post(body(**more), key) for _ in range(count)))
    return sorted(answer.status_code for answer in answers)


class Held:
    """Requests at the upstream stay there until they are let go, one by one; `names` tells them by their first message, in their order."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def play(self, x: Exchange) -> None:
        self.names.append(x.seen.body["messages"][0]["content"])
        go = asyncio.Event()
        self._waiting.put_nowait(go)
        await go.wait()
        await good(x)

    async def let_go(self) -> None:
        (await asyncio.wait_for(self._waiting.get(), 10)).set()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


# --- requests a minute -----------------------------------------------------------------------------------------------------
async def test_what_exceeds_a_minutes_requests_is_refused_and_reaches_nobody(serve: Serve, one: Upstream) -> None:
    async with serve("limits: {rpm: 3}") as gateway:
        assert await statuses(gateway, 10) == [200] * 3 + [429] * 7
        assert len(one.journal) == 3
        refused = await gateway.post(body())
    assert refused.headers["x-should-retry"] == "true" and refused.headers["x-turnout-decision"] == "not planned: rate_limit_exceeded"
    assert 15 <= int(refused.headers["retry-after"]) <= 20 and 15_000 <= int(refused.headers["retry-after-ms"]) <= 20_000
    assert refused.headers["x-ratelimit-limit-requests"] == "3" and refused.headers["x-ratelimit-remaining-requests"] == "0"
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert error["message"] == "the limit of 3 requests a minute of the team 'red' is reached"


async def test_every_answer_tells_what_is_left(serve: Serve) -> None:
    async with serve("limits: {rpm: 600, tpm: 60000}") as gateway:
        first = (await gateway.post(body())).headers
        second = (await gateway.post(body())).headers
    assert (first["x-ratelimit-limit-requests"], first["x-ratelimit-remaining-requests"]) == ("600", "599")
    assert int(second["x-ratelimit-remaining-requests"]) in (598, 599)
    assert first["x-ratelimit-reset-requests"].endswith("ms")
    assert first["x-ratelimit-limit-tokens"] == "60000" and int(first["x-ratelimit-remaining-tokens"]) < 60_000
    assert "x-turnout-degraded" not in first


async def test_who_waits_as_long_as_told_is_admitted(serve: Serve) -> None:
    async with serve("limits: {rpm: 20}") as gateway:
        assert await statuses(gateway, 21) == [200] * 20 + [429]
        refused = await gateway.post(body())
        assert refused.status_code == 429
        await asyncio.sleep(int(refused.headers["retry-after-ms"]) / 1000)
        assert (await gateway.post(body())).status_code == 200


async def test_the_official_sdk_waits_and_gets_its_answer(serve: Serve) -> None:
    async with serve("limits: {rpm: 60}") as gateway:
        await statuses(gateway, 60)
        patient = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=3)
        answer = await patient.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        await patient.close()
    assert answer.choices[0].message.content == "Hello there"


async def test_one_that_failed_gives_its_turn_back(serve: Serve, one: Upstream) -> None:
    one.plays["m1"] = status(400)
    async with serve("limits: {rpm: 2}") as gateway:
        for _ in range(4):
            failed = await gateway.post(body())
            assert failed.status_code == 400 and failed.headers["x-ratelimit-remaining-requests"] == "1"
        one.plays["m1"] = good
        assert (await gateway.post(body())).status_code == 200


async def test_an_organisations_limit_is_its_teams_together(serve: Serve, one: Upstream) -> None:
    async with serve(organisation="limits: {rpm: 4}", red="limits: {rpm: 3}") as gateway:
        assert await statuses(gateway, 5) == [200] * 3 + [429] * 2
        assert await statuses(gateway, 3, "sk-blue") == [200] + [429] * 2  # what was refused to red took nothing of it
        refused = await gateway.post(body(), "sk-blue")
    assert "the organisation 'acme'" in refused.json()["error"]["message"]
    assert len(one.journal) == 4


# --- tokens a minute ---------------------------------------------------------------------------------------------------------
async def test_a_request_takes_its_upper_bound_and_gives_back_what_it_did_not_use(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {tpm: 2000}") as gateway:
        first = asyncio.create_task(gateway.post(body(max_tokens=1800)))
        await until(lambda: len(held.names) == 1)
        assert (await gateway.post(body(max_tokens=1800))).status_code == 429
        await held.let_go()
        answer = await first
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 200
        one.plays["m1"] = good
        after = await gateway.post(body(max_tokens=1800))
    assert after.status_code == 200  # the first used 25 tokens
    assert int(after.headers["x-ratelimit-remaining-tokens"]) < 200


async def test_what_was_used_beyond_the_bound_counts(serve: Serve, one: Upstream) -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 90, "total_tokens": 990}
    one.plays["m1"] = status(200, json.dumps(completion(usage=usage)).encode())
    async with serve("limits: {tpm: 1000}") as gateway:
        assert (await gateway.post(body())).status_code == 200
        refused = await gateway.post(body())
    assert refused.status_code == 429 and "1000 tokens a minute" in refused.json()["error"]["message"]


async def test_what_never_fits_is_told_so(serve: Serve, one: Upstream) -> None:
    async with serve("limits: {tpm: 1000}") as gateway:
        refused = await gateway.post(body(max_tokens=5000))
    assert refused.status_code == 429 and not one.journal
    assert refused.json()["error"]["code"] == "request_too_large_for_limit"
    assert refused.headers["x-should-retry"] == "false" and "retry-after" not in refused.headers


async def test_a_long_prompt_that_is_likely_to_fit_is_admitted(serve: Serve) -> None:
    long = [{"role": "user", "content": "word " * 600}]  # 3,000 bytes: at most as many tokens, about 750
    async with serve("limits: {tpm: 2000}") as gateway:
        assert (await gateway.post(body(messages=long))).status_code == 200


# --- at once -----------------------------------------------------------------------------------------------------------------
async def test_no_more_run_at_once_than_may(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {concurrency: 2}") as gateway:
        running_two = [asyncio.create_task(gateway.post(body(stream=True))) for _ in range(2)]
        await until(lambda: len(held.names) == 2)
        refused = await gateway.post(body())
        assert refused.status_code == 429 and "2 requests at once" in refused.json()["error"]["message"]
        await held.let_go()
        await held.let_go()
        assert [answer.status_code for answer in await asyncio.gather(*running_two)] == [200, 200]
        one.plays["m1"] = good
        assert (await gateway.post(body())).status_code == 200


async def test_a_client_that_leaves_gives_its_place_back(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {concurrency: 1}") as gateway:
        with pytest.raises(httpx2.TimeoutException):
            await gateway.http.post("/v1/chat/completions", json=body(), headers={"authorization": f"Bearer {KEY}"}, timeout=0.3)
        one.plays["m1"] = good
        async with asyncio.timeout(5):
            while (await gateway.post(body())).status_code == 429:
                await asyncio.sleep(0.02)
        await until(lambda: gateway.runtime.ledger.pending == 0)
        assert [row.status for row in await gateway.all_rows() if row.attempt] == ["client_closed", "ok"]


# --- in turn -----------------------------------------------------------------------------------------------------------------
async def test_a_request_may_wait_for_its_turn(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {concurrency: 1, max_wait_s: 20}") as gateway:
        tasks = []
        for name in ("a", "b", "c"):
            tasks.append(asyncio.create_task(gateway.post(body(messages=[{"role": "user", "content": name}]))))
            await asyncio.sleep(0.1)
        for count in (1, 2, 3):
            await until(lambda count=count: len(held.names) == count)  # type: ignore[misc]
            await held.let_go()
        assert [(await task).status_code for task in tasks] == [200] * 3
    assert held.names == ["a", "b", "c"]


async def test_who_waits_too_long_is_refused(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {concurrency: 1, max_wait_s: 0.2}") as gateway:
        first = asyncio.create_task(gateway.post(body()))
        await until(lambda: len(held.names) == 1)
        late = await gateway.post(body())
        await held.let_go()
        assert (late.status_code, (await first).status_code) == (429, 200)
    assert len(one.journal) == 1


async def test_a_burst_that_cannot_all_be_served_in_time_is_shed_at_once_and_told_when_to_come_again(serve: Serve, one: Upstream) -> None:
    async with serve("limits: {rpm: 60, max_wait_s: 30}") as gateway:
        assert await statuses(gateway, 60) == [200] * 60
        waiting = [asyncio.create_task(gateway.post(body())) for _ in range(40)]
        refused = [each for each in await _first(waiting, 9) if each.status_code == 429]
        assert len(refused) >= 5  # one a second passes, and may be among the first; some thirty of them wait
        assert sorted(int(each.headers["retry-after"]) for each in refused)[0] >= 29
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert 60 <= len(one.journal) < 70


async def test_how_long_requests_take_tells_who_waits_in_vain(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve("limits: {concurrency: 1, max_wait_s: 6}") as gateway:
        first = asyncio.create_task(gateway.post(body()))
        await until(lambda: len(held.names) == 1)
        waiting = [asyncio.create_task(gateway.post(body())) for _ in range(9)]  # how long one takes is not known yet: all wait
        await asyncio.sleep(2.4)
        assert not any(task.done() for task in waiting)
        await held.let_go()  # 2.4 s: of the nine the fourth would wait for longer than 6 s
        refused = await _first(waiting, 5)
        assert [each.status_code for each in refused] == [429] * 5
        assert all(float(each.headers["retry-after-ms"]) > 3000 for each in refused)
        await until(lambda: len(held.names) == 2)  # the first of those that waited has its turn
        for task in waiting:
            task.cancel()
        await held.let_go()
        await asyncio.gather(first, *waiting, return_exceptions=True)


async def _first(tasks: list["asyncio.Task[httpx2.Response]"], count: int) -> list[httpx2.Response]:
    """The answers that are there first."""
    done = []
    for each in asyncio.as_completed(tasks, timeout=10):
        done.append(await each)
        if len(done) == count:
            break
    return done


async def test_turns_follow_weights_and_batch_waits_for_interactive(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve(organisation="limits: {concurrency: 1, max_wait_s: 20}", red="weight: 3", blue="weight: 1") as gateway:
        tasks = [asyncio.create_task(gateway.post(body(messages=[{"role": "user", "content": "first"}])))]
        await until(lambda: len(held.names) == 1)
        for _ in range(8):
            for key, name in ((KEY, "red"), ("sk-blue", "blue")):
                tasks.append(asyncio.create_task(gateway.post(body(messages=[{"role": "user", "content": name}]), key)))
        await asyncio.sleep(0.5)
        for count in range(1, len(tasks) + 1):
            await until(lambda count=count: len(held.names) == count)  # type: ignore[misc]
            await held.let_go()
        assert {(await task).status_code for task in tasks} == {200}
    assert held.names[1:9].count("red") == 6  # three of four turns while both wait


async def test_batch_waits_until_nobody_interactive_does(serve: Serve, one: Upstream) -> None:
    held = Held()
    one.plays["m1"] = held.play
    async with serve(organisation="limits: {concurrency: 1, max_wait_s: 20}", blue="priority: batch") as gateway:
        tasks = []
        for key, name in ((KEY, "first"), ("sk-blue", "batch"), (KEY, "red"), (KEY, "red")):
            tasks.append(asyncio.create_task(gateway.post(body(messages=[{"role": "user", "content": name}]), key)))
            await asyncio.sleep(0.1)
        for count in range(1, 5):
            await until(lambda count=count: len(held.names) == count)  # type: ignore[misc]
            await held.let_go()
        await asyncio.gather(*tasks)
    assert held.names == ["first", "red", "red", "batch"]


@pytest.mark.parametrize("asked", [5.5, 10_000_000_000, "many", -1])
async def test_a_limit_that_is_no_number_of_tokens_is_refused_where_it_is_counted_on(serve: Serve, one: Upstream, asked: object) -> None:
    async with serve("max_tokens_per_request: 500", "limits: {tpm: 1000}") as gateway:
        for key in (KEY, "sk-blue"):
            answer = await gateway.post(body(max_tokens=asked), key)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", "max_tokens")
    assert not one.journal


# --- one request's own -------------------------------------------------------------------------------------------------------
async def test_an_answers_length_is_limited_by_its_team(serve: Serve, one: Upstream) -> None:
    async with serve("max_tokens_per_request: 500") as gateway:
        for path, extra, field in (
            ("/v1/chat/completions", {"messages": ASK}, "max_completion_tokens"),
            ("/v1/completions", {"prompt": "Hi"}, "max_tokens"),
        ):
            assert (await gateway.post({"model": "m", **extra}, path=path)).status_code == 200
            assert one.journal[-1].body[field] == 500
        assert (await gateway.post(body(max_tokens=400))).status_code == 200 and one.journal[-1].body["max_tokens"] == 400
        refused = await gateway.post(body(max_tokens=501))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_tokens")
        assert refused.json()["error"]["message"] == "`max_tokens` is 501; this key may ask for 500 at most"
        assert (await gateway.post(body(max_tokens=501), "sk-blue")).status_code == 200


async def test_a_request_that_may_cost_too_much_is_refused(serve: Serve, one: Upstream) -> None:
    async with serve("max_usd_per_request: 0.000001") as gateway:
        refused = await gateway.post(body())
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "over_max_cost")
        assert (await gateway.post(body(), "sk-blue")).status_code == 200
    assert len(one.journal) == 1


async def test_a_refused_request_has_a_row_that_says_why(serve: Serve) -> None:
    async with serve("limits: {rpm: 1}") as gateway:
        await statuses(gateway, 2)
        rows = await gateway.all_rows()
    (refused,) = (row for row in rows if row.attempt == 0)
    assert (refused.error_code, refused.client_status, refused.team, refused.organisation) == ("rate_limit_exceeded", 429, "red", "acme")
