"""`ChatRequest` to Anthropic's message requests, whatever dialect it was written in."""

import re
from base64 import b64decode
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from providers.wires.anthropic_messages.request import NAME
from providers.wires.arguments import as_object
from providers.wires.effort import budget_of, effort_of
from providers.wires.facts import Facts
from providers.wires.fields import with_extra
from providers.wires.losses import Losses

DEFAULT_MAX_TOKENS = 8192  # Anthropic wants a number where other dialects may leave it out
OLD_MAX_TOKENS = 4096  # the most that models before 3.5 give
OLD_MODELS = re.compile(r"claude-(?:2|instant|3-(?:opus|sonnet|haiku))")
# from here on the model itself decides how long to think, and a budget is refused or deprecated
ADAPTIVE_MODELS = re.compile(r"claude-(?:(?:opus|sonnet)-4-(?:[6-9]|\d{2})(?!\d)|(?:opus|sonnet|haiku|mythos|fable)-(?:[5-9]|\d{2})(?!\d))")
MIN_BUDGET = 1024
ID_ALLOWED = re.compile(r"[a-zA-Z0-9_-]{1,128}")
EFFORTS = {"minimal": "low"}
_ANY_OBJECT = Raw(b'{"type":"object"}')


def tool_id(given: str) -> str:
    """A tool call's id as Anthropic allows it: the same for the call and for its result."""
    return given if ID_ALLOWED.fullmatch(given) else f"toolu_{sha256(given.encode()).hexdigest()[:24]}"


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What Anthropic's format has no place for is in `losses`."""
    body = _prompt(request, model, losses)
    body["max_tokens"] = request.max_output_tokens or (OLD_MAX_TOKENS if OLD_MODELS.search(model) else DEFAULT_MAX_TOKENS)
    sampling = request.sampling
    body |= {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(sampling, name)) is not None}
    for name in ("frequency_penalty", "presence_penalty", "seed", "logit_bias"):
        if getattr(sampling, name):
            losses.lose(name)
    if sampling.logprobs or sampling.top_logprobs:
        losses.lose("logprobs")
    if sampling.n is not None and sampling.n > 1:
        losses.lose("n")
    if request.stop:
        body["stop_sequences"] = request.stop
    if request.user is not None:
        body["metadata"] = {"user_id": request.user}
    if request.metadata:
        losses.lose("metadata")
    if request.stream:
        body["stream"] = True
    if request.dialect == NAME:
        body = with_extra(body, request.extra)
    else:
        losses.lose_extra(request)
    return msgspec.json.encode({facts.renames.get(name, name): value for name, value in body.items()} if facts.renames else body)


