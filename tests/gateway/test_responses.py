"""Responses through the gateway by the official SDK: a provider that speaks them, and one that only chats."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.responses_provider import Provider
from tests.gateway.upstream import Exchange, Upstream, chunk, completion, status
from tests.providers.wires.responses_machine import run, told

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  oai: {{kind: openai, base_url: "{one}", api_key: sk-one}}
  talk: {{kind: openai-compatible, base_url: "{two}", api_key: sk-two}}
policies:
  loose: {{drop_unsupported: true}}
models:
  native: {{targets: [{{provider: oai, model: m1}}]}}
  chatty: {{targets: [{{provider: talk, model: m2}}]}}
  loose: {{policy: loose, targets: [{{provider: talk, model: m2}}]}}
  both: {{targets: [{{provider: oai, model: m1}}, {{provider: talk, model: m2}}]}}
teams:
  search: {{keys: [{key}]}}
"""
CODEX_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "shell", "description": "runs", "parameters": {"type": "object", "properties": {}}, "strict": False},
    {"type": "namespace", "name": "mcp__git", "tools": [{"type": "function", "name": "log"}]},
    {"type": "web_search", "external_web_access": False},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    {"type": "local_shell"},
]


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays["m1"] = Provider("one")
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


class City(BaseModel):
    name: str
    people: int


async def post(gateway: Gateway, **body: Any) -> Any:
    return await gateway.post({"input": "Hi", **body}, path="/v1/responses")


