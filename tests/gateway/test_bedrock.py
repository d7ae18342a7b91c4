"""Amazon Bedrock behind the gateway, asked by the official SDKs: signed requests, an event stream in, the client's own stream out."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Seen, Upstream, completion
from tests.providers.eventstream_bytes import event, exception
from tests.providers.sigv4_oracle import authorization

CREDENTIALS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
TEMPORARY = ("ASIAEXAMPLE", "secret/+=", "IQoJb3JpZ2luX2VjEXAMPLE/+==")
MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  lasting: {{kind: bedrock, base_url: "{aws}", region: eu-west-1, credentials: {{access_key_id: {lasting[0]}, secret_access_key: "{lasting[1]}"}}}}
  temporary:
    kind: bedrock
    base_url: "{aws}"
    region: eu-west-1
    credentials: {{access_key_id: {temporary[0]}, secret_access_key: "{temporary[1]}", session_token: "{temporary[2]}"}}
  bearer: {{kind: bedrock, base_url: "{aws}", api_key: bedrock-api-key}}
  other: {{kind: openai-compatible, base_url: "{other}", api_key: sk-other}}
models:
  claude: {{targets: [{{provider: lasting, model: "{model}"}}]}}
  nova: {{targets: [{{provider: temporary, model: "{profile}"}}]}}
  keyed: {{targets: [{{provider: bearer, model: amazon.nova-lite-v1:0}}]}}
  safe: {{targets: [{{provider: lasting, model: "{model}"}}, {{provider: other, model: m}}]}}
  titan: {{targets: [{{provider: lasting, model: amazon.titan-embed-text-v2:0}}]}}
  cohere: {{targets: [{{provider: lasting, model: cohere.embed-v4:0}}]}}
teams:
  search: {{keys: [{key}]}}
"""
USAGE = {"inputTokens": 12, "outputTokens": 7, "totalTokens": 49, "cacheReadInputTokens": 20, "cacheWriteInputTokens": 10}
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
ASK: Any = [{"role": "user", "content": "Weather in Brescia?"}]


def delta(index: int, **members: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=members)


def closed(index: int) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


