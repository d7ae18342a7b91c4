"""Requests of other dialects as Anthropic takes them: fitted to the model, and what has no place is named."""

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic.types import MessageParam
from hypothesis import given, settings
from pydantic import TypeAdapter

from contract import requests as r
from contract.errors import TargetCannot
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from tests.contract.strategies import any_requests

Json = dict[str, Any]
HELLO: Json = {"role": "user", "content": "Hello?"}
NEWEST, OPUS_45, OPUS_4, HAIKU_3 = "claude-opus-9", "claude-opus-4-5", "claude-opus-4-20250514", "claude-3-haiku-20240307"
SCHEMA: Json = {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}}
FACTS = Facts(files=True, prefill=True)


def encoded(*messages: Json, model: str = NEWEST, **fields: Any) -> tuple[Json, list[str]]:
    """Of an OpenAI request: Anthropic's, and what it lost."""
    losses = Losses()
    request = OPENAI_CHAT.decode_request(json.dumps({"model": "m", "messages": list(messages) or [HELLO], **fields}).encode())
    body: Json = json.loads(ANTHROPIC_MESSAGES.encode_request(request, model, FACTS, losses))
    return body, [*losses.fatal, *losses.hints]


def call(call_id: str, arguments: str = "{}", name: str = "f") -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(call_id: str, content: str = "42") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def said(text: str) -> Json:
    return {"type": "text", "text": text}


def test_system_and_developer_messages_are_the_system_prompt_wherever_they_stand() -> None:
    body, lost = encoded({"role": "system", "content": "a"}, HELLO, {"role": "developer", "content": "b"})
    assert body["system"] == [said("a"), said("b")] and [message["role"] for message in body["messages"]] == ["user"] and lost == []


def test_results_stand_together_right_after_their_calls_and_before_other_words() -> None:
    calls = {"role": "assistant", "content": "So", "tool_calls": [call("a"), call("b")]}
    body, lost = encoded(HELLO, calls, result("b"), result("a"), {"role": "user", "content": "Well?"})
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"] and lost == []
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block.get("tool_use_id", block["type"]) for block in body["messages"][2]["content"]] == ["b", "a", "text"]


def test_an_id_that_anthropic_does_not_allow_is_another_one_for_call_and_result() -> None:
    body, _ = encoded(HELLO, {"role": "assistant", "tool_calls": [call("functions.f:0"), call("ok_1")]}, result("functions.f:0"), result("ok_1"))
    ids = [block["id"] for block in body["messages"][1]["content"]]
    assert ids == [block["tool_use_id"] for block in body["messages"][2]["content"]] and ids[1] == "ok_1"
    assert ids[0].startswith("toolu_") and ids[0].replace("_", "").isalnum()


@pytest.mark.parametrize(
    ("arguments", "input_"),
    [("", {}), ("  ", {}), ('{"a": 1}', {"a": 1}), ("[1]", {"_arguments": [1]}), ('{"a":', {"_arguments": '{"a":'}), ("null", {"_arguments": None})],
)
def test_arguments_are_an_object_whatever_the_model_wrote(arguments: str, input_: Json) -> None:
    body, _ = encoded(HELLO, {"role": "assistant", "tool_calls": [call("a", arguments)]}, result("a"))
    assert body["messages"][1]["content"][0]["input"] == input_


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("data:image/png;base64,QQ==", {"type": "base64", "media_type": "image/png", "data": "QQ=="}),
        ("https://a.example/b.png", {"type": "url", "url": "https://a.example/b.png"}),
    ],
)
def test_a_picture_goes_by_its_data_or_its_url(url: str, source: Json) -> None:
    body, lost = encoded({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert body["messages"][0]["content"] == [{"type": "image", "source": source}] and lost == []


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,QQ=="}}, "messages.image"),
        ({"type": "image_url", "image_url": {"url": "https://a/b", "detail": "high"}}, "messages.detail"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "messages.file"),
        ({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}, "messages.audio"),
    ],
)
def test_content_that_has_no_place_is_named(part: Json, name: str) -> None:
    body, lost = encoded({"role": "user", "content": [said("x"), part]})
    assert lost == [name] and body["messages"][0]["content"][0] == said("x")


