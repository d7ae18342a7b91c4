"""`ChatRequest` to Anthropic's message requests, whatever dialect it was written in.

A request in Anthropic's own dialect goes as it is; one in another is fitted to what the model takes (`models.py`).
"""

from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from contract import requests as r
from contract.errors import TargetCannot
from providers.wires.anthropic_messages.blocks import BlockEncoder
from providers.wires.anthropic_messages.models import Model, model_of
from providers.wires.anthropic_messages.request import NAME
from providers.wires.effort import budget_of, effort_of
from providers.wires.facts import Facts
from providers.wires.fields import with_extra
from providers.wires.losses import Losses

MIN_BUDGET = 1024
MIN_TOP_P = 0.95  # the least that goes with thinking
COUNTED = frozenset({"cache_control", "context_management", "mcp_servers", "output_config", "speed", "thinking", "tool_choice"})
Body = dict[str, Any]


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What Anthropic's format has no place for is in `losses`. Raises TargetCannot for a request that says nothing."""
    own = request.dialect == NAME
    traits = model_of(model)
    thinking, limit = (_own_thinking(request), request.max_output_tokens) if own else fitted_thinking(request, traits, losses)
    body = _prompt(request, model, thinking, losses)
    if not body["messages"]:
        raise TargetCannot("the request holds no message that the target's format has a place for", param="messages")
    if not own and body["messages"][-1]["role"] == "assistant":
        _prefill(body, traits.prefill and facts.prefill and not thinking, losses)
    body["max_tokens"] = traits.max_tokens if limit is None else limit
    body |= _own_sampling(request) if own else fitted_sampling(request, traits, "thinking" in thinking, losses)
    if stop := request.stop if own else tuple(text for text in request.stop if text.strip()):
        body["stop_sequences"] = stop
    if len(stop) < len(request.stop):
        losses.lose("stop")
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.metadata:
        losses.lose("metadata")
    if request.stream:
        body["stream"] = True
    if own:
        body = with_extra(body, request.extra)
    else:
        losses.lose_extra(request)
    return msgspec.json.encode({facts.renames.get(name, name): value for name, value in body.items()} if facts.renames else body)


def encode_count(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """A count_tokens request: the prompt alone."""
    own = request.dialect == NAME
    traits = model_of(model)
    body = _prompt(request, model, _own_thinking(request) if own else fitted_thinking(request, traits, losses)[0], losses)
    if own:
        body = with_extra(body, {name: raw for name, raw in request.extra.items() if name in COUNTED})
    return msgspec.json.encode(body)


def _prompt(request: r.ChatRequest, model: str, thinking: Body, losses: Losses) -> Body:
    """What is counted as input: messages, system, tools, and how to think."""
    own, traits = request.dialect == NAME, model_of(model)
    encoder = BlockEncoder(own, traits.structured, losses)
    leading, rest = _apart(request, own)
    body: Body = {"model": model, "messages": encoder.messages(rest)}
    if system := [block for message in leading for block in encoder.blocks(message.parts)]:
        plain = len(system) == 1 and system[0].keys() == {"type", "text"}
        body["system"] = system[0]["text"] if plain else system
    if tools := [tool for given in request.tools if (tool := encoder.tool(given)) is not None]:
        body["tools"] = tools
    if tools or own:
        body |= _choice(request, traits, losses)
    body |= thinking
    _format(request, body, traits, losses)
    return body


def _apart(request: r.ChatRequest, own: bool) -> tuple[list[r.Message], list[r.Message]]:
    """What is for the system's one field, in order, and the conversation. Anthropic's own dialect has the field first and knows later words too."""
    at_end = len(request.messages)
    leading = [
        index for index, message in enumerate(request.messages) if message.role in ("system", "developer") and (index == 0 or not own)
    ]  # fmt: skip
    found = [request.messages[index] for index in leading]
    return found, [request.messages[index] for index in range(at_end) if index not in set(leading)]


def _prefill(body: Body, taken: bool, losses: Losses) -> None:
    """An answer that the client began. A model that does not go on from one answers what came before it."""
    blocks = body["messages"][-1]["content"]
    if not taken:
        losses.lose("messages.prefill")
        if len(body["messages"]) > 1:
            body["messages"].pop()
        return
    if blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()  # refused with white space at its end


def _choice(request: r.ChatRequest, traits: Model, losses: Losses) -> Body:
    choice, own = request.tool_choice, request.dialect == NAME
    single: Body = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    if request.parallel_tool_calls is True and own:
        single = {"disable_parallel_tool_use": False}
    if choice is None:
        return {"tool_choice": {"type": "auto", **single}} if single else {}
    if choice.mode == "none":
        return {"tool_choice": {"type": "none"}}
    if choice.mode != "auto" and not own and not traits.forced_choice:
        losses.lose("tool_choice")
        return {"tool_choice": {"type": "auto", **single}}
    match choice.mode:
        case "named":
            return {"tool_choice": {"type": "tool", "name": choice.name, **single}}
        case "required":
            return {"tool_choice": {"type": "any", **single}}
    return {"tool_choice": {"type": "auto", **single}}


def _own_thinking(request: r.ChatRequest) -> Body:
    """As the client of Anthropic's own dialect wrote it."""
    reasoning = request.reasoning
    if reasoning is None:
        return {}
    if reasoning.effort == "none":
        return {"thinking": {"type": "disabled"}}
    found: Body = {} if reasoning.effort is None else {"output_config": {"effort": reasoning.effort}}
    if b'"type"' in bytes(request.extra.get("thinking", b"")):
        return found  # of a kind that no field of ours names
    display = {} if reasoning.summary is None else {"display": "summarized"}
    if reasoning.budget_tokens is not None:
        found["thinking"] = {"type": "enabled", "budget_tokens": reasoning.budget_tokens, **display}
    elif reasoning.asked or reasoning.effort is None:
        found["thinking"] = {"type": "adaptive", **display}
    return found


def fitted_thinking(request: r.ChatRequest, traits: Model, losses: Losses, host: str = NAME) -> tuple[Body, int | None]:
    """How to think, as the model takes it, and the most tokens of the answer, for thinking is a part of it. `host`: the wire it is reached by."""
    reasoning, limit = request.reasoning, request.max_output_tokens
    if reasoning is None or reasoning.effort == "none":
        return {}, limit
    budget = budget_of(reasoning)
    roomy = min(traits.max_tokens + (budget or MIN_BUDGET), traits.most) if limit is None else limit
    display = {} if reasoning.summary is None else {"display": "summarized"}
    if traits.thinking == "adaptive":
        effort = effort_of(reasoning)
        config = {} if effort is None else {"output_config": {"effort": _word(effort, traits)}}
        return {"thinking": {"type": "adaptive", **display}, **config}, roomy
    if traits.thinking == "none" or roomy <= MIN_BUDGET or _is_forced(request):
        losses.lose("reasoning")
        return {}, limit
    if _is_bare_turn(request, host):  # the client did not keep the signature
        losses.hint("reasoning")
        return {}, limit
    within = max(MIN_BUDGET, min(budget or MIN_BUDGET, roomy - 1 if limit is not None else roomy - MIN_BUDGET))
    return {"thinking": {"type": "enabled", "budget_tokens": within}}, roomy


def _word(effort: str, traits: Model) -> str:
    if effort == "xhigh" and not traits.xhigh:
        return "max"
    return "low" if effort == "minimal" else effort


def _is_forced(request: r.ChatRequest) -> bool:
    """A budget of thinking does not go with a call that must be made."""
    return request.tool_choice is not None and request.tool_choice.mode in ("required", "named")


def _is_bare_turn(request: r.ChatRequest, host: str) -> bool:
    """A turn of tool calls goes on that did not begin with signed thinking: with a budget, Anthropic refuses it."""
    for message in reversed(request.messages):
        if message.role == "assistant":
            calls = any(isinstance(part, r.ToolCallPart) for part in message.parts)
            return calls and not any(isinstance(part, r.ReasoningPart) and part.signature and part.maker == host for part in message.parts)
        if message.role == "user" and not any(isinstance(part, r.ToolResultPart) for part in message.parts):
            return False
    return False


def _own_sampling(request: r.ChatRequest) -> Body:
    sampling = request.sampling
    return {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(sampling, name)) is not None}


