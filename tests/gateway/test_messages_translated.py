"""Anthropic's messages through the gateway, by the official SDK, to providers that speak otherwise."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message

from tests.gateway import anthropic_upstream as up
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, chunk, completion, status
from tests.providers.wires import anthropic_machine

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  chat: {{kind: openai-compatible, base_url: "{one}", api_key: sk-chat}}
  deep: {{kind: deepseek, base_url: "{one}", api_key: sk-deep}}
  google: {{kind: gemini, base_url: "{two}", api_key: sk-google}}
  native: {{kind: anthropic, base_url: "{two}", api_key: sk-native}}
  only-chat: {{kind: openai, base_url: "{one}", api_key: sk-chat, dialects: [openai_chat]}}
models:
  gpt: {{policy: plain, targets: [{{provider: chat, model: gpt-up}}]}}
  gpt-strict: {{policy: strict, targets: [{{provider: chat, model: gpt-up}}]}}
  deep: {{policy: plain, targets: [{{provider: deep, model: deep-up}}]}}
  gem: {{policy: plain, targets: [{{provider: google, model: gemini-3-pro}}]}}
  only-chat: {{targets: [{{provider: only-chat, model: gpt-up}}]}}
  either: {{targets: [{{provider: chat, model: gpt-up}}, {{provider: native, model: claude-up}}]}}
policies:
  plain: {{retry: {{max_attempts: 1}}}}
  strict: {{retry: {{max_attempts: 1}}, drop_unsupported: false}}
teams:
  search: {{keys: [{key}]}}
"""
ASKED: list[Any] = [{"role": "user", "content": "Hello?"}]
TOOLS: list[Any] = [{"name": name, "description": "d", "input_schema": {"type": "object"}} for name in ("weather", "clock")]
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture
async def gateway(one: Upstream, two: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(CONFIG.format(folder=tmp_path, one=one.base_url, two=two.base_url, key=KEY), tmp_path) as gateway:
        yield gateway


@pytest.fixture
async def sdk(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client


def streams(*chunks: Any) -> Play:
    async def play(x: Exchange) -> None:
        await x.start_stream()
        for each in chunks:
            await x.event(each)
        await x.end_stream()

    return play


def answers(**message: Any) -> Play:
    body = completion()
    body["choices"] = [{"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "tool_calls"}]

    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(body).encode())

    return play


def call_of(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    head = {} if call_id is None else {"id": call_id, "type": "function"}
    return {"index": index, **head, "function": {"arguments": arguments, **({} if name is None else {"name": name})}}


def back(message: Message) -> dict[str, Any]:
    """A message as a client puts it into its history."""
    blocks = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in message.content]
    return {"role": "assistant", "content": blocks}


def result(call_id: str, text: str = "42", **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": text, **more}


async def ask(sdk: AsyncAnthropic, stream: bool, **request: Any) -> Message:
    if not stream:
        made: Message = await sdk.messages.create(**request)
        return made
    async with sdk.messages.stream(**request) as events:
        final: Message = await events.get_final_message()
        return final


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_comes_in_anthropic_s_words(sdk: AsyncAnthropic, stream: bool) -> None:
    told = await ask(sdk, stream, model="gpt", max_tokens=9, messages=ASKED)
    assert told.content[0].text == "Hello there" and told.stop_reason == "end_turn"  # type: ignore[union-attr]
    assert (told.usage.input_tokens, told.usage.cache_read_input_tokens, told.usage.output_tokens) == (12, 8, 5)


async def test_the_request_comes_to_openai_in_its_own_words(sdk: AsyncAnthropic, one: Upstream) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    asked: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    system: list[Any] = [{"type": "text", "text": "Be brief."}]
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    await sdk.messages.create(
        model="gpt", max_tokens=9, messages=asked, system=system, tools=TOOLS, tool_choice=choice, stop_sequences=["END"], metadata={"user_id": "u"}
    )
    body = one.journal[0].body
    assert body["messages"][0]["content"] in ("Be brief.", system) and body["messages"][0]["role"] in ("system", "developer")
    assert body["messages"][1]["content"][1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    assert body["tools"][0] == {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object"}}}
    assert (body["tool_choice"], body["parallel_tool_calls"], body["user"]) == ("required", False, "u")
    assert body["stop"] in ("END", ["END"]) and body.get("max_completion_tokens", body.get("max_tokens")) == 9


async def test_parallel_calls_that_come_in_turns_and_one_without_arguments_are_put_together(sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["gpt-up"] = streams(
        chunk({"role": "assistant", "content": "Let me see"}),
        chunk({"tool_calls": [call_of(0, "", "call_a", "weather")]}),
        chunk({"tool_calls": [call_of(1, "", "call_b", "clock")]}),
        chunk({"tool_calls": [call_of(0, '{"city":')]}),
        chunk({"tool_calls": [call_of(0, '"Brescia"}')]}),
        chunk({}, finish="tool_calls"),
        "[DONE]",
    )
    told = await ask(sdk, True, model="gpt", max_tokens=9, messages=ASKED, tools=TOOLS)
    calls = [(block.id, block.name, block.input) for block in told.content if block.type == "tool_use"]
    assert calls == [("call_a", "weather", {"city": "Brescia"}), ("call_b", "clock", {})] and told.stop_reason == "tool_use"


async def test_results_of_calls_go_back_to_openai_and_a_failed_one_is_told_as_dropped(gateway: Gateway, one: Upstream) -> None:
    history = [
        *ASKED,
        {"role": "assistant", "content": [up.text("So"), up.call("call_a", "weather", {"city": "x"}), up.call("call_b", "clock", {})]},
        {"role": "user", "content": [result("call_a"), result("call_b", "no clock", is_error=True), up.text("Well?")]},
    ]
    answer = await gateway.post({"model": "gpt", "max_tokens": 9, "messages": history, "tools": TOOLS}, path="/v1/messages")
    assert answer.status_code == 200 and answer.headers["x-turnout-dropped"] == "messages.is_error"
    _, said, first, second, asked = one.journal[0].body["messages"]
    assert [(call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in said["tool_calls"]] == [
        ("call_a", "weather", {"city": "x"}),
        ("call_b", "clock", {}),
    ]
    assert [(each["role"], each["tool_call_id"], each["content"]) for each in (first, second)] == [
        ("tool", "call_a", "42"),
        ("tool", "call_b", "no clock"),
    ]
    assert asked["role"] == "user"


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_comes_as_thinking_and_goes_back_where_it_is_taken(sdk: AsyncAnthropic, one: Upstream, stream: bool) -> None:
    call = call_of(0, "{}", "call_a", "clock")
    reasoned = streams(
        chunk({"role": "assistant", "reasoning_content": "Hm."}), chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), "[DONE]"
    )
    one.plays["deep-up"] = [reasoned if stream else answers(reasoning_content="Hm.", tool_calls=[call]), answers(content="42")]
    first = await ask(sdk, stream, model="deep", max_tokens=9, messages=ASKED, tools=TOOLS)
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    await ask(sdk, False, model="deep", max_tokens=9, messages=[*ASKED, back(first), {"role": "user", "content": [result("call_a")]}], tools=TOOLS)
    assert one.journal[1].body["messages"][1]["reasoning_content"] == "Hm."
    assert "tnt1_" not in one.journal[1].raw.decode()


async def test_reasoning_goes_without_a_word_more_where_it_is_not_taken(gateway: Gateway, sdk: AsyncAnthropic, one: Upstream) -> None:
    one.plays["gpt-up"] = [answers(reasoning_content="Hm.", tool_calls=[call_of(0, "{}", "call_a", "clock")]), answers(content="42")]
    first = await ask(sdk, False, model="gpt", max_tokens=9, messages=ASKED, tools=TOOLS)
    history = [*ASKED, back(first), {"role": "user", "content": [result("call_a")]}]
    second = await gateway.post({"model": "gpt", "max_tokens": 9, "messages": history, "tools": TOOLS}, path="/v1/messages")
    assert second.status_code == 200 and second.headers["x-turnout-dropped"] == "messages.thinking"


@pytest.mark.parametrize("stream", [False, True])
async def test_gemini_s_signatures_of_thoughts_come_back_to_it(sdk: AsyncAnthropic, two: Upstream, stream: bool) -> None:
    parts = [
        {"text": "Hm.", "thought": True},
        {"functionCall": {"name": "weather", "args": {"city": "x"}}, "thoughtSignature": "c2lnbmF0dXJl"},
        {"functionCall": {"name": "clock", "args": {}}},
    ]
    said = {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}], "modelVersion": "g", "responseId": "r"}

    async def play(x: Exchange) -> None:
        if "stream" not in x.seen.head[":path"]:
            await x.respond(200, json.dumps(said).encode())
        else:
            await streams(said)(x)

    two.plays[""] = play
    first = await ask(sdk, stream, model="gem", max_tokens=900, messages=ASKED, tools=TOOLS)
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("weather", {"city": "x"}), ("clock", {})] and first.stop_reason == "tool_use"
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    history = [*ASKED, back(first), {"role": "user", "content": [result(call.id) for call in calls]}]
    await ask(sdk, stream, model="gem", max_tokens=900, messages=history, tools=TOOLS)
    again = [part for part in two.journal[1].body["contents"][1]["parts"] if "functionCall" in part]
    assert [part.get("thoughtSignature") for part in again] == ["c2lnbmF0dXJl", None]
    assert "tnt1_" not in two.journal[1].raw.decode()


async def test_signed_thinking_of_anthropic_s_is_answered_by_anthropic_alone(sdk: AsyncAnthropic, one: Upstream, two: Upstream) -> None:
    two.plays["claude-up"] = up.says(up.text("42"))
    history: list[Any] = [*ASKED, {"role": "assistant", "content": [up.thinking("Hm."), up.text("So")]}, {"role": "user", "content": "Well?"}]
    told = await sdk.messages.create(model="either", max_tokens=9, messages=history)
    assert told.id == "msg_up" and not one.journal
    assert two.journal[0].body["messages"] == history


async def test_unsigned_reasoning_of_another_binds_nobody_and_does_not_reach_anthropic(sdk: AsyncAnthropic, one: Upstream, two: Upstream) -> None:
    two.plays["claude-up"] = up.says(up.text("42"))
    one.plays["gpt-up"] = [answers(reasoning_content="Hm.", content="So"), status(503)]
    first = await ask(sdk, False, model="either", max_tokens=9, messages=ASKED)
    told = await ask(sdk, False, model="either", max_tokens=9, messages=[*ASKED, back(first), {"role": "user", "content": "Well?"}])
    assert [block.type for block in first.content] == ["thinking", "text"] and told.id == "msg_up"
    assert two.journal[0].body["messages"][1] == {"role": "assistant", "content": [up.text("So")]} and b"tnt1_" not in two.journal[0].raw


async def test_a_cache_mark_is_dropped_and_named_or_refused_as_the_policy_says(gateway: Gateway, one: Upstream) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "Hello?", "cache_control": {"type": "ephemeral"}}]}]
    dropped = await gateway.post({"model": "gpt", "max_tokens": 9, "messages": asked}, path="/v1/messages")
    assert dropped.status_code == 200 and dropped.headers["x-turnout-dropped"] == "messages.cache_control"
    refused = await gateway.post({"model": "gpt-strict", "max_tokens": 9, "messages": asked}, path="/v1/messages")
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "messages.cache_control"
    assert len(one.journal) == 1