# --- a provider that speaks Responses --------------------------------------------------------------------------------
async def test_the_sdk_gets_an_answer_and_its_stream(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.sdk.responses.create(model="native", input="Hi")
    assert (answer.output_text, answer.id, answer.status) == ("I am one", "resp_one_1", "completed")
    assert one.journal[0].head[":path"] == "/v1/responses" and one.journal[0].body == {"model": "m1", "input": "Hi"}
    events = [event async for event in await gateway.sdk.responses.create(model="native", input="Hi", stream=True)]
    assert [event.sequence_number for event in events] == list(range(11)) and events[-1].type == "response.completed"
    async with gateway.sdk.responses.stream(model="native", input="Hi") as stream:
        assert (await stream.get_final_response()).output_text == "I am one"


async def test_a_native_stream_s_bytes_pass_untouched(gateway: Gateway, one: Upstream) -> None:
    sent = (await post(gateway, model="native", stream=True)).content
    assert run(sent, encrypts_anew=True).ended == "response.completed"
    assert b'"model": "m1"' in sent, "spaced as the provider wrote it"


async def test_what_a_native_provider_alone_knows_reaches_it_byte_for_byte(gateway: Gateway, one: Upstream) -> None:
    tools = json.dumps(CODEX_TOOLS, separators=(" , ", ":"))
    raw = f'{{"model":"native","input":[{{"type":"new_item","x":1.10}}],"tools":{tools},"client_metadata":{{"z": 1e3}},"zzz":[true , null]}}'
    assert (await gateway.post(raw.encode(), path="/v1/responses")).status_code == 200
    assert one.journal[0].raw.decode() == raw.replace('"native"', '"m1"')


async def test_usage_and_cost_are_known_of_a_native_stream(gateway: Gateway) -> None:
    answer = await post(gateway, model="native", stream=True)
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert (row.status, row.usage.input_uncached, row.usage.cache_read, row.usage.reasoning, row.upstream_id) == ("ok", 12, 8, 2, "resp_one_1")


async def test_a_failure_before_any_output_is_mended_at_another_target(gateway: Gateway, one: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for number, kind in enumerate(("created", "failed")):
            failed: dict[str, Any] = {
                "id": "r",
                "status": kind,
                "output": [],
                "error": {"code": "server_error", "message": "CANARY"} if kind == "failed" else None,
            }
            await x.event({"type": f"response.{kind}", "sequence_number": number, "response": failed})
        await x.end_stream()

    one.plays["m1"] = play
    answer = await post(gateway, model="both", stream=True)
    assert answer.headers["x-turnout-target"] == "talk/m2" and run(answer.content).final["output"][0]["content"][0]["text"] == "Hello there"


# --- a provider that only chats --------------------------------------------------------------------------------------
async def test_a_chat_answer_is_a_response_whole_and_streamed(gateway: Gateway, two: Upstream) -> None:
    answer = await gateway.sdk.responses.create(model="chatty", input="Hi", instructions="Be brief", max_output_tokens=9)
    assert (answer.output_text, answer.status, answer.model) == ("Hello there", "completed", "up-model")
    assert answer.usage is not None and answer.usage.model_dump()["input_tokens_details"]["cached_tokens"] == 8
    assert two.journal[0].body["messages"] == [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    sent = (await post(gateway, model="chatty", stream=True)).content
    assert run(sent).final["usage"]["total_tokens"] == 25
    async with gateway.sdk.responses.stream(model="chatty", input="Hi") as stream:
        assert (await stream.get_final_response()).output_text == "Hello there"


async def test_the_synchronous_sdk_works_too(gateway: Gateway) -> None:
    def use() -> None:
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=60) as client:
            for model, text in (("native", "I am one"), ("chatty", "Hello there")):
                assert client.responses.create(model=model, input="Hi").output_text == text
                with client.responses.create(model=model, input="Hi", stream=True) as events:
                    assert [event.type for event in events][-1] == "response.completed"
                with client.responses.stream(model=model, input="Hi") as stream:
                    assert stream.get_final_response().output_text == text

    await asyncio.to_thread(use)


async def test_a_schema_is_asked_of_the_provider_and_its_answer_parsed(gateway: Gateway, two: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(completion('{"name":"Brescia","people":200000}')).encode())

    two.plays["m2"] = play
    parsed = await gateway.sdk.responses.parse(model="chatty", input="A city?", text_format=City)
    assert parsed.output_parsed == City(name="Brescia", people=200_000)
    asked = two.journal[0].body["response_format"]
    assert asked["type"] == "json_schema" and asked["json_schema"]["name"] == "City" and asked["json_schema"]["strict"] is True


async def calling(x: Exchange) -> None:
    """Two calls at once, whose arguments come in turns."""
    await x.start_stream()
    for index, name in enumerate(("weather", "clock")):
        call = {"index": index, "id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": ""}}
        await x.event(chunk({"tool_calls": [call]}))
    for index, piece in ((0, '{"city"'), (1, '{"zone"'), (0, ':"Roma"}'), (1, ':"CET"}')):
        await x.event(chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}))
    await x.event(chunk({}, finish="tool_calls"))
    await x.event("[DONE]")
    await x.end_stream()