def fitted_sampling(request: r.ChatRequest, traits: Model, thinks: bool, losses: Losses) -> Body:
    """What the model takes of it; a value that asks for what happens anyway goes without a word."""
    sampling = request.sampling
    for name in ("frequency_penalty", "presence_penalty", "seed", "logit_bias"):
        if getattr(sampling, name):
            losses.lose(name)
    if sampling.logprobs or sampling.top_logprobs:
        losses.lose("logprobs")
    if sampling.n is not None and sampling.n > 1:
        losses.lose("n")
    found = _own_sampling(replace(request, sampling=_bounded(sampling, losses)))
    if found.get("top_p") == 1:
        del found["top_p"]
    lost = [name for name in found if not _goes(name, found, traits, thinks)]
    for name in lost:
        if name != "temperature" or found[name] != 1:
            losses.lose(name)
    return {name: value for name, value in found.items() if name not in lost}


def _bounded(sampling: r.Sampling, losses: Losses) -> r.Sampling:
    """OpenAI's temperature goes up to 2, Anthropic's to 1."""
    if sampling.temperature is None or sampling.temperature <= 1:
        return sampling
    losses.lose("temperature")
    return replace(sampling, temperature=1.0)


def _goes(name: str, found: Body, traits: Model, thinks: bool) -> bool:
    if traits.sampling == "none":
        return False
    if thinks:
        return name == "top_p" and found[name] >= MIN_TOP_P
    return name != "top_p" or traits.sampling == "both" or "temperature" not in found


def _format(request: r.ChatRequest, body: Body, traits: Model, losses: Losses) -> None:
    own = request.dialect == NAME
    match request.response_format:
        case r.JsonSchemaFormat() as wanted if wanted.schema and (own or traits.structured):
            schema = wanted.schema if own else closed(wanted.schema)
            body["output_config"] = {**body.get("output_config", {}), "format": {"type": "json_schema", "schema": schema}}
        case r.JsonSchemaFormat() | r.JsonObjectFormat():
            losses.lose("response_format")


def closed(schema: Raw) -> Any:
    """The schema with its objects closed, which Anthropic wants said; what fits it fits the one that was given."""
    return _closed(msgspec.json.decode(schema))


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: member if name in ("enum", "const", "default", "examples") else _closed(member) for name, member in value.items()}
    if value.get("type") == "object" and not isinstance(value.get("additionalProperties"), dict):
        found.setdefault("additionalProperties", False)
    return found