THOUGHT = [
    delta(0, reasoningContent={"text": "Look "}),
    delta(0, reasoningContent={"text": "it up."}),
    delta(0, reasoningContent={"signature": "c2lnbmF0dXJl"}),
    closed(0),
]
SAID = [delta(1, text="One mo"), delta(1, text="ment … 🦀"), closed(1)]
CALLED = [
    event("contentBlockStart", contentBlockIndex=2, start={"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "type": "tool_use"}}),
    delta(2, toolUse={"input": ""}),
    delta(2, toolUse={"input": '{"city": "Bre'}),
    delta(2, toolUse={"input": 'scia"}'}),
    closed(2),
]
BEGIN, STOP = event("messageStart", role="assistant"), event("messageStop", stopReason="tool_use")
METADATA = event("metadata", usage=USAGE, metrics={"latencyMs": 3})
STREAM = [BEGIN, *THOUGHT, *SAID, *CALLED, STOP, METADATA]
ANSWER = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Look it up.", "signature": "c2lnbmF0dXJl"}}},
                {"text": "One moment … 🦀"},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Brescia"}, "type": "tool_use"}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 3},
}


async def stream(x: Exchange, data: bytes, *, whole: bool = True) -> None:
    """As Amazon sends it, in pieces that are no whole messages."""
    await x.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n")
    for at in range(0, len(data), 97):
        await x.raw_chunk(data[at : at + 97])
    if whole:
        await x.end_stream()


async def converse(x: Exchange) -> None:
    if x.seen.head[":path"].endswith("/converse-stream"):
        await stream(x, b"".join(STREAM))
        return
    await x.respond(200, json.dumps(ANSWER).encode(), x_amzn_requestid="r-1")


def assert_signed(seen: Seen, key: tuple[str, str, str | None] = CREDENTIALS) -> None:
    """What Amazon does before all else."""
    url = f"http://{seen.head['host']}{seen.head[':path']}"
    told = {"content-type": "application/json"}
    wanted = authorization("POST", url, told, seen.raw, key=key, region="eu-west-1", stamp=seen.head["x-amz-date"])
    assert seen.head["authorization"] == wanted and seen.head["content-type"] == "application/json"
    assert seen.head.get("x-amz-security-token") == key[2]


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays[""] = converse
    places = {"folder": tmp_path, "aws": one.base_url, "other": two.base_url, "model": MODEL, "profile": PROFILE, "key": KEY}
    yaml = CONFIG.format(**places, lasting=CREDENTIALS, temporary=TEMPORARY)
    async with running(yaml, tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def anthropic(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_openai_s_client_gets_a_whole_answer_of_a_signed_request(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.sdk.chat.completions.create(model="claude", messages=ASK, max_completion_tokens=100)
    (seen,) = one.journal
    assert_signed(seen)
    assert seen.head[":path"] == "/v1/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    assert seen.body == {"messages": [{"role": "user", "content": [{"text": "Weather in Brescia?"}]}], "inferenceConfig": {"maxTokens": 100}}
    message = answer.choices[0].message
    assert message.content == "One moment … 🦀" and message.tool_calls is not None and answer.choices[0].finish_reason == "tool_calls"
    assert [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls] == [("tooluse_1", "weather", {"city": "Brescia"})]  # type: ignore[union-attr]
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (42, 7, 20)


async def test_openai_s_client_gets_a_stream_of_an_event_stream(gateway: Gateway, one: Upstream) -> None:
    asked = await gateway.sdk.chat.completions.create(model="claude", messages=ASK, stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in asked]
    assert_signed(one.journal[0])
    assert one.journal[0].head[":path"].endswith("/converse-stream") and "stream" not in one.journal[0].body
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(d.content or "" for d in deltas) == "One moment … 🦀"
    calls = [call for d in deltas for call in d.tool_calls or ()]
    assert (calls[0].index, calls[0].id, calls[0].function and calls[0].function.name) == (0, "tooluse_1", "weather")
    assert json.loads("".join(call.function.arguments or "" for call in calls if call.function)) == {"city": "Brescia"}
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["tool_calls"]
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 49


async def test_openai_s_responses_are_made_of_it_too(gateway: Gateway) -> None:
    whole = await gateway.sdk.responses.create(model="claude", input="Weather?", store=False)
    asked = await gateway.sdk.responses.create(model="claude", input="Weather?", store=False, stream=True)
    last = [event async for event in asked][-1]
    assert last.type == "response.completed" and last.response.output_text == whole.output_text == "One moment … 🦀"
    assert [item.type for item in last.response.output] == [item.type for item in whole.output] == ["reasoning", "message", "function_call"]


async def test_anthropic_s_client_gets_the_same_whole_and_streamed(anthropic: AsyncAnthropic, one: Upstream) -> None:
    whole = await anthropic.messages.create(model="claude", messages=ASK, tools=[WEATHER], max_tokens=100)
    async with anthropic.messages.stream(model="claude", messages=ASK, tools=[WEATHER], max_tokens=100) as asked:
        streamed = await asked.get_final_message()
    for seen in one.journal:
        assert_signed(seen)
    for message in (whole, streamed):
        assert [block.type for block in message.content] == ["thinking", "text", "tool_use"] and message.stop_reason == "tool_use"
        thinking, text, use = (block.model_dump() for block in message.content)
        assert (thinking["thinking"], text["text"], use["input"]) == ("Look it up.", "One moment … 🦀", {"city": "Brescia"})
        told = message.usage
        assert (told.input_tokens, told.output_tokens, told.cache_read_input_tokens, told.cache_creation_input_tokens) == (12, 7, 20, 10)


async def test_what_was_thought_comes_back_to_bedrock_as_it_signed_it(anthropic: AsyncAnthropic, one: Upstream) -> None:
    thinks: Any = {"type": "enabled", "budget_tokens": 1024}
    async with anthropic.messages.stream(model="claude", messages=ASK, tools=[WEATHER], max_tokens=2000, thinking=thinks) as asked:
        first = await asked.get_final_message()
    result: Any = {"type": "tool_result", "tool_use_id": "tooluse_1", "content": "18 °C", "cache_control": {"type": "ephemeral"}}
    history: Any = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    await anthropic.messages.create(model="claude", messages=history, tools=[WEATHER], max_tokens=2000, thinking=thinks)
    turns = one.journal[1].body["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[1]["content"][0] == ANSWER["output"]["message"]["content"][0]  # type: ignore[index]
    told = {"toolUseId": "tooluse_1", "content": [{"text": "18 °C"}]}
    assert turns[2]["content"] == [{"toolResult": told}, {"cachePoint": {"type": "default"}}]
    assert one.journal[1].body["additionalModelRequestFields"] == {"thinking": thinks}


async def test_a_profile_s_address_and_temporary_credentials_are_signed(gateway: Gateway, one: Upstream) -> None:
    await gateway.sdk.chat.completions.create(model="nova", messages=ASK)
    async for _ in await gateway.sdk.chat.completions.create(model="nova", messages=ASK, stream=True):
        pass
    for seen in one.journal:
        assert_signed(seen, TEMPORARY)
        assert "inference-profile%2Feu.amazon.nova-pro-v1%3A0" in seen.head[":path"]


async def test_a_key_goes_as_a_bearer_token_where_nothing_signs(gateway: Gateway, one: Upstream) -> None:
    await gateway.sdk.chat.completions.create(model="keyed", messages=ASK)
    assert one.journal[0].head["authorization"] == "Bearer bedrock-api-key" and "x-amz-date" not in one.journal[0].head


async def test_the_ledger_has_its_usage_and_its_native_reason(gateway: Gateway) -> None:
    for streamed in (False, True):
        answer = await gateway.post({"model": "claude", "messages": ASK, "stream": streamed})
        (row,) = await gateway.rows(answer.headers["x-request-id"])
        assert (row.status, row.finish_reason, row.native_finish_reason) == ("ok", "tool_calls", "tool_use")
        usage = row.usage
        assert (usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.output_visible, usage.source) == (12, 20, 10, 7, "provider")


async def test_an_exception_before_any_output_falls_over(gateway: Gateway, one: Upstream, two: Upstream) -> None:
    async def throttled(x: Exchange) -> None:
        await stream(x, BEGIN + exception("throttlingException"))

    one.plays[""] = throttled
    answer = await gateway.post({"model": "safe", "messages": ASK, "stream": True})
    assert answer.headers["x-turnout-target"] == "other/m" and "CANARY" not in answer.text
    assert [row.error_code for row in await gateway.rows(answer.headers["x-request-id"])] == ["upstream_rate_limited", None]


def plays(data: bytes, *, whole: bool) -> Any:
    async def play(x: Exchange) -> None:
        await stream(x, data, whole=whole)
        x.writer.close()

    return play


BROKEN: dict[str, tuple[Any, str]] = {
    "an exception": (plays(BEGIN + SAID[0] + exception("modelStreamErrorException"), whole=True), "upstream_error"),
    "a cut between messages": (plays(BEGIN + SAID[0], whole=True), "upstream_stream_truncated"),
    "a cut within a message": (plays(BEGIN + SAID[0] + STOP[:-5], whole=True), "upstream_stream_truncated"),
    "a lost connection": (plays(BEGIN + SAID[0], whole=False), "upstream_stream_truncated"),
    "a wrong checksum": (plays(BEGIN + SAID[0] + STOP[:-1] + b"\0", whole=True), "upstream_invalid_response"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_what_breaks_after_output_is_an_error_in_the_client_s_stream(gateway: Gateway, one: Upstream, fault: str) -> None:
    one.plays[""], code = BROKEN[fault]
    answer = await gateway.post({"model": "claude", "messages": ASK, "stream": True})
    assert answer.status_code == 200 and "One mo" in answer.text and "[DONE]" not in answer.text and "CANARY" not in answer.text
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert last["error"]["code"] == code


@pytest.mark.parametrize(
    ("status", "name", "seen", "code"),
    [
        (403, "AccessDeniedException", 502, "upstream_auth_failed"),
        (400, "ValidationException", 400, "upstream_rejected"),
        (429, "ThrottlingException", 429, "upstream_rate_limited"),
        (404, "ResourceNotFoundException", None, "upstream_model_not_found"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_refusal_is_told_in_our_words(
    gateway: Gateway, one: Upstream, status: int, name: str, seen: int | None, code: str, streamed: bool
) -> None:
    async def refuse(x: Exchange) -> None:
        await x.respond(status, b'{"message":"CANARY-upstream-text"}', **{"x-amzn-errortype": f"{name}:http://internal/"})

    one.plays[""] = refuse
    answer = await gateway.post({"model": "claude", "messages": ASK, "stream": streamed})
    assert answer.json()["error"]["code"] == code and "CANARY" not in answer.text
    assert seen is None or answer.status_code == seen


async def test_an_answer_that_is_no_event_stream_is_malformed(gateway: Gateway, one: Upstream) -> None:
    async def unary(x: Exchange) -> None:
        await x.respond(200, json.dumps(completion()).encode())

    one.plays[""] = unary
    answer = await gateway.post({"model": "claude", "messages": ASK, "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_invalid_response")


async def test_a_field_that_has_no_place_is_refused_by_name_and_a_hint_is_dropped_by_name(gateway: Gateway, one: Upstream) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await gateway.sdk.chat.completions.create(model="claude", messages=ASK, seed=7)
    assert refused.value.param == "seed" and one.journal == []
    answer = await gateway.post({"model": "claude", "messages": ASK, "user": "u"})
    assert answer.headers["x-turnout-dropped"] == "user"


async def test_tokens_are_counted_by_the_model_itself(anthropic: AsyncAnthropic, one: Upstream) -> None:
    async def count(x: Exchange) -> None:
        await x.respond(200, b'{"inputTokens":375}')

    one.plays[""] = count
    counted = await anthropic.messages.count_tokens(model="claude", messages=ASK, tools=[WEATHER], system="Be brief")
    assert counted.input_tokens == 375
    assert_signed(one.journal[0])
    assert one.journal[0].head[":path"] == "/v1/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens"
    assert one.journal[0].body["input"]["converse"]["system"] == [{"text": "Be brief"}]


async def test_embeddings_are_made_in_each_family_s_form(gateway: Gateway, one: Upstream) -> None:
    async def embed(x: Exchange) -> None:
        told: Any = {"embedding": [0.5, -1.0], "inputTextTokenCount": 3}
        if "cohere" in x.seen.head[":path"]:
            told = {"id": "e-1", "response_type": "embeddings_by_type", "embeddings": {"float": [[0.5, -1.0], [1.0, 2.0]]}}
        await x.respond(200, json.dumps(told).encode())

    one.plays[""] = embed
    single = await gateway.sdk.embeddings.create(model="titan", input="hello", dimensions=256)
    several = await gateway.sdk.embeddings.create(model="cohere", input=["hello", "there"])
    for seen in one.journal:
        assert_signed(seen)
    assert (one.journal[0].body["inputText"], one.journal[0].body["dimensions"]) == ("hello", 256)
    assert one.journal[1].body["texts"] == ["hello", "there"]
    assert single.data[0].embedding == [0.5, -1.0] and single.usage.prompt_tokens == 3
    assert [each.embedding for each in several.data] == [[0.5, -1.0], [1.0, 2.0]]
