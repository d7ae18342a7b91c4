"""What a client sees when an upstream misbehaves, and what the ledger keeps: streamed and unary, with a second target and without."""

import asyncio
import json
import time

import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Upstream, chunk, good, silent, status

ASK = [{"role": "user", "content": "Hi"}]
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])


def body(model: str, stream: bool) -> dict[str, object]:
    return {"model": model, "messages": ASK, "stream": stream}


async def reset(x: Exchange) -> None:
    x.reset()


async def html(x: Exchange) -> None:
    await x.respond(200, b"<html>CANARY maintenance</html>", "text/html")


async def error_in_200(x: Exchange) -> None:
    if not x.seen.body.get("stream"):
        await x.respond(200, b'{"error":{"message":"CANARY","code":500}}')
        return
    await x.start_stream()
    await x.event({"error": {"message": "CANARY", "code": 500}})
    await x.end_stream()


async def short_body(x: Exchange) -> None:
    await x.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 400\r\n\r\n{"choices":[')
    x.writer.close()


async def cut_before_output(x: Exchange) -> None:
    if not x.seen.body.get("stream"):
        await short_body(x)
        return
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": ""}))
    x.reset()


async def never_ends(x: Exchange) -> None:
    """A role, then an end without finish reason or [DONE]."""
    if not x.seen.body.get("stream"):
        await short_body(x)
        return
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": ""}))
    await x.end_stream()


FAULTS = {
    "500": (status(500), "upstream_error"),
    "503": (status(503, retry_after="7"), "upstream_overloaded"),
    "429": (status(429, retry_after="9"), "upstream_rate_limited"),
    "quota": (status(429, b'{"error":{"code":"insufficient_quota","message":"CANARY"}}'), "upstream_quota_exhausted"),
    "401": (status(401), "upstream_auth_failed"),
    "reset": (reset, "upstream_connection_lost"),
    "html": (html, "upstream_invalid_response"),
    "error in a 200": (error_in_200, "upstream_error"),
    "cut": (cut_before_output, "upstream_stream_truncated"),
    "no terminal event": (never_ends, "upstream_stream_truncated"),
    "redirect": (status(302, location="http://127.0.0.1:1/"), None),
}
MENDED_BY_A_MOMENT = {"500", "reset", "error in a 200"}  # tried once more at the same target, although another is left


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_failure_before_the_first_output_moves_to_the_next_target(
    gateway: Gateway, one: Upstream, two: Upstream, fault: str, stream: bool
) -> None:
    play, code = FAULTS[fault]
    one.plays["m1"] = play
    answer = await gateway.post(body("pair", stream))
    assert answer.status_code == 200, answer.text
    assert "Hello" in answer.text and "CANARY" not in answer.text
    assert answer.headers["x-turnout-target"] == "two/m2"
    tries = 2 if fault in MENDED_BY_A_MOMENT else 1
    assert answer.headers["x-turnout-attempts"] == str(tries + 1)
    rows = await gateway.rows(answer.headers["x-request-id"])
    assert [(r.target, r.status) for r in rows] == [("one", "failed")] * tries + [("two", "ok")]
    assert code is None or rows[0].error_code == code
    assert len(one.journal) == tries


@BOTH
@pytest.mark.parametrize(
    ("fault", "code", "seen"),
    [
        ("500", 502, 3),
        ("503", 503, 1),
        ("429", 429, 1),
        ("quota", 429, 1),
        ("401", 502, 1),
        ("reset", 502, 3),
        ("html", 502, 1),
        ("cut", 502, 2),
    ],
)
async def test_with_no_other_target_the_client_gets_a_clear_error(
    gateway: Gateway, one: Upstream, fault: str, code: int, seen: int, stream: bool
) -> None:
    one.plays["m1"] = FAULTS[fault][0]
    answer = await gateway.post(body("solo", stream))
    assert answer.status_code == code
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id", "attempts"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert error["attempts"] == seen == len(one.journal)
    assert "CANARY" not in answer.text
    if fault in ("429", "503"):
        assert int(answer.headers["retry-after"]) >= 7
    rows = await gateway.rows(answer.headers["x-request-id"])
    assert [r.status for r in rows] == ["failed"] * seen
    assert [r.client_status for r in rows] == [None] * (seen - 1) + [code]


@BOTH
async def test_a_request_that_may_have_been_read_is_sent_again_as_an_attempt_of_its_own(gateway: Gateway, one: Upstream, stream: bool) -> None:
    """On a connection that was kept, too: its reset does not say what its upstream had read, and may charge."""
    one.plays["m1"] = [good, reset, good]
    assert (await gateway.post(body("solo", stream))).status_code == 200
    answer = await gateway.post(body("solo", stream))
    assert answer.status_code == 200 and answer.headers["x-turnout-attempts"] == "2"
    rows = await gateway.rows(answer.headers["x-request-id"])
    assert [(r.status, r.error_code) for r in rows] == [("failed", "upstream_connection_lost"), ("ok", None)]
    assert len(one.journal) == 3


@BOTH
async def test_one_500_is_mended_by_the_same_target(gateway: Gateway, one: Upstream, stream: bool) -> None:
    one.plays["m1"] = [status(500), good]
    answer = await gateway.post(body("solo", stream))
    assert answer.status_code == 200 and answer.headers["x-turnout-attempts"] == "2"


async def test_a_short_retry_after_is_waited_for_once(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = [status(429, retry_after="1"), good]
    began = time.monotonic()
    answer = await gateway.post(body("solo", False))
    assert answer.status_code == 200 and time.monotonic() - began >= 0.95


@BOTH
@pytest.mark.parametrize("code", [400, 413, 422])
async def test_the_caller_s_own_fault_is_final(gateway: Gateway, one: Upstream, two: Upstream, code: int, stream: bool) -> None:
    one.plays["m1"] = status(code, b'{"error":{"message":"CANARY","param":"temperature","code":"bad_value"}}')
    answer = await gateway.post(body("pair", stream))
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temperature"
    assert "CANARY" not in answer.text and not two.journal


async def test_a_fallback_s_own_limits_do_not_hide_why_the_provider_failed(one: Upstream, tmp_path) -> None:
    asked = (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"n": 2},
        {"messages": [{"role": "user", "content": "x " * 20_000}]},
    )
    one.plays = {f"m{number}": status(503, retry_after="30") for number in range(len(asked))}
    models = ", ".join(f"{name}: {{targets: [{{provider: one, model: {name}}}, {{engine: cpu}}]}}" for name in one.plays)
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k}}}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512}}}}
models: {{{models}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        for model, fields in zip(one.plays, asked, strict=True):
            answer = await gateway.post({**body(model, False), **fields})
            assert answer.status_code == 503 and answer.headers["retry-after"] == "30", answer.text
            assert answer.json()["error"]["code"] == "upstream_overloaded"
            rows = await gateway.rows(answer.headers["x-request-id"])
            assert [r.target for r in rows] in (["one"], ["one", "cpu"]), "what the engine is known not to take is not sent to it"


async def test_a_wrong_type_that_only_the_provider_noticed_is_explained_in_our_words(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(400)
    answer = await gateway.post({"model": "solo", "messages": [{"role": "user", "content": 5}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "messages[0].content"


async def test_a_context_that_is_too_long_may_fit_another_target(gateway: Gateway, one: Upstream) -> None:
    one.plays["m1"] = status(400, b'{"error":{"code":"context_length_exceeded","message":"CANARY"}}')
    assert (await gateway.post(body("pair", False))).headers["x-turnout-target"] == "two/m2"
    alone = await gateway.post(body("solo", False))
    assert (alone.status_code, alone.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("how", ["reset", "clean end", "malformed event", "error event"])
async def test_a_cut_after_output_is_told_in_band_and_never_looks_whole(gateway: Gateway, one: Upstream, two: Upstream, how: str) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"role": "assistant", "content": "Hel"}))
        await x.event(chunk({"content": "lo"}))
        await asyncio.sleep(0.05)
        if how == "reset":
            x.reset()
        elif how == "malformed event":
            await x.event('{"choices":[{"index":0,"delta":{"con')
            await x.event("[DONE]")
        elif how == "error event":
            await x.event({"error": {"message": "CANARY", "type": "server_error", "code": None}})
        if how != "reset":
            await x.end_stream()

    one.plays["m1"] = play
    answer = await gateway.post(body("pair", True))
    assert answer.status_code == 200
    events = [line[6:] for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert [json.loads(e)["choices"][0]["delta"]["content"] for e in events[:-1]] == ["Hel", "lo"]
    error = json.loads(events[-1])["error"]
    assert error["code"] in {"upstream_stream_truncated", "upstream_invalid_response", "upstream_error", "upstream_connection_lost"}
    assert "[DONE]" not in answer.text and '"stop"' not in answer.text and "CANARY" not in answer.text
    assert not two.journal, "no silent switch after the commit point"
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.source, row.usage.output_visible) == ("cut", "estimated", 2)
    with pytest.raises(openai.APIError):
        async for _ in await gateway.sdk.chat.completions.create(model="pair", messages=ASK, stream=True):
            pass


async def test_a_finish_reason_without_done_is_a_whole_answer(gateway: Gateway, one: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}))
        await x.event(chunk({}, finish="stop"))
        await x.end_stream()

    one.plays["m1"] = play
    answer = await gateway.post(body("solo", True))
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (await gateway.rows(answer.headers["x-request-id"]))[0].status == "ok"


async def test_an_upstream_that_never_closes_after_its_finish_reason_is_not_waited_for(gateway: Gateway, one: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hello"}, finish="stop"))
        await x.wait_until_gone()

    one.plays["m1"] = play
    answer = await gateway.post(body("solo", True))
    assert answer.text.endswith("data: [DONE]\n\n")


async def comments_only(x: Exchange) -> None:
    await x.start_stream()
    for _ in range(100):
        await x.raw_chunk(b": keep-alive\n\n")
        await asyncio.sleep(0.05)


async def head_only(x: Exchange) -> None:
    kind = b"text/event-stream" if x.seen.body.get("stream") else b"application/json"
    await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\ncontent-length: 50\r\n\r\n")
    await x.wait_until_gone()


# a unary answer shows no first token, so that clock is a stream's alone
CLOCKS = [("headers_s", silent, False), ("headers_s", silent, True), ("first_token_s", comments_only, True), ("idle_s", head_only, False)]
CLOCKS += [("idle_s", head_only, True), ("total_s", silent, False), ("total_s", silent, True)]


@pytest.mark.parametrize(("name", "play", "stream"), CLOCKS, ids=[f"{name}-{'stream' if stream else 'unary'}" for name, _, stream in CLOCKS])
async def test_each_clock_moves_a_silent_upstream_s_request_on(config_text, tmp_path, one: Upstream, two: Upstream, name, play, stream: bool) -> None:
    clock = f"{name}: 0.3"
    one.plays["m1"] = play
    async with running(config_text("{" + clock + "}"), tmp_path) as gateway:
        began = time.monotonic()
        answer = await gateway.post(body("pair", stream))
        assert answer.headers["x-turnout-target"] == "two/m2"
        assert time.monotonic() - began < 10
        rows = await gateway.rows(answer.headers["x-request-id"])
        assert rows[0].error_code == f"upstream_{name.removesuffix('_s')}_timeout"
    await asyncio.wait_for(one.journal[0].gone.wait(), 5)


@pytest.mark.parametrize("phase", ["no headers", "headers only", "streaming", "unary"])
async def test_a_client_that_leaves_stops_the_upstream(gateway: Gateway, one: Upstream, phase: str) -> None:
    async def play(x: Exchange) -> None:
        if phase == "headers only":
            await x.start_stream()
        if phase == "streaming":
            await x.start_stream()
            await x.event(chunk({"content": "Hello"}))
        await x.wait_until_gone()

    one.plays["m1"] = play
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    payload = json.dumps(body("solo", phase != "unary")).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test-key\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload)
    if phase == "streaming":
        await reader.readuntil(b"Hello")
    while not one.journal:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await asyncio.wait_for(one.journal[0].gone.wait(), 5)  # the bar is 0.1 s; more for a busy machine
    async with asyncio.timeout(5):
        while not (rows := await gateway.all_rows()):
            await asyncio.sleep(0.02)
    assert [(r.status, r.error_code) for r in rows] == [("client_closed", "client_closed")]


async def test_a_dead_upstream_moves_the_next_request_on(gateway: Gateway, one: Upstream) -> None:
    assert (await gateway.post(body("pair", False))).headers["x-turnout-target"] == "one/m1"
    await one.stop()
    answer = await gateway.post(body("pair", True))
    assert answer.headers["x-turnout-target"] == "two/m2"
    rows = await gateway.rows(answer.headers["x-request-id"])
    assert rows[0].error_code in {"upstream_connect_failed", "upstream_connection_lost"}


async def test_slow_readers_do_not_fill_the_gateway_s_memory(gateway: Gateway, one: Upstream) -> None:
    """The upstream is paused once the client does not read: it can have written no more than the buffers on the way hold."""
    piece = chunk({"content": "x" * 60_000})

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for _ in range(1000):
            await x.event(piece)

    one.plays["m1"] = play
    _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]), limit=1024)
    payload = json.dumps(body("solo", True)).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test-key\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload)
    before = -1
    async with asyncio.timeout(20):
        while not one.journal or one.journal[0].sent != before:
            before = one.journal[0].sent if one.journal else -1
            await asyncio.sleep(0.5)
    assert one.journal[0].sent < 30_000_000
    writer.transport.abort()


@BOTH
async def test_killing_the_upstream_mid_run_moves_the_next_request_to_the_embedded_engine(one: Upstream, tmp_path, stream: bool) -> None:
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k}}}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512}}}}
policies: {{safe: {{fallback: local}}}}
models: {{m: {{policy: safe, targets: [{{provider: one, model: m1}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        assert (await gateway.post(body("m", stream))).headers["x-turnout-target"] == "one/m1"
        await one.stop()
        answer = await gateway.post({**body("m", stream), "max_tokens": 8})
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "cpu"
        rows = await gateway.rows(answer.headers["x-request-id"])
    assert [(r.target, r.status, r.error_code) for r in rows] == [("one", "failed", "upstream_connect_failed"), ("cpu", "ok", None)]
    assert rows[1].usage is not None and rows[1].usage.output_visible
    assert rows[1].first_token_us and rows[1].queue_us is not None
