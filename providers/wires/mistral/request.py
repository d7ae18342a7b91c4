"""`ChatRequest` to Mistral's chat requests (docs.mistral.ai/api): OpenAI's parameters, some by other names."""

from typing import Any

import msgspec
from msgspec.structs import replace

from contract import requests as r
from contract.call import Call
from providers.wires.effort import effort_of
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.mistral.messages import NAME, are_plain, encode_messages
from providers.wires.openai_chat import request_encoder

_NULL = b"null"
# of the request's own fields that only a dialect knows, those that are Mistral's too
KNOWN = frozenset({"guardrails", "min_tokens", "prediction", "prompt_cache_key", "prompt_mode", "random_seed", "repetition_penalty", "safe_prompt"})
# of OpenAI's fields, those that Mistral refuses a request for
REFUSED = (
    "audio",
    "function_call",
    "functions",
    "logit_bias",
    "modalities",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
    "verbosity",
    "web_search_options",
)
SERVICE_TIERS = (b'"auto"', b'"standard_only"')


def takes(call: Call) -> bool:
    """Whether an OpenAI client's body is one that Mistral takes, once its few fields have their names."""
    if call.answered:
        return False  # the beginning of an answer has a mark of its own there
    for name in REFUSED:
        raw = bytes(call.fields.get(name, _NULL))
        if raw != _NULL and not (name == "service_tier" and raw in SERVICE_TIERS):
            return False
    return "messages" not in call.fields or are_plain(call.fields["messages"])


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`."""
    _lose(request, losses)
    own, sampling = {name: raw for name, raw in request.extra.items() if name in KNOWN}, request.sampling
    shared = replace(
        request,
        dialect=NAME,
        messages=(),
        extra={},
        tools=tuple(_tool(tool) for tool in request.tools),
        reasoning=None,
        user=None,
        sampling=replace(sampling, logit_bias=None, top_k=None, seed=None),
    )
    body: dict[str, Any] = msgspec.json.decode(request_encoder.encode_request(shared, model, Facts(), losses), type=dict[str, Any])
    body["messages"] = encode_messages(request.messages, losses)
    body.pop("stream_options", None)  # usage comes without being asked for
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "any"
    optional = {"top_k": sampling.top_k, "random_seed": sampling.seed, "reasoning_effort": _effort(request)}
    body |= {name: value for name, value in optional.items() if value is not None}
    return msgspec.json.encode(body | own)


def _lose(request: r.ChatRequest, losses: Losses) -> None:
    bare = [replace(message, extra={name: raw for name, raw in message.extra.items() if name != "prefix"}) for message in request.messages]
    losses.lose_extra(replace(request, messages=tuple(bare)), known=KNOWN)
    if request.sampling.logit_bias:
        losses.lose("logit_bias")
    if request.user is not None:
        losses.lose("user")


def _tool(tool: r.Tool) -> r.Tool:
    """Mistral wants to be told of parameters, even of none."""
    if isinstance(tool, r.FunctionTool) and not tool.parameters:
        return replace(tool, parameters=msgspec.Raw(b'{"type":"object","properties":{}}'))
    return tool


def _effort(request: r.ChatRequest) -> str | None:
    """The word for how much to reason. From another dialect `off` is not sent: models that do not reason refuse the field."""
    if request.reasoning is None:
        return None
    effort = effort_of(request.reasoning) or "high"  # it is on, and off unless asked for
    return None if effort == "none" and request.dialect != request_encoder.NAME else effort