def encode_count(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """A count_tokens request: the prompt alone."""
    return msgspec.json.encode(_prompt(request, model, losses))


def _prompt(request: r.ChatRequest, model: str, losses: Losses) -> dict[str, Any]:
    """What is counted as input: messages, system, tools, and how to think."""
    encoder = _Encoder(request.dialect == NAME, losses)
    system = [encoder.block(part) for message in _leading(request) for part in message.parts]
    body: dict[str, Any] = {"model": model, "messages": encoder.messages(request.messages[len(_leading(request)) :])}
    if system:
        only = system[0]
        body["system"] = only["text"] if len(system) == 1 and only.keys() == {"type", "text"} else [block for block in system if block]
    if tools := [tool for given in request.tools if (tool := encoder.tool(given)) is not None]:
        body["tools"] = tools
    body |= _choice(request, bool(tools), losses)
    body |= _reasoning(request, model)
    _format(request, body, losses)
    return body


def _leading(request: r.ChatRequest) -> tuple[r.Message, ...]:
    count = next((at for at, m in enumerate(request.messages) if m.role not in ("system", "developer")), len(request.messages))
    return request.messages[:count]


def _choice(request: r.ChatRequest, tools: bool, losses: Losses) -> dict[str, Any]:
    choice = request.tool_choice
    single = {"disable_parallel_tool_use": True} if request.parallel_tool_calls is False else {}
    if request.parallel_tool_calls is True and request.dialect == NAME:
        single = {"disable_parallel_tool_use": False}
    if not tools:
        return {}
    if choice is None:
        return {"tool_choice": {"type": "auto", **single}} if single else {}
    match choice.mode:
        case "named":
            return {"tool_choice": {"type": "tool", "name": choice.name, **single}}
        case "required":
            return {"tool_choice": {"type": "any", **single}}
        case "auto":
            return {"tool_choice": {"type": "auto", **single}}
    return {"tool_choice": {"type": "none"}}


def _reasoning(request: r.ChatRequest, model: str) -> dict[str, Any]:
    reasoning = request.reasoning
    if reasoning is None:
        return {}
    if reasoning.effort == "none":
        return {"thinking": {"type": "disabled"}} if request.dialect == NAME else {}
    if request.dialect == NAME and "thinking" not in request.extra and reasoning.budget_tokens is None:
        config = {"output_config": {"effort": reasoning.effort}} if reasoning.effort is not None else {}
        return config if reasoning.effort is not None else {"thinking": {"type": "adaptive"}}
    if request.dialect != NAME and ADAPTIVE_MODELS.search(model):
        effort = effort_of(reasoning)
        config = {"output_config": {"effort": EFFORTS.get(effort, effort)}} if effort is not None else {}
        return {"thinking": {"type": "adaptive"}, **config}
    budget = budget_of(reasoning)
    if budget is None:
        return {"thinking": {"type": "adaptive"}} if ADAPTIVE_MODELS.search(model) else {"thinking": {"type": "enabled", "budget_tokens": MIN_BUDGET}}
    config = {"output_config": {"effort": reasoning.effort}} if request.dialect == NAME and reasoning.effort is not None else {}
    return {"thinking": {"type": "enabled", "budget_tokens": _within(budget, request, model)}, **config}


def _within(budget: int, request: r.ChatRequest, model: str) -> int:
    """A budget below the answer's limit, which it is a part of; a client of Anthropic's own says what it wants."""
    if request.dialect == NAME:
        return budget
    limit = request.max_output_tokens or (OLD_MAX_TOKENS if OLD_MODELS.search(model) else DEFAULT_MAX_TOKENS)
    return max(MIN_BUDGET, min(budget, limit - 1))


def _format(request: r.ChatRequest, body: dict[str, Any], losses: Losses) -> None:
    match request.response_format:
        case r.JsonSchemaFormat() as wanted if wanted.schema:
            body["output_config"] = {**body.get("output_config", {}), "format": {"type": "json_schema", "schema": wanted.schema}}
        case r.JsonSchemaFormat() | r.JsonObjectFormat():
            losses.lose("response_format")


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, own: bool, losses: Losses) -> None:
        self._own = own
        self._losses = losses

    def messages(self, messages: tuple[r.Message, ...]) -> list[dict[str, Any]]:
        """Consecutive messages of one role become one, so that results stand together right after their calls."""
        encoded: list[dict[str, Any]] = []
        for message in messages:
            role = self._role(message)
            if message.name is not None:
                self._losses.lose("messages.name")
            blocks = [block for part in message.parts if (block := self.block(part))]
            if not blocks:
                continue
            last = encoded[-1] if encoded else None
            if last is not None and last["role"] == role and not self._own:
                last["content"] += blocks
            else:
                encoded.append(with_extra({"role": role, "content": blocks}, message.extra if self._own else {}))
        for message_ in encoded:
            message_["content"] = _in_order(message_["content"])
        return encoded

    def _role(self, message: r.Message) -> str:
        if message.role in ("user", "assistant"):
            return message.role
        return "system" if self._own and message.role == "system" else "user"

    def block(self, part: r.Part) -> dict[str, Any]:
        """A content block; empty for what has no place, which is then noted."""
        encoded = self._block(part)
        if encoded and part.cache_control:
            if self._own:
                encoded["cache_control"] = part.cache_control
            else:
                self._losses.lose("messages.cache_control")
        return with_extra(encoded, part.extra) if self._own and encoded else encoded

    def _block(self, part: r.Part) -> dict[str, Any]:
        match part:
            case r.TextPart() | r.RefusalPart():
                return {"type": "text", "text": part.text} if part.text or self._own else {}
            case r.ImagePart():
                if part.detail is not None:
                    self._losses.lose("messages.detail")
                return {"type": "image", "source": _source(part)}
            case r.FilePart():
                return self._document(part)
            case r.ToolCallPart():
                return self._call(part)
            case r.ToolResultPart():
                return self._result(part)
            case r.ReasoningPart():
                return self._thinking(part)
            case r.NativePart():
                if self._own:
                    return dict(msgspec.json.decode(part.raw, type=dict[str, Raw]))
                self._losses.lose(f"messages.{part.type}")
            case r.AudioPart():
                self._losses.lose("messages.audio")
        return {}

    def _document(self, part: r.FilePart) -> dict[str, Any]:
        if part.file_id is not None and not self._own:
            self._losses.lose("messages.file")
            return {}
        encoded: dict[str, Any] = {"type": "document", "source": _source(part)}
        if part.filename is not None:
            encoded["title"] = part.filename
        return encoded

    def _call(self, part: r.ToolCallPart) -> dict[str, Any]:
        if part.signature is not None:
            self._losses.lose("messages.signature")
        return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": as_object(part.arguments)}

    def _result(self, part: r.ToolResultPart) -> dict[str, Any]:
        blocks = [block for inner in part.content if (block := self.block(inner))]
        plain = len(blocks) == 1 and blocks[0].keys() == {"type", "text"}
        encoded: dict[str, Any] = {"type": "tool_result", "tool_use_id": tool_id(part.tool_call_id)}
        if blocks:
            encoded["content"] = blocks[0]["text"] if plain else blocks
        if part.is_error:
            encoded["is_error"] = True
        return encoded

    def _thinking(self, part: r.ReasoningPart) -> dict[str, Any]:
        mine = part.maker == NAME or (part.maker is None and self._own)
        if part.signature is None or not mine:
            if part.signature is not None:
                self._losses.lose("messages.reasoning")
            elif part.text:
                self._losses.lose("messages.reasoning_text")
            return {}
        if part.redacted:
            return {"type": "redacted_thinking", "data": part.signature}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature}

    def tool(self, tool: r.Tool) -> Any:
        """A tool as Anthropic takes it; None: another provider's own, noted as lost."""
        if isinstance(tool, r.NativeTool):
            if self._own:
                return tool.raw
            self._losses.lose(f"tools.{tool.type}")
            return None
        encoded: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            encoded["description"] = tool.description
        encoded["input_schema"] = tool.parameters or _ANY_OBJECT
        if tool.strict is not None and self._own:
            encoded["strict"] = tool.strict
        elif tool.strict:
            self._losses.lose("tools.strict")
        if tool.cache_control:
            if self._own:
                encoded["cache_control"] = tool.cache_control
            else:
                self._losses.lose("tools.cache_control")
        return with_extra(encoded, tool.extra) if self._own else encoded


def _in_order(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results first: they must directly follow the calls that they answer."""
    results = [block for block in blocks if block.get("type") == "tool_result"]
    return blocks if not results or len(results) == len(blocks) else [*results, *(b for b in blocks if b.get("type") != "tool_result")]


def _source(part: r.ImagePart | r.FilePart) -> dict[str, Any]:
    if isinstance(part, r.FilePart) and part.file_id is not None:
        return {"type": "file", "file_id": part.file_id}
    if part.data is None:
        return {"type": "url", "url": part.url or ""}
    if part.media_type == "text/plain":
        return {"type": "text", "media_type": "text/plain", "data": b64decode(part.data).decode("utf-8", "replace")}
    default = "application/pdf" if isinstance(part, r.FilePart) else "image/png"
    return {"type": "base64", "media_type": part.media_type or default, "data": part.data}
