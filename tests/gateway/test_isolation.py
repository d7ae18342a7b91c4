"""Every route, for whoever has no key, one that nobody has, another team's, or its own: for a team there is nothing but what is its own.

The table must name every route there is: a new one that nobody classified fails the first test.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from starlette.routing import Route

from gateway.app import create_app
from gateway.endpoints import ENDPOINTS
from ledger.reports import REPORTS
from tests.gateway.conftest import Gateway, running
from tests.gateway.upstream import Exchange, Upstream, chunk, completion

pytestmark = pytest.mark.asyncio(loop_scope="module")
KEYS = {"nobody": None, "other": "sk-blue", "own": "sk-red", "unknown": "sk-nobody-s"}
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
  two: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
policies: {{red: {{slo: {{deadline_ms: 60000}}}}}}
models:
  red: {{policy: red, targets: [{{provider: one, model: m-red, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}]}}
  blue: {{targets: [{{provider: two, model: m-blue, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}}}]}}
teams:
  red: {{keys: [sk-red], models: [red]}}
  blue: {{keys: [sk-blue], models: [blue]}}
"""
MULTIPART = {"/v1/images/edits", "/v1/images/variations", "/v1/audio/transcriptions", "/v1/audio/translations"}

# method and path -> what a caller of another team gets for a thing of ours
PUBLIC = {
    "GET /",
    "GET /health",
    "GET /health/live",
    "GET /health/ready",
    "GET /docs",
    "GET /redoc",
    "GET /docs/oauth2-redirect",
    "GET /openapi.json",
    "GET /dashboard",
    "GET /dashboard/about.json",
    "GET /dashboard/{name}",
}
THINGS = {
    "GET /v1/models/{model:path}": "model",
    "GET /v1/responses/{response_id}": "response",
    "GET /v1/responses/{response_id}/input_items": "response",
    "POST /v1/responses/{response_id}/cancel": "response",
    "DELETE /v1/responses/{response_id}": "response",
    "GET /v1/requests/{request_id}": "request",
    "GET /v1/decisions/{request_id}": "request",
    "GET /v1/files/{file_id}": "file",
    "GET /v1/files/{file_id}/content": "file",
    "DELETE /v1/files/{file_id}": "file",
    "GET /v1/batches/{batch_id}": "batch",
    "POST /v1/batches/{batch_id}/cancel": "batch",
    "GET /v1/messages/batches/{batch_id}": "message batch",
    "GET /v1/messages/batches/{batch_id}/results": "message batch",
    "POST /v1/messages/batches/{batch_id}/cancel": "message batch",
    "DELETE /v1/messages/batches/{batch_id}": "message batch",
    "GET /v1/explain": "model",
    "GET /v1/reports/batches/{batch_id}": "batch",
    "GET /v1/replay/{replay_id}": "replay",
}
MAKERS = {"POST /v1/files", "POST /v1/batches", "POST /v1/messages/batches", "POST /v1/replay"}
EMPTY = {"GET /v1/reports/breakeven", "GET /v1/reports/engines", "GET /v1/budgets"}  # for who uses no engine and has no budget
BATCHES = {"GET /v1/files", "GET /v1/batches", "GET /v1/messages/batches", "GET /v1/reports/batches"}
LISTS = (
    {"GET /v1/models", "GET /v1/targets", "GET /v1/requests", "GET /v1/routing", "GET /v1/session"}
    | BATCHES
    | {f"GET /v1/reports/{name}" for name in REPORTS}
)
OPERATORS = {"GET /metrics"}  # no team's
INSTALLED = {"GET /dashboard/npm/{name}"}  # what npm installed, which tests/dashboard looks at
INFERENCE = {f"POST {path}" for path in ENDPOINTS}