async def test_a_field_that_changes_the_answer_is_refused_by_name(sdk: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await sdk.messages.create(model="gpt", max_tokens=9, messages=ASKED, extra_body={"top_k": 5})
    error: Any = caught.value.body
    assert (error["error"]["type"], error["error"]["param"], error["error"]["code"]) == ("invalid_request_error", "top_k", "unsupported_field")


@pytest.mark.parametrize("model", ["gpt", "only-chat"])
async def test_tokens_are_estimated_where_the_provider_cannot_count_and_it_is_said(sdk: AsyncAnthropic, one: Upstream, model: str) -> None:
    answer = await sdk.messages.with_raw_response.count_tokens(model=model, messages=[{"role": "user", "content": "word " * 400}])
    assert answer.headers["x-turnout-estimated"] == "input_tokens"
    counted = await answer.parse()
    assert 400 <= counted.input_tokens <= 700
    assert not one.journal


async def test_a_stream_that_is_cut_is_legal_so_far_and_ends_in_an_error(gateway: Gateway, one: Upstream) -> None:
    one.plays["gpt-up"] = streams(chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}))
    answer = await gateway.post({"model": "gpt", "max_tokens": 9, "messages": ASKED, "stream": True}, path="/v1/messages")
    machine = anthropic_machine.run(answer.content)
    assert machine.failed is not None and machine.failed["code"] == "upstream_stream_truncated" and not machine.ended


@pytest.mark.parametrize(
    ("code", "raised"), [(400, anthropic.BadRequestError), (429, anthropic.RateLimitError), (500, anthropic.InternalServerError)]
)
async def test_an_error_of_another_provider_is_told_in_anthropic_s_shape(
    sdk: AsyncAnthropic, one: Upstream, code: int, raised: type[anthropic.APIStatusError]
) -> None:
    one.plays["gpt-up"] = status(code)
    with pytest.raises(raised) as caught:
        await sdk.messages.create(model="gpt", max_tokens=9, messages=ASKED)
    body: Any = caught.value.body
    assert body["type"] == "error" and "CANARY" not in caught.value.response.text
