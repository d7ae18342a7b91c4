"""OpenAI chat through the gateway, by the official SDK and by hand: what goes in, what comes out, what stays untouched."""

import asyncio
import json

import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import USAGE, Exchange, Upstream, chunk

ASK = [{"role": "user", "content": "Hi"}]


async def test_the_sdk_gets_a_unary_answer(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.sdk.chat.completions.create(model="solo", messages=ASK)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.usage is not None and answer.usage.prompt_tokens == 20
    assert one.journal[0].body["model"] == "m1"
    assert one.journal[0].head["authorization"] == "Bearer sk-upstream-one"


async def test_the_sdk_streams(gateway: Gateway) -> None:
    stream = await gateway.sdk.chat.completions.create(model="solo", messages=ASK, stream=True)
    chunks = [c async for c in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)


async def test_the_sdk_stream_helper_accumulates(gateway: Gateway) -> None:
    async with gateway.sdk.chat.completions.stream(model="solo", messages=ASK) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "Hello there"


async def test_the_synchronous_sdk_works_too(gateway: Gateway) -> None:
    def use() -> None:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            answer = client.chat.completions.create(model="solo", messages=ASK)
            assert answer.choices[0].message.content == "Hello there"
            with client.chat.completions.create(model="solo", messages=ASK, stream=True) as stream:
                assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Hello there"
            with client.chat.completions.stream(model="solo", messages=ASK) as helper:
                assert helper.get_final_completion().choices[0].finish_reason == "stop"
            assert "solo" in {m.id for m in client.models.list()}

    await asyncio.to_thread(use)


async def test_usage_is_asked_for_and_taken_out_again_unless_the_client_wants_it(gateway: Gateway, one: Upstream) -> None:
    plain = (await gateway.post({"model": "solo", "messages": ASK, "stream": True})).text
    assert one.journal[-1].body["stream_options"] == {"include_usage": True}
    assert "prompt_tokens" not in plain and plain.endswith("data: [DONE]\n\n")
    asked = (await gateway.post({"model": "solo", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}})).text
    assert '"prompt_tokens":20' in asked


async def test_a_stream_s_bytes_pass_untouched_but_for_the_usage_chunk(gateway: Gateway, one: Upstream) -> None:
    events = [
        b": a comment\n\n",
        b'data: {"choices":[],"prompt_filter_results":[{"x":1}]}\n\n',
        'data: {"id":"c","choices":[{"index":0,"delta":{"content":"zażółć 🚂"},"finish_reason":null}],"usage":null,"odd":  [1,2]}\n\n'.encode(),
        b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n',
        b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n',
        b"data: [DONE]\n\n",
    ]

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in events:
            await x.raw_chunk(event)
        await x.end_stream()

    one.plays["m1"] = play
    got = await gateway.post({"model": "solo", "messages": ASK, "stream": True})
    assert got.content == b"".join(events[:4] + events[5:])


async def test_a_unary_answer_s_bytes_pass_untouched(gateway: Gateway, one: Upstream) -> None:
    body = b'{ "id":"c",  "choices":[ {"index":0,"message":{"role":"assistant","content":"\\u017c"},"finish_reason":"stop","x":[1, 2]} ], '
    body += b'"unknown" : {"a": 1.50} }\n'

    async def play(x: Exchange) -> None:
        await x.respond(200, body)

    one.plays["m1"] = play
    assert (await gateway.post({"model": "solo", "messages": ASK})).content == body


async def test_unknown_request_fields_survive_byte_for_byte(gateway: Gateway, one: Upstream) -> None:
    raw = (
        b'{"model":"solo", "messages":[{"role":"user","content":"Hi","odd":1.10}], "vendor_option":{"z": 1e3, "a":[true , null]}, "temperature":0.70}'
    )
    assert (await gateway.post(raw)).status_code == 200
    sent = one.journal[0].raw
    assert b'"vendor_option":{"z": 1e3, "a":[true , null]}' in sent and b'"temperature":0.70' in sent and b'"odd":1.10' in sent
    assert json.loads(sent)["model"] == "m1"


