"""`ChatRequest` to Mistral's chat requests (docs.mistral.ai/api): OpenAI's form, with other ids, words and reasoning."""

import re
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from contract import requests as r
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import request_encoder

ID = re.compile(r"[a-zA-Z0-9]{9}")
EFFORTS = {"none": "none", "minimal": "none", "low": "none"}


def tool_id(given: str) -> str:
    """A tool call's id as Mistral allows it, nine letters and digits: the same for the call and for its result."""
    return given if ID.fullmatch(given) else sha256(given.encode()).hexdigest()[:9]


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`."""
    reasoning = request.reasoning
    request = replace(request, messages=tuple(_message(m, losses) for m in request.messages), reasoning=None)
    if request.sampling.logit_bias:
        losses.lose("logit_bias")
        request = replace(request, sampling=replace(request.sampling, logit_bias=None))
    if request.user is not None:
        losses.lose("user")
        request = replace(request, user=None)
    body: dict[str, Any] = msgspec.json.decode(request_encoder.encode_request(request, model, facts, losses), type=dict[str, Any])
    body.pop("stream_options", None)  # usage comes without being asked for
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    if reasoning is not None and reasoning.effort is not None:
        body["reasoning_effort"] = EFFORTS.get(reasoning.effort, "high")  # none and high are all it knows
    return msgspec.json.encode(body)


def _message(message: r.Message, losses: Losses) -> r.Message:
    if message.role == "developer":
        message = replace(message, role="system")
    if message.name is not None and message.role != "tool":
        losses.lose("messages.name")
        message = replace(message, name=None)
    return replace(message, parts=tuple(_part(part) for part in message.parts))


def _part(part: r.Part) -> r.Part:
    match part:
        case r.ToolCallPart():
            return replace(part, id=tool_id(part.id))
        case r.ToolResultPart():
            return replace(part, tool_call_id=tool_id(part.tool_call_id))
    return part