def test_a_document_goes_as_what_it_is() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QQ=="}}
    body, lost = encoded({"role": "user", "content": [pdf]})
    source = {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}
    assert body["messages"][0]["content"] == [{"type": "document", "source": source, "title": "a.pdf"}] and lost == []


@pytest.mark.parametrize("content", ["", "  ", None])
def test_a_message_that_says_nothing_is_left_out(content: str | None) -> None:
    body, _ = encoded(HELLO, {"role": "assistant", "content": content}, HELLO)
    assert body["messages"] == [{"role": "user", "content": [said("Hello?"), said("Hello?")]}]


def test_a_request_that_says_nothing_at_all_cannot_be_sent() -> None:
    with pytest.raises(TargetCannot) as caught:
        encoded({"role": "system", "content": "Be brief."})
    assert caught.value.param == "messages"


def test_an_answer_that_the_client_began_goes_on_where_the_model_does_so() -> None:
    begun = {"role": "assistant", "content": "So "}
    body, lost = encoded(HELLO, begun, model=OPUS_45)
    assert body["messages"][-1] == {"role": "assistant", "content": [said("So")]} and lost == []
    body, lost = encoded(HELLO, begun, model=NEWEST)
    assert body["messages"][-1]["role"] == "user" and lost == ["messages.prefill"]


def test_anthropic_wants_a_limit_and_gets_one() -> None:
    assert encoded()[0]["max_tokens"] == 8192 and encoded(model=HAIKU_3)[0]["max_tokens"] == 4096
    assert encoded(max_completion_tokens=5)[0]["max_tokens"] == 5


@pytest.mark.parametrize(
    ("model", "effort", "fields", "told"),
    [
        (NEWEST, "low", {}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "max_tokens": 10_240}),
        (NEWEST, "minimal", {"max_completion_tokens": 50}, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}, "max_tokens": 50}),
        (NEWEST, "none", {}, {"max_tokens": 8192}),
        (OPUS_45, "medium", {}, {"thinking": {"type": "enabled", "budget_tokens": 8192}, "max_tokens": 16_384}),
        (OPUS_45, "high", {"max_completion_tokens": 5000}, {"thinking": {"type": "enabled", "budget_tokens": 4999}, "max_tokens": 5000}),
    ],
)
def test_how_much_to_reason_is_told_as_the_model_takes_it(model: str, effort: str, fields: Json, told: Json) -> None:
    body, lost = encoded(model=model, reasoning_effort=effort, **fields)
    assert {name: body[name] for name in ("thinking", "output_config", "max_tokens") if name in body} == told and lost == []


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (HAIKU_3, {}),
        (OPUS_45, {"max_completion_tokens": 500}),
        (OPUS_45, {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}),
    ],
)
def test_reasoning_that_cannot_be_asked_for_is_named(model: str, fields: Json) -> None:
    body, lost = encoded(model=model, reasoning_effort="high", **fields)
    assert "thinking" not in body and lost == ["reasoning"]


@pytest.mark.parametrize(
    ("model", "fields", "told", "named"),
    [
        (OPUS_4, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}, []),
        (OPUS_45, {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["top_p"]),
        (OPUS_45, {"temperature": 1.5}, {"temperature": 1.0}, ["temperature"]),
        (OPUS_45, {"temperature": 0.5, "top_p": 1}, {"temperature": 0.5}, []),
        (NEWEST, {"temperature": 0.5}, {}, ["temperature"]),
        (NEWEST, {"temperature": 1, "top_p": 1}, {}, []),
        (OPUS_45, {"temperature": 0.2, "reasoning_effort": "low"}, {}, ["temperature"]),
        (OPUS_4, {"frequency_penalty": 0, "presence_penalty": 0, "n": 1, "logprobs": False}, {}, []),
        (OPUS_4, {"frequency_penalty": 1, "presence_penalty": 1, "seed": 5}, {}, ["frequency_penalty", "presence_penalty", "seed"]),
        (OPUS_4, {"n": 2, "logprobs": True, "top_logprobs": 3, "logit_bias": {"5": 1}}, {}, ["logit_bias", "logprobs", "n"]),
    ],
)
def test_sampling_goes_as_far_as_the_model_takes_it(model: str, fields: Json, told: Json, named: list[str]) -> None:
    body, lost = encoded(model=model, **fields)
    assert {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body} == told and lost == named


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        ("auto", None, {"type": "auto"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", None, {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, True, None),
    ],
)
def test_what_must_be_called_is_told(choice: Any, parallel: bool | None, told: Json | None) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    fields: Json = {name: value for name, value in (("tool_choice", choice), ("parallel_tool_calls", parallel)) if value is not None}
    body, lost = encoded(tools=tools, **fields)
    assert body.get("tool_choice") == told and body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}] and lost == []