async def test_tool_calls_and_several_choices_survive(gateway: Gateway, one: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
        await x.event(chunk({"role": "assistant", "tool_calls": [call]}))
        for piece in ('{"a"', ":1}"):
            await x.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        await x.event(chunk({"content": "second"}, index=1))
        await x.event(chunk({}, finish="stop", index=1))
        await x.event(chunk({}, finish="tool_calls"))
        await x.event(chunk(None, usage=USAGE))
        await x.event("[DONE]")
        await x.end_stream()

    one.plays["m1"] = play
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]
    async with gateway.sdk.chat.completions.stream(model="solo", messages=ASK, tools=tools, n=2) as stream:
        final = await stream.get_final_completion()
    assert [c.finish_reason for c in final.choices] == ["tool_calls", "stop"]
    assert final.choices[0].message.tool_calls is not None and final.choices[0].message.tool_calls[0].function.arguments == '{"a":1}'
    assert final.choices[1].message.content == "second"
    assert one.journal[0].body["tools"] == tools and one.journal[0].body["n"] == 2


async def test_a_pattern_s_star_reaches_the_provider(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.post({"model": "one/some-model-x", "messages": ASK})
    assert answer.status_code == 200
    assert one.journal[0].body["model"] == "some-model-x"
    assert answer.headers["x-turnout-target"] == "one/some-model-x"


async def test_models_are_listed_for_the_key_that_asks(gateway: Gateway) -> None:
    listed = await gateway.sdk.models.list()
    assert {m.id for m in listed.data} == {"solo", "pair", "one/*"}
    narrow = await gateway.http.get("/v1/models", headers={"authorization": "Bearer sk-narrow"})
    assert [m["id"] for m in narrow.json()["data"]] == ["solo"]
    assert (await gateway.sdk.models.retrieve("solo")).id == "solo"
    assert (await gateway.post({"model": "pair", "messages": ASK}, key="sk-narrow")).status_code == 404


async def test_every_answer_carries_its_headers(gateway: Gateway) -> None:
    answer = await gateway.post({"model": "solo", "messages": ASK})
    headers = answer.headers
    assert headers["x-request-id"].startswith("req_") and len(headers["x-request-id"]) == 36
    assert (headers["x-turnout-target"], headers["x-turnout-route"], headers["x-turnout-attempts"]) == ("one/m1", "solo", "1")
    assert 0 <= float(headers["x-turnout-overhead-ms"]) < 1000
    assert float(headers["x-turnout-ttft-ms"]) > 0
    for path in ("/health", "/nowhere", "/v1/models", "/docs"):
        assert (await gateway.http.get(path)).headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_priced_target_s_cost_is_in_the_ledger_to_the_nano_dollar(one: Upstream, tmp_path, stream: bool) -> None:
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k}}}}
models: {{m: {{targets: [{{provider: one, model: m1, price: {{input_usd_per_mtok: 2.5, output_usd_per_mtok: 10, cache_read_usd_per_mtok: 1.25}}}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        answer = await gateway.post({"model": "m", "messages": ASK, "stream": stream})
        (row,) = await gateway.rows(answer.headers["x-request-id"])
    # 12 uncached and 8 cached input tokens, 5 output: 12 * 2500 + 8 * 1250 + 5 * 10000 nano-dollars
    assert row.cost_nusd == 90_000
    if not stream:
        assert answer.headers["x-turnout-cost-usd"] == "0.000090000"


async def test_a_provider_s_own_headers_are_sent_and_stand_in_for_ours(one: Upstream, tmp_path) -> None:
    headers = "{HTTP-Referer: https://example.test, User-Agent: mine, authorization: Basic abc}"
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k, headers: {headers}}}}}
models: {{m: {{targets: [{{provider: one, model: m1}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        assert (await gateway.post({"model": "m", "messages": ASK}, **{"x-client": "stays here", "cookie": "a=b"})).status_code == 200
    head = one.journal[0].head
    assert (head["http-referer"], head["user-agent"], head["authorization"]) == ("https://example.test", "mine", "Basic abc")
    assert "x-client" not in head and "cookie" not in head


@pytest.mark.parametrize("stream", [False, True])
async def test_the_general_client_serves_a_provider_that_asks_for_it(one: Upstream, tmp_path, stream: bool) -> None:
    yaml = f"""
state: {{database: "sqlite:///{tmp_path}/t.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one.base_url}", api_key: k, transport: httpx}}}}
models: {{m: {{targets: [{{provider: one, model: m1}}]}}}}
teams: {{t: {{keys: [{KEY}]}}}}
"""
    async with running(yaml, tmp_path) as gateway:
        answer = await gateway.post({"model": "m", "messages": ASK, "stream": stream})
        assert answer.status_code == 200 and "Hello" in answer.text
        (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.status == "ok" and row.connect_us is not None and row.headers_us is not None