@dataclass
class Red:
    """What the red team has."""

    gateway: Gateway
    request: str
    response: str
    file: str = "file-none"
    batch: str = "batch_none"
    message_batch: str = "msgbatch_none"
    replay: str = "replay_" + "0" * 32

    def path(self, template: str) -> str:
        template = template.replace("/dashboard/{name}", "/dashboard/app.mjs").replace("/v1/explain", "/v1/explain?model=red")
        batch = self.message_batch if template.startswith("/v1/messages") else self.batch
        named = template.replace("{model:path}", "red").replace("{response_id}", self.response).replace("{request_id}", self.request)
        return named.replace("{file_id}", self.file).replace("{batch_id}", batch).replace("{replay_id}", self.replay)

    async def ask(self, route: str, caller: str, thing: str = "") -> httpx2.Response:
        method, template = route.split(" ")
        key = KEYS[caller]
        headers = {"authorization": f"Bearer {key}"} if key else {}
        content: dict[str, Any] = {}
        if method == "POST" and not thing:
            content = body_of(template)
        return await self.gateway.http.request(method, self.path(template), headers=headers, **content)


def body_of(path: str) -> dict[str, Any]:
    """A request for the red team's model."""
    if path in MULTIPART:
        return {"files": {"file": ("a.wav", b"x")}, "data": {"model": "red", "prompt": "p"}}
    body: dict[str, Any] = {"model": "red", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}], "input": "Hi", "prompt": "Hi"}
    return {"json": body | {"query": "q", "documents": ["d"], "voice": "v"}}


