"""What vLLM is asked besides what the client said: strict tools where a call is forced, and its own dialects as they are."""

import json
from typing import Any

import msgspec
import pytest

from contract.call import Call
from contract.call import Dialect as DialectName
from providers.local.asking import ask
from providers.local.manner import MANNERS

TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "weather"}}


def call(dialect: DialectName, **fields: Any) -> Call:
    body = msgspec.json.encode({"model": "m", **fields})
    members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    stream = bool(fields.get("stream"))
    return Call(request_id="r", dialect=dialect, model="m", stream=stream, include_usage=False, choices=1, body=body, fields=members)


def asked(call: Call) -> tuple[str, dict[str, Any]]:
    found = ask(call, "gpu", "served", MANNERS["vllm"], 1 << 20, "hints")
    return found.path, json.loads(found.body)


@pytest.mark.parametrize(("choice", "strict"), [("required", True), (NAMED, True), ("auto", None), ("none", None), (None, None)])
def test_a_tool_that_must_be_called_is_strict(choice: Any, strict: bool | None) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    path, body = asked(call("openai_chat", messages=messages, tools=[TOOL], tool_choice=choice))
    assert path == "/v1/chat/completions" and body["tools"][0]["function"].get("strict") is strict
    assert body["messages"] == messages and body["tool_choice"] == choice


def test_a_tool_that_says_that_it_is_not_strict_stays_so() -> None:
    loose = {**TOOL, "function": {**TOOL["function"], "strict": False}}
    assert asked(call("openai_chat", messages=[], tools=[loose], tool_choice="required"))[1]["tools"] == [loose]


def test_a_forced_tool_of_another_dialect_is_strict_too() -> None:
    tool = {"name": "weather", "input_schema": {"type": "object"}}
    messages = [{"role": "user", "content": "Hi"}]
    body = asked(call("anthropic_messages", max_tokens=9, messages=messages, tools=[tool], tool_choice={"type": "tool", "name": "weather"}))[1]
    assert body["tools"][0]["function"]["strict"] is True


def test_completions_and_embeddings_pass_with_their_own_members() -> None:
    path, body = asked(call("openai_completions", prompt=[1, 2, 3], return_token_ids=True))
    assert path == "/v1/completions" and body == {"model": "served", "prompt": [1, 2, 3], "return_token_ids": True}
    path, body = asked(call("openai_completions", prompt="x", stream=True))
    assert body["stream_options"] == {"include_usage": True}
    path, body = asked(call("openai_embeddings", input=["x"]))
    assert path == "/v1/embeddings" and body == {"model": "served", "input": ["x"]}