def test_a_schema_s_objects_are_closed_and_a_model_without_schemas_is_not_asked() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    body, lost = encoded(response_format=form)
    closed = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": False}},
    }
    assert body["output_config"]["format"] == {"type": "json_schema", "schema": closed} and lost == []
    assert encoded(model=OPUS_4, response_format=form)[1] == ["response_format"]
    assert encoded(response_format={"type": "json_object"})[1] == ["response_format"]
    assert encoded(response_format={"type": "text"})[1] == []


def test_stop_sequences_without_a_letter_are_named_for_anthropic_refuses_them() -> None:
    body, lost = encoded(stop=["END", "\n"])
    assert body["stop_sequences"] == ["END"] and lost == ["stop"]


def test_reasoning_of_another_provider_is_named_and_anthropic_s_own_goes_back() -> None:
    def lost(*parts: r.Part) -> tuple[Json, list[str]]:
        losses = Losses()
        messages = (
            r.Message(role="user", parts=(r.TextPart(text="a"),)),
            r.Message(role="assistant", parts=parts),
            r.Message(role="user", parts=(r.TextPart(text="b"),)),
        )
        body = ANTHROPIC_MESSAGES.encode_request(r.ChatRequest(model="m", messages=messages), NEWEST, FACTS, losses)
        return json.loads(body)["messages"][1], [*losses.fatal, *losses.hints]

    own = r.ReasoningPart(text="h", signature="RXJ1", maker="anthropic_messages")
    assert lost(own, r.TextPart(text="x"))[0]["content"] == [{"type": "thinking", "thinking": "h", "signature": "RXJ1"}, said("x")]
    assert lost(r.ReasoningPart(signature="enc", maker="openai_responses"), r.TextPart(text="x"))[1] == ["messages.reasoning"]
    assert lost(r.ReasoningPart(text="h"), r.TextPart(text="x"))[1] == ["messages.reasoning_text"]
    assert lost(r.ToolCallPart(id="a", name="f", arguments="{}", signature="s", maker="gemini"))[1] == ["messages.signature"]


def test_what_only_the_client_s_dialect_knows_is_named() -> None:
    body, lost = encoded({**HELLO, "name": "Ada"}, store=True, metadata={"a": "b"}, user="u", x_new=1)
    assert body["metadata"] == {"user_id": "u"} and {"messages.name", "metadata", "extra.store", "extra.x_new"} == set(lost)


MESSAGE: TypeAdapter[Any] = TypeAdapter(MessageParam)


@settings(max_examples=50, deadline=None)
@given(any_requests(raw=True))
def test_any_request_becomes_one_that_anthropic_s_types_take_or_none(request: r.ChatRequest) -> None:
    try:
        body = json.loads(ANTHROPIC_MESSAGES.encode_request(request, NEWEST, FACTS, Losses()))
    except TargetCannot:
        return
    roles = [message["role"] for message in body["messages"]]
    assert set(roles) <= {"user", "assistant"} and all(a != b for a, b in pairwise(roles))
    assert all(message["content"] for message in body["messages"]) and body["max_tokens"] is not None
    for message in body["messages"]:
        MESSAGE.validate_python(message)