async def good(x: Exchange) -> None:
    """Whatever it was asked."""
    path = x.seen.head[":path"]
    if path.endswith("/embeddings"):
        data = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 1}}
        await x.respond(200, json.dumps(data).encode())
    else:
        await x.respond(200, json.dumps(completion("Red's own answer")).encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    upstream = await Upstream().start()
    upstream.plays |= {"m-red": good, "m-blue": good, "": good}
    yield upstream
    await upstream.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def red(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Red]:
    folder = tmp_path_factory.mktemp("isolation")
    async with running(CONFIG.format(folder=folder, one=upstream.base_url), folder) as gateway:
        chat = await gateway.post({"model": "red", "messages": [{"role": "user", "content": "Hi"}]}, key="sk-red")
        answer = await gateway.post({"model": "red", "input": "Hi"}, key="sk-red", path="/v1/responses")
        assert (chat.status_code, answer.status_code) == (200, 200), (chat.text, answer.text)
        replay = await gateway.post({"policy": {"policies": {"red": {"objective": "fastest"}}}}, key="sk-red", path="/v1/replay")
        assert replay.status_code == 202, replay.text
        yield Red(gateway, chat.headers["x-request-id"], answer.json()["id"], replay=replay.json()["id"])


async def batches_of(red: Red) -> None:
    """Two new batches of the red team that have ended: those before may have been deleted."""
    asked, http, headers = body_of("")["json"], red.gateway.http, {"authorization": "Bearer sk-red"}
    row = {"custom_id": "red", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "red", "messages": asked["messages"]}}
    form = {"files": {"file": ("red.jsonl", json.dumps(row).encode())}, "data": {"purpose": "batch"}}
    red.file = (await http.post("/v1/files", headers=headers, **form)).json()["id"]
    new = {"input_file_id": red.file, "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"of": "red"}}
    red.batch = (await http.post("/v1/batches", headers=headers, json=new)).json()["id"]
    message = {"model": "red", "max_tokens": 5, "messages": asked["messages"]}
    made = await http.post("/v1/messages/batches", headers=headers, json={"requests": [{"custom_id": "red", "params": message}]})
    red.message_batch = made.json()["id"]
    async with asyncio.timeout(60):
        while (await http.get(f"/v1/batches/{red.batch}", headers=headers)).json()["status"] != "completed":
            await asyncio.sleep(0.02)
        while (await http.get(f"/v1/messages/batches/{red.message_batch}", headers=headers)).json()["processing_status"] != "ended":
            await asyncio.sleep(0.02)


async def kept_answer(red: Red) -> str:
    """A new answer of the red team: the one before may have been deleted."""
    answer = await red.gateway.post({"model": "red", "input": "Hi"}, key="sk-red", path="/v1/responses")
    name: str = answer.json()["id"]
    return name


async def test_every_route_is_in_the_table(red: Red) -> None:
    app = create_app(red.gateway.runtime, "test")
    found = {f"{method} {route.path}" for route in app.routes if isinstance(route, Route) for method in route.methods or () if method != "HEAD"}
    assert found | INFERENCE == PUBLIC | LISTS | EMPTY | OPERATORS | INSTALLED | INFERENCE | MAKERS | set(THINGS)


@pytest.mark.parametrize("caller", KEYS)
@pytest.mark.parametrize("route", sorted(PUBLIC))
async def test_what_is_public_holds_nothing_of_a_team(red: Red, route: str, caller: str) -> None:
    answer = await red.ask(route, caller)
    assert answer.status_code == 200
    assert not any(secret in answer.text for secret in ("m-red", "Red's own", red.request, red.response, "sk-red", "127.0.0.1"))


@pytest.mark.parametrize(("caller", "status"), [("nobody", 401), ("other", 404), ("unknown", 401), ("own", 200)])
@pytest.mark.parametrize("route", THINGS)
async def test_a_thing_of_another_team_is_not_there(red: Red, route: str, caller: str, status: int) -> None:
    red.response = await kept_answer(red)
    if THINGS[route] in ("file", "batch", "message batch"):
        await batches_of(red)
    answer = await red.ask(route, caller, THINGS[route])
    assert answer.status_code == status
    if status != 200:
        assert "Red's own" not in answer.text
        still = {"file": "GET /v1/files/{file_id}/content", "batch": "GET /v1/batches/{batch_id}"}.get(THINGS[route])
        if THINGS[route] == "message batch":
            still = "GET /v1/messages/batches/{batch_id}/results"
        own = await red.ask(still or "GET /v1/responses/{response_id}", "own", THINGS[route])
        assert own.status_code == 200 and 'cancelled_at": 1' not in own.text  # nobody else deleted or cancelled it


async def test_what_is_not_ours_and_what_is_not_at_all_are_told_apart_by_nobody(red: Red) -> None:
    for route, thing in THINGS.items():
        theirs = await red.ask(route, "other", thing)
        nowhere = Red(red.gateway, "req_" + "0" * 32, "resp_" + "0" * 32)
        if thing != "model":
            missing = await nowhere.ask(route, "other", thing)
            assert (theirs.status_code, theirs.json()["error"]["code"]) == (missing.status_code, missing.json()["error"]["code"])


@pytest.mark.parametrize("route", sorted(LISTS))
async def test_a_list_holds_what_is_the_caller_s_own(red: Red, route: str) -> None:
    if route in BATCHES and red.file == "file-none":
        await batches_of(red)
    ours, theirs = await red.ask(route, "own"), await red.ask(route, "other")
    assert (ours.status_code, theirs.status_code) == (200, 200)
    assert "red" in ours.text or "one/m-red" in ours.text
    assert not re.search(r"\bred\b", theirs.text)
    assert (await red.ask(route, "nobody")).status_code == (await red.ask(route, "unknown")).status_code == 401


@pytest.mark.parametrize("caller", ["nobody", "unknown"])
@pytest.mark.parametrize("route", sorted(MAKERS))
async def test_nothing_is_made_for_who_has_no_key(red: Red, route: str, caller: str) -> None:
    assert (await red.ask(route, caller)).status_code == 401


async def test_another_team_s_file_makes_no_batch(red: Red) -> None:
    await batches_of(red)
    new = {"input_file_id": red.file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    theirs = await red.gateway.post(new, key="sk-blue", path="/v1/batches")
    nobody_s = await red.gateway.post(new | {"input_file_id": "file-none"}, key="sk-blue", path="/v1/batches")
    assert theirs.status_code == nobody_s.status_code == 400
    assert theirs.json()["error"]["code"] == nobody_s.json()["error"]["code"] == "file_not_found"


async def test_another_team_s_model_is_no_row_of_a_batch(red: Red) -> None:
    message = {"model": "red", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await red.gateway.post({"requests": [{"custom_id": "a", "params": message}]}, key="sk-blue", path="/v1/messages/batches")
    assert answer.status_code == 400 and "requests.0.params.model" in answer.text


@pytest.mark.parametrize(("caller", "status"), [("nobody", 401), ("other", 200), ("unknown", 401), ("own", 200)])
@pytest.mark.parametrize("route", sorted(EMPTY))
async def test_what_is_of_nobody_here_is_empty_for_all(red: Red, route: str, caller: str, status: int) -> None:
    answer = await red.ask(route, caller)
    assert answer.status_code == status and (status != 200 or answer.json()["data"] == [])


@pytest.mark.parametrize(("caller", "status"), [("nobody", 401), ("other", 403), ("unknown", 401), ("own", 403)])
@pytest.mark.parametrize("route", sorted(OPERATORS))
async def test_what_is_of_all_teams_is_no_team_s(red: Red, route: str, caller: str, status: int) -> None:
    answer = await red.ask(route, caller)
    assert answer.status_code == status and "turnout_" not in answer.text


@pytest.mark.parametrize(("caller", "status"), [("nobody", 401), ("other", 404), ("unknown", 401)])
@pytest.mark.parametrize("route", sorted(INFERENCE))
async def test_another_team_s_model_is_not_there_to_be_asked(red: Red, upstream: Upstream, route: str, caller: str, status: int) -> None:
    asked = len(upstream.journal)
    answer = await red.ask(route, caller)
    assert answer.status_code == status
    assert len(upstream.journal) == asked


@pytest.mark.parametrize(
    "route", sorted(INFERENCE - {"POST /v1/responses/compact", "POST /v1/responses/input_tokens", "POST /v1/messages/count_tokens"})
)
async def test_a_team_s_own_model_answers_it(red: Red, upstream: Upstream, route: str) -> None:
    asked = len(upstream.journal)
    answer = await red.ask(route, "own")
    assert answer.status_code not in (401, 403, 404)
    assert len(upstream.journal) == asked + 1 or answer.status_code == 400


async def test_another_team_cannot_go_on_from_our_answer(red: Red, upstream: Upstream) -> None:
    asked = len(upstream.journal)
    answer = await red.gateway.post({"model": "blue", "input": "And?", "previous_response_id": red.response}, key="sk-blue", path="/v1/responses")
    assert answer.status_code in (400, 404) and len(upstream.journal) == asked


SHARED = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
policies: {{kept: {{cache: {{}}, drop_unsupported: true}}}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
models: {{red: {{policy: kept, targets: [{{provider: one, model: m}}]}}}}
teams: {{red: {{keys: [sk-red]}}, blue: {{keys: [sk-blue]}}}}
"""
KEPT = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]


@pytest.mark.asyncio(loop_scope="function")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", KEPT)
async def test_no_team_is_given_another_s_kept_answer(one: Upstream, tmp_path: Path, path: str, stream: bool) -> None:
    """Two teams that ask the same, one after the other and at once: what the one gets the other never gets."""
    numbers = count()

    async def numbered(x: Exchange) -> None:
        text = f"the answer number {next(numbers)}"
        if x.seen.head[":path"].endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [float(text.split()[-1])]}]
            return await x.respond(200, json.dumps({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1}}).encode())
        if x.seen.head[":path"].endswith("/completions") and "messages" not in x.seen.body and not stream:
            choices = [{"index": 0, "text": text, "finish_reason": "stop"}]
            return await x.respond(200, json.dumps({"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": choices}).encode())
        if not x.seen.body.get("stream"):
            return await x.respond(200, json.dumps(completion(text)).encode())
        await x.start_stream()
        of_text = "messages" not in x.seen.body
        for part, finish in ((text, None), ("", "stop")):
            plain = {
                "id": "c",
                "object": "text_completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "text": part, "finish_reason": finish}],
            }
            await x.event(plain if of_text else chunk({"content": part}, finish=finish))
        await x.event("[DONE]")
        return await x.end_stream()

    one.plays["m"] = numbered
    body = body_of(path)["json"] | ({"stream": True} if stream and path != "/v1/embeddings" else {})
    async with running(SHARED.format(folder=tmp_path, one=one.base_url), tmp_path) as gateway:
        got: dict[str, set[str]] = {"sk-red": set(), "sk-blue": set()}
        uses: list[str] = []
        for seed in range(3):
            for _ in range(2):
                keys = [key for key in got for _ in range(3)]
                answers = await asyncio.gather(*(gateway.post(body | {"temperature": seed / 10}, key=key, path=path) for key in keys))
                for key, answer in zip(keys, answers, strict=True):
                    assert answer.status_code == 200, answer.text
                    got[key].add(answer.text)
                    uses.append(answer.headers["x-turnout-cache"])
    assert got["sk-red"].isdisjoint(got["sk-blue"]) and len(got["sk-red"]) == len(got["sk-blue"]) == 3
    assert (uses.count("miss"), uses.count("join"), uses.count("hit")) == (6, 12, 18) and len(one.journal) == 6
