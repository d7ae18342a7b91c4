"""`ChatRequest` to Cohere v2 chat requests (docs.cohere.com/v2/reference/chat)."""

from collections.abc import Sequence
from typing import Any

import msgspec

from contract import requests as r
from providers.wires.effort import budget_of
from providers.wires.losses import Losses
from providers.wires.openai_chat.parts import url_of

_NO_PLACE = ("logit_bias", "top_logprobs")
_LEAST_P, _MOST_P = 0.01, 0.99  # 1, which asks for all tokens, is refused


def encode_request(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`."""
    encoder = _Encoder(losses)
    body: dict[str, Any] = {"model": model, "messages": [m for message in request.messages for m in encoder.messages(message)]}
    body["stream"] = request.stream
    if tools := [tool for given in request.tools if (tool := encoder.tool(given)) is not None]:
        body["tools"] = tools
        _choice(request, body, losses)
    sampling = request.sampling
    optional: dict[str, Any] = {
        "temperature": sampling.temperature,
        "p": None if sampling.top_p is None else min(max(sampling.top_p, _LEAST_P), _MOST_P),
        "k": sampling.top_k,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "seed": sampling.seed,
        "logprobs": sampling.logprobs,
        "max_tokens": request.max_output_tokens,
        "stop_sequences": list(request.stop) or None,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    for name in _NO_PLACE:
        if getattr(sampling, name):
            losses.lose(name)
    match request.response_format:
        case r.JsonSchemaFormat() as wanted if wanted.schema:
            body["response_format"] = {"type": "json_object", "json_schema": wanted.schema}
        case r.JsonSchemaFormat() | r.JsonObjectFormat():
            body["response_format"] = {"type": "json_object"}
    if request.reasoning is not None:
        budget = budget_of(request.reasoning)
        on = {"type": "enabled"} if budget is None else {"type": "enabled", "token_budget": budget}
        body["thinking"] = {"type": "disabled"} if request.reasoning.effort == "none" else on
    for name, given in (("user", request.user), ("metadata", request.metadata)):
        if given:
            losses.lose(name)
    losses.lose_extra(request)
    return msgspec.json.encode(body)


def _choice(request: r.ChatRequest, body: dict[str, Any], losses: Losses) -> None:
    choice = request.tool_choice
    if choice is None or choice.mode == "auto":
        return
    if choice.mode == "named":  # none can be named: it is the only one that is given
        named = [tool for tool in body["tools"] if tool["function"]["name"] == choice.name]
        if not named:
            losses.lose("tool_choice")
            return
        body["tools"] = named
    body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses

    def messages(self, message: r.Message) -> list[dict[str, Any]]:
        """One message as one, or as several: each tool's result is a message of its own here, and comes before what else was said."""
        results = [part for part in message.parts if isinstance(part, r.ToolResultPart)]
        rest = [part for part in message.parts if not isinstance(part, r.ToolResultPart)]
        encoded = [self._result(result) for result in results]
        return [*encoded, self._message(message, rest)] if rest or not results else encoded

    def _result(self, part: r.ToolResultPart) -> dict[str, Any]:
        if part.is_error:
            self._losses.lose("messages.is_error")
        if part.cache_control or any(inner.cache_control for inner in part.content):
            self._losses.lose("messages.cache_control")
        texts: list[str] = []
        for inner in part.content:
            if isinstance(inner, r.TextPart):
                texts.append(inner.text)
            else:
                self._losses.lose("messages.image" if isinstance(inner, r.ImagePart) else "messages.file")
        content: Any = [{"type": "text", "text": text} for text in texts] if len(texts) > 1 else "".join(texts)
        return {"role": "tool", "tool_call_id": part.tool_call_id, "content": content}

    def _message(self, message: r.Message, parts: Sequence[r.Part]) -> dict[str, Any]:
        if message.name is not None:
            self._losses.lose("messages.name")
        encoded: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
        content: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        for part in parts:
            if part.cache_control:
                self._losses.lose("messages.cache_control")
            match part:
                case r.TextPart() | r.RefusalPart():
                    content.append({"type": "text", "text": part.text})
                case r.ImagePart():
                    detail = {"detail": part.detail} if part.detail is not None else {}
                    content.append({"type": "image_url", "image_url": {"url": url_of(part), **detail}})
                case r.ToolCallPart():
                    if part.signature is not None:
                        self._losses.lose("messages.signature")
                    calls.append({"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}})
                case r.ReasoningPart():
                    if part.signature is not None:
                        self._losses.lose("messages.reasoning")
                    elif part.text:
                        content.append({"type": "thinking", "thinking": part.text})
                case r.NativePart():
                    self._losses.lose(f"messages.{part.type}")
                case _:
                    self._losses.lose("messages.audio" if isinstance(part, r.AudioPart) else "messages.file")
        if calls:
            encoded["tool_calls"] = calls
        if content:
            only = content[0]
            encoded["content"] = only["text"] if len(content) == 1 and only["type"] == "text" else content
        elif not calls:
            encoded["content"] = ""
        return encoded

    def tool(self, tool: r.Tool) -> dict[str, Any] | None:
        """A tool; None: another provider's own, noted as lost."""
        if isinstance(tool, r.NativeTool):
            self._losses.lose(f"tools.{tool.type}")
            return None
        if tool.cache_control:
            self._losses.lose("tools.cache_control")
        if tool.strict:
            self._losses.lose("tools.strict")
        told = {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {"type": "object", "properties": {}}}
        return {"type": "function", "function": {name: value for name, value in told.items() if value is not None}}
