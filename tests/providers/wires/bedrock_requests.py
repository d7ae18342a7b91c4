"""Conversations in the contract's words, written as Bedrock's requests and judged by Amazon's own model of them."""

import json
from typing import Any

from msgspec import Raw

from contract import requests as r
from providers.wires.bedrock import BEDROCK
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from tests.providers.wires.bedrock_oracle import faults

NOVA = "us.amazon.nova-pro-v1:0"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PIXEL = "iVBORw0KGgo="
SCHEMA = Raw(b'{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}')
WEATHER = r.FunctionTool(name="weather", description="The weather", parameters=SCHEMA)
CACHED = Raw(b'{"type":"ephemeral"}')
HOUR = Raw(b'{"type":"ephemeral","ttl":"1h"}')
POINT = {"cachePoint": {"type": "default"}}
CALL = r.ToolCallPart(id="call_1", name="weather", arguments='{"city":"Brescia"}')
Json = dict[str, Any]


def text(value: str, **more: Any) -> r.TextPart:
    return r.TextPart(text=value, **more)


def says(role: r.Role, *parts: r.Part | str) -> r.Message:
    return r.Message(role=role, parts=tuple(text(part) if isinstance(part, str) else part for part in parts))


HI = says("user", "Hi")


def encoded(*messages: r.Message, model: str = NOVA, losses: Losses | None = None, **more: Any) -> Json:
    """The body; every one is what Amazon's model takes, and holds all of the request unless losses are given."""
    kept = losses or Losses()
    body: Json = json.loads(BEDROCK.encode_request(r.ChatRequest(model="m", messages=messages or (HI,), **more), model, Facts(), kept))
    assert faults("Converse", body) == faults("ConverseStream", body) == []
    assert losses is not None or kept.fatal == kept.hints == []
    return body


def lost(*messages: r.Message, model: str = NOVA, **more: Any) -> list[str]:
    losses = Losses()
    encoded(*messages, model=model, losses=losses, **more)
    return [*losses.fatal, *losses.hints]


def turns(body: Json) -> list[tuple[str, list[Json]]]:
    return [(turn["role"], turn["content"]) for turn in body["messages"]]


def result(*content: Any, of: str = "call_1", **more: Any) -> r.ToolResultPart:
    return r.ToolResultPart(tool_call_id=of, content=tuple(text(part) if isinstance(part, str) else part for part in content), **more)