async def test_parallel_calls_are_streamed_and_their_results_go_back(gateway: Gateway, two: Upstream) -> None:
    two.plays["m2"] = calling
    tools: Any = [{"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}} for name in ("weather", "clock")]
    async with gateway.sdk.responses.stream(model="chatty", input="?", tools=tools) as stream:
        final = await stream.get_final_response()
    calls = [(item.call_id, item.name, item.arguments) for item in final.output if item.type == "function_call"]
    assert calls == [("call_weather", "weather", '{"city":"Roma"}'), ("call_clock", "clock", '{"zone":"CET"}')]
    two.plays.pop("m2")
    results: Any = [{"type": "function_call_output", "call_id": call[0], "output": "ok"} for call in calls]
    again: Any = [{"role": "user", "content": "?"}, *final.output, *results]
    await gateway.sdk.responses.create(model="chatty", input=again, tools=tools)
    messages = two.journal[-1].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == [message["tool_call_id"] for message in messages[2:]]


async def test_an_answer_that_is_cut_fails_and_never_completes(gateway: Gateway, two: Upstream) -> None:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        await x.event(chunk({"content": "Hel"}))
        x.reset()

    two.plays["m2"] = play
    sent = (await post(gateway, model="chatty", stream=True)).content
    machine = run(sent)
    assert machine.ended == "response.failed" and [event["type"] for _, event in told(sent)].count("response.completed") == 0
    assert machine.final["error"]["code"].startswith("upstream_")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        *(({"tools": [CODEX_TOOLS[0], tool]}, f"tools.{tool['type']}") for tool in CODEX_TOOLS[1:]),
        ({"zzz": [1]}, "zzz"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        (
            {"input": [{"type": "local_shell_call", "id": "s", "call_id": "s", "action": {}}, {"role": "user", "content": "?"}]},
            "input.local_shell_call",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_a_chat_provider_has_not_is_refused_by_name_or_dropped_by_name(
    gateway: Gateway, two: Upstream, fields: dict[str, Any], named: str
) -> None:
    refused = await post(gateway, model="chatty", **fields)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == named and two.journal == []
    dropped = await post(gateway, model="loose", **fields)
    assert dropped.status_code == 200 and named in dropped.headers["x-turnout-dropped"].split(", ")


async def test_hints_are_dropped_and_named(gateway: Gateway) -> None:
    answer = await post(gateway, model="chatty", prompt_cache_key="k", include=["web_search_call.results"], client_metadata={"a": "b"})
    assert answer.status_code == 200
    assert {"include", "client_metadata"} <= set(answer.headers["x-turnout-dropped"].split(", "))


# --- state that binds a request to a target ---------------------------------------------------------------------------
async def items_of(gateway: Gateway, streamed: bool) -> list[Any]:
    """An answer's items as the SDK gives them to the next turn."""
    if not streamed:
        return [item.model_dump(exclude_none=True) for item in (await gateway.sdk.responses.create(model="native", input="Hi", store=False)).output]
    async with gateway.sdk.responses.stream(model="native", input="Hi", store=False) as stream:
        return [item.model_dump(exclude_none=True) for item in (await stream.get_final_response()).output]


@pytest.mark.parametrize("streamed", [False, True])
async def test_encrypted_reasoning_goes_only_to_the_target_that_made_it(gateway: Gateway, one: Upstream, two: Upstream, streamed: bool) -> None:
    items = await items_of(gateway, streamed)
    assert items[0]["encrypted_content"] == "enc_one_1_last"
    answer = await post(gateway, model="both", input=[*items, {"role": "user", "content": "And?"}])
    assert answer.headers["x-turnout-target"] == "oai/m1" and one.journal[-1].body["input"][0] == items[0]
    one.plays["m1"] = status(500)
    failed = await post(gateway, model="both", input=[*items, {"role": "user", "content": "And?"}])
    assert failed.status_code == 502 and two.journal == [] and "CANARY" not in failed.text


@pytest.mark.parametrize(
    "fields",
    [
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"input": [{"type": "reasoning", "id": "rs_x", "summary": [], "encrypted_content": "made elsewhere"}]},
    ],
    ids=["conversation", "conversation object", "file", "reasoning"],
)
async def test_state_that_nobody_here_has_made_goes_to_the_native_target_and_to_no_other(
    gateway: Gateway, one: Upstream, two: Upstream, fields: Any
) -> None:
    assert (await post(gateway, model="both", **fields)).headers["x-turnout-target"] == "oai/m1"
    one.plays["m1"] = status(500)
    assert (await post(gateway, model="both", **fields)).status_code == 502 and two.journal == []


async def test_reasoning_that_nobody_signed_binds_nothing(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def play(x: Exchange) -> None:
        message = {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}
        await x.respond(200, json.dumps(completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])).encode())

    two.plays["m2"] = play
    first = await gateway.sdk.responses.create(model="chatty", input="Hi")
    assert first.output[0].type == "reasoning"
    items = [item.model_dump(exclude_none=True) for item in first.output]
    answer = await post(gateway, model="both", input=[*items, {"role": "user", "content": "And?"}])
    assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "oai/m1"
    assert b"tnt1_" not in one.journal[-1].raw, "a seal of ours never reaches a provider"
