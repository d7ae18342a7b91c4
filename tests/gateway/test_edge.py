"""Bad input at the edge: each kind gets a clear, OpenAI-shaped error that says whose fault it is, in bounded work."""

import asyncio
import contextlib
import json
import time

import pytest

from contract import errors
from gateway.connection import ClientConnection
from gateway.errors import STATUS, shown, status_of
from gateway.peek import too_deep
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream, silent

GOOD = {"model": "solo", "messages": [{"role": "user", "content": "Hi"}]}


def with_field(name: str, value: object) -> dict[str, object]:
    return {**GOOD, name: value}


BAD_BODIES = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b'"text"', None),
    (b'{"model":"solo","messages":[NaN]}', None),
    (b'{"model":"solo","messages":[{"role":"user","content":"\xff"}]}', None),
    (b'{"model":"solo","messages":[{"role":"user","content":"\\ud800"}]}', None),
    (b'{"model":"solo","messages":' + b"[" * 70 + b"]" * 70 + b"}", None),
    (b'{"model":"solo","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    (b'{"model":"solo","x":[' + b"[],".join([b""] * 60_000) + b"[]]}", None),
    ({"messages": GOOD["messages"]}, "model"),
    (with_field("model", 5), "model"),
    (with_field("model", None), "model"),
    (with_field("model", ""), "model"),
    ({"model": "solo"}, "messages"),
    (with_field("messages", "Hi"), "messages"),
    (with_field("messages", None), "messages"),
    (with_field("messages", []), "messages"),
    (with_field("stream", "yes"), "stream"),
    (with_field("stream_options", True), "stream_options"),
    (with_field("stream_options", {"include_usage": 1}), "stream_options.include_usage"),
    (with_field("temperature", "hot"), "temperature"),
    (with_field("max_tokens", [1]), "max_tokens"),
    (with_field("n", 0), "n"),
    (with_field("n", 1.5), "n"),
    (with_field("n", 10**30), "n"),
    (with_field("tools", {}), "tools"),
    (with_field("stop", 3), "stop"),
    (with_field("metadata", []), "metadata"),
]


@pytest.mark.parametrize(("body", "param"), BAD_BODIES, ids=[str(b)[:60] for b, _ in BAD_BODIES])
async def test_a_bad_body_is_a_400_that_names_the_field(gateway: Gateway, one: Upstream, body: object, param: str | None) -> None:
    answer = await gateway.post(body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and error["param"] == param and error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-should-retry"] == "false"
    assert not one.journal


async def test_a_body_of_countless_members_is_refused_before_they_are_read(gateway: Gateway, one: Upstream) -> None:
    members = ",".join(f'"k{n}":1' for n in range(250_000))
    answer = await gateway.post(f'{{"model":"solo","messages":[],{members}}}'.encode())
    assert answer.status_code == 400 and "members" in answer.json()["error"]["message"] and not one.journal


async def test_colons_in_a_text_are_no_members(gateway: Gateway) -> None:
    text = '{"id": 1, "ok": true}, ' * 120_000
    assert (await gateway.post({"model": "solo", "messages": [{"role": "user", "content": text}]})).status_code == 200


async def test_of_a_member_that_stands_there_twice_provider_and_gateway_see_the_same(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.post(b'{"model":"one/dear","messages":[{"role":"user","content":"Hi"}],"model":"one/cheap"}')
    assert answer.headers["x-turnout-target"] == "one/cheap"
    assert one.journal[0].raw.count(b'"model"') == 1 and one.journal[0].body["model"] == "cheap"


async def test_null_is_the_same_as_absent_for_optional_fields(gateway: Gateway) -> None:
    body = {**GOOD, **dict.fromkeys(("stream", "temperature", "n", "stop", "tools", "stream_options", "metadata", "max_tokens"))}
    assert (await gateway.post(body)).status_code == 200


@pytest.mark.parametrize("key", [None, "", "sk-wrong", "sk-test-key2", "' OR 1=1 --", "x" * 10_000])
async def test_a_missing_or_unknown_key_is_a_401(gateway: Gateway, one: Upstream, key: str | None) -> None:
    answer = await gateway.post(GOOD, key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert not one.journal
    for path in ("/v1/models", "/v1/models/solo", "/v1/requests/req_x", "/v1/targets"):
        assert (await gateway.http.get(path, headers={"authorization": f"Bearer {key}"} if key else {})).status_code == 401


async def test_the_key_may_come_as_x_api_key(gateway: Gateway) -> None:
    assert (await gateway.post(GOOD, key=None, **{"x-api-key": KEY})).status_code == 200


async def test_an_unknown_model_is_a_404_that_says_where_to_look(gateway: Gateway) -> None:
    answer = await gateway.post(with_field("model", "gpt-nothing"))
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found" and "/v1/models" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "decision"),
    [
        (with_field("model", "none"), "not planned: model_not_found"),
        (with_field("temperature", "hot"), "not planned: invalid_request"),
        (b"{", "not planned: invalid_request"),
    ],
)
async def test_a_request_that_ended_before_a_plan_is_told_what_ended_it(gateway: Gateway, body: object, decision: str) -> None:
    assert (await gateway.post(body)).headers["x-turnout-decision"] == decision


async def test_nothing_was_decided_for_who_is_not_known(gateway: Gateway) -> None:
    assert "x-turnout-decision" not in (await gateway.post(GOOD, key=None)).headers


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
async def test_a_body_that_is_not_json_by_its_type_is_a_415(gateway: Gateway, content_type: str) -> None:
    answer = await gateway.post(json.dumps(GOOD).encode(), **{"content-type": content_type})
    assert answer.status_code == 415 and answer.json()["error"]["code"] == "unsupported_media_type"
    assert (await gateway.post(json.dumps(GOOD).encode(), **{"content-encoding": "gzip"})).status_code == 415


async def test_a_wrong_method_is_a_405_and_a_wrong_path_a_404(gateway: Gateway) -> None:
    auth = {"authorization": f"Bearer {KEY}"}
    assert (await gateway.http.get("/v1/chat/completions", headers=auth)).status_code == 405
    assert (await gateway.http.delete("/v1/models", headers=auth)).status_code == 405
    nowhere = await gateway.http.get("/v1/nowhere", headers=auth)
    assert nowhere.status_code == 404 and nowhere.json()["error"]["code"] == "not_found"


async def raw(gateway: Gateway, head: str, body: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n{head}\r\n".encode() + body)
    async with asyncio.timeout(30):
        answer = await reader.readuntil(b"\r\n\r\n") + await reader.read(65536)
    writer.close()
    return answer


async def talk(gateway: Gateway, *pieces: bytes) -> bytes:
    """All that comes back on one connection, until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.1)
    answer = b""
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):
            answer = await reader.read(-1)
    writer.transport.abort()
    return answer


@pytest.mark.parametrize("line", [b"x-a: " + b"v" * 10_000_000, b"x-a: v\r\n" * 100_000], ids=["one long", "many"])
async def test_a_head_without_bound_is_refused(gateway: Gateway, line: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n" + line)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionError):  # what we still send meets a closed connection
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 431")
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
    writer.transport.abort()


async def test_a_head_that_does_not_come_is_a_408(config_text, tmp_path) -> None:
    class Quick(ClientConnection):
        head_s = 0.2

    async with running(config_text(), tmp_path, Quick) as gateway:
        for begun in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"):
            answer = await talk(gateway, begun)
            assert answer.startswith(b"HTTP/1.1 408") and b"x-request-id: req_" in answer


async def test_nothing_is_written_into_an_answer_that_is_under_way(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = silent
    body = json.dumps(GOOD).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    assert await talk(gateway, request, b"\x01\x02 garbage\r\n\r\n") == b""
    await asyncio.wait_for(one.journal[0].gone.wait(), 5)


async def test_a_body_that_declares_too_much_is_refused_unread(gateway: Gateway) -> None:
    answer = await raw(gateway, "content-type: application/json\r\ncontent-length: 99999999999\r\n", b"{")
    assert answer.startswith(b"HTTP/1.1 413") and b"request_too_large" in answer and b"connection: close" in answer


async def test_a_chunked_body_that_grows_too_large_is_refused(gateway: Gateway) -> None:
    gateway.runtime.limits = type(gateway.runtime.limits)(max_body_bytes=100_000, body_idle_s=5)
    piece = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    answer = await raw(gateway, "content-type: application/json\r\ntransfer-encoding: chunked\r\n", piece * 6)
    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_that_does_not_come_is_a_408(gateway: Gateway) -> None:
    gateway.runtime.limits = type(gateway.runtime.limits)(max_body_bytes=100_000, body_idle_s=0.2)
    answer = await raw(gateway, "content-type: application/json\r\ncontent-length: 100\r\n", b'{"model"')
    assert answer.startswith(b"HTTP/1.1 408") and b"request_timeout" in answer


@pytest.mark.parametrize("size", [1_000, 1_000_000])
async def test_deep_json_costs_work_in_proportion_to_its_size(size: int) -> None:
    began = time.process_time()
    assert too_deep(b"[" * size + b"]" * size, 64) if size < 50_000 else True
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("text", "depth"),
    [(b"[]", 1), (b'{"a":[{}]}', 3), (b'["[[[["]', 1), (b'["\\"[[["]', 1), (b'["\\\\",[[]]]', 3), (b'[{"]":1},[[1]]]', 3)],
)
def test_depth_is_counted_outside_strings_only(text: bytes, depth: int) -> None:
    assert not too_deep(text, depth)
    assert too_deep(text, depth - 1)


async def test_health_and_root_need_no_key(gateway: Gateway) -> None:
    assert (await gateway.http.get("/health")).json() == {"status": "ok"}
    assert (await gateway.http.head("/")).status_code == 200
    assert (await gateway.http.get("/health/live")).status_code == 200
    ready = await gateway.http.get("/health/ready")
    assert ready.status_code == 200 and ready.json()["status"] == "ok"


async def test_the_documentation_names_every_route(gateway: Gateway) -> None:
    paths = (await gateway.http.get("/openapi.json")).json()["paths"]
    assert {"/v1/chat/completions", "/v1/models", "/v1/requests/{request_id}", "/health/ready"} <= set(paths)


async def test_another_team_s_request_is_a_404(gateway: Gateway) -> None:
    request_id = (await gateway.post(GOOD)).headers["x-request-id"]
    own = await gateway.http.get(f"/v1/requests/{request_id}", headers={"authorization": f"Bearer {KEY}"})
    assert own.status_code == 200 and own.json()["request_id"] == request_id
    assert own.json()["attempts"][0]["target"] == "one"
    other = await gateway.http.get(f"/v1/requests/{request_id}", headers={"authorization": "Bearer sk-narrow"})
    assert other.status_code == 404


def leaves(cls: type[errors.TurnoutError]) -> list[type[errors.TurnoutError]]:
    below = cls.__subclasses__()
    return [cls, *(leaf for sub in below for leaf in leaves(sub))]


def test_every_error_has_a_status_by_intent() -> None:
    """Only the three groups that are never raised themselves, and the one that shows its last attempt, fall to the root's 500."""
    by_root = {cls for cls in leaves(errors.TurnoutError) if next(c for c in cls.__mro__ if c in STATUS) is errors.TurnoutError}
    assert by_root == {errors.TurnoutError, errors.RequestError, errors.AttemptError, errors.EngineError, errors.AttemptsExhausted}
    last = errors.RateLimited("slow down", retry_after_s=2.5)
    assert status_of(errors.AttemptsExhausted([last])) == (429, "rate_limit_error")
    assert dict(shown(errors.AttemptsExhausted([last])).headers) == {
        b"x-should-retry": b"true",
        b"retry-after": b"3",
        b"retry-after-ms": b"2500",
    }


@pytest.mark.parametrize("size", [300, 300_000, 900_000])
async def test_a_refusal_reaches_a_client_whose_body_is_still_on_its_way(gateway: Gateway, size: int) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer wrong\r\ncontent-length: %d\r\n\r\n" % size
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    writer.write(head)
    await writer.drain()
    await asyncio.sleep(0.05)  # the gateway knows by now that it will refuse
    writer.write(b"x" * size)
    await writer.drain()
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
