"""`ChatRequest` to OpenAI chat requests, whatever dialect it was written in."""

from collections.abc import Iterator
from typing import Any

import msgspec

from contract import requests as r
from contract.raw import ABSENT
from providers.wires.effort import effort_of
from providers.wires.facts import Facts
from providers.wires.fields import with_extra
from providers.wires.losses import Losses
from providers.wires.openai_chat.parts import encode_content, encode_result, one_text
from providers.wires.openai_chat.request import SAMPLING
from providers.wires.openai_chat.state import extra_content, put_back
from providers.wires.openai_chat.tap import renamed

NAME = "openai_chat"


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What OpenAI's format has no place for is in `losses`; what only this dialect knows goes back where it was."""
    own = request.dialect == NAME
    encoder = _Encoder(own, facts, losses)
    messages = [m for message in request.messages for m in encoder.plain(message) or encoder.messages(message)]
    body: dict[str, Any] = {"model": model, "messages": messages}
    if tools := [encoded for tool in request.tools if (encoded := encoder.tool(tool)) is not None]:
        body["tools"] = tools
        body |= _choice(request)
    elif own:
        body |= _choice(request)
    if request.response_format is not None:
        body["response_format"] = _encode_format(request.response_format)
    body |= {name: value for name in SAMPLING if (value := getattr(request.sampling, name)) is not None}
    if not own and not facts.top_k and "top_k" in body:
        del body["top_k"]
        losses.lose("top_k")
    optional = {
        "max_completion_tokens": request.max_output_tokens,
        "stop": request.stop or None,
        "reasoning_effort": _effort(request),
        "metadata": request.metadata or None,
        "user": request.user,
        "stream": request.stream or None,
        "stream_options": {"include_usage": True} if request.stream else None,  # refused where there is no stream
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if facts.prefill_with and request.messages and request.messages[-1].role == "assistant":
        body |= facts.prefill_with
    if own:
        body = with_extra(body, request.extra)
    else:
        losses.lose_extra(request)
    return msgspec.json.encode(renamed(body, facts) if facts.renames else body)


def _choice(request: r.ChatRequest) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (choice := request.tool_choice) is not None:
        found["tool_choice"] = {"type": "function", "function": {"name": choice.name}} if choice.mode == "named" else choice.mode
    if request.parallel_tool_calls is not None:
        found["parallel_tool_calls"] = request.parallel_tool_calls
    return found


def _effort(request: r.ChatRequest) -> str | None:
    """The word for how much to reason. From another dialect `off` is not sent: it is a reasoning model's word only."""
    if request.reasoning is None:
        return None
    if request.dialect == NAME:
        return request.reasoning.effort
    effort = effort_of(request.reasoning)
    return None if effort == "none" else effort


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, own: bool, facts: Facts, losses: Losses) -> None:
        self._own = own
        self._facts = facts
        self._losses = losses

    def plain(self, message: r.Message) -> list[dict[str, Any]]:
        """The one message of a text and nothing else, as most are; empty: it is not such a one."""
        if len(message.parts) != 1 or message.name is not None or message.extra:
            return []
        (part,) = message.parts
        if part.__class__ is not r.TextPart or part.cache_control or part.extra:
            return []
        return [{"role": self._role(message), "content": part.text}]

    def _role(self, message: r.Message) -> str:
        return "system" if message.role == "developer" and not self._own else message.role

    def messages(self, message: r.Message) -> Iterator[dict[str, Any]]:
        """One message as one, or as several: each tool's result is a message of its own here, and comes before what else was said."""
        results = [part for part in message.parts if isinstance(part, r.ToolResultPart)]
        rest = tuple(part for part in message.parts if not isinstance(part, r.ToolResultPart))
        for result in results:
            encoded = {"role": "tool", "tool_call_id": result.tool_call_id, "content": encode_result(self._text_only(result))}
            if self._own and not rest:
                encoded = with_extra(encoded if message.name is None else encoded | {"name": message.name}, message.extra)
            yield encoded
        if rest or not results:
            yield self._message(message, rest)

    def _text_only(self, result: r.ToolResultPart) -> r.ToolResultPart:
        if result.is_error:
            self._losses.lose("messages.is_error")
        if self._own:
            return result
        for part in result.content:
            if not isinstance(part, r.TextPart):
                self._losses.lose("messages.image" if isinstance(part, r.ImagePart) else "messages.file")
            elif part.cache_control:
                self._losses.lose("messages.cache_control")
        texts = [r.TextPart(text=part.text) for part in result.content if isinstance(part, r.TextPart)]
        return r.ToolResultPart(tool_call_id=result.tool_call_id, content=tuple(one_text(texts, "\n")))

    def _message(self, message: r.Message, parts: tuple[r.Part, ...]) -> dict[str, Any]:
        role = self._role(message)
        encoded: dict[str, Any] = {"role": role}
        if message.name is not None:
            encoded["name"] = message.name
        content: list[r.Part] = []
        calls: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case r.ToolCallPart():
                    calls.append(self._call(part))
                case r.ReasoningPart():
                    self._reasoning(part, encoded)
                case r.RefusalPart() if message.role == "assistant":
                    encoded["refusal"] = encoded.get("refusal", "") + part.text
                case r.AudioPart(id=str()):
                    encoded["audio"] = {"id": part.id}
                case _ if self._takes(part):
                    content.append(part if self._own else self._plain(part))
        if calls:
            encoded["tool_calls"] = calls
        if content:
            encoded["content"] = encode_content(content if self._own else one_text(content, "" if role == "assistant" else "\n"))
        else:
            encoded["content"] = None if role == "assistant" else ""
        return with_extra(encoded, message.extra) if self._own else encoded

    def _takes(self, part: r.Part) -> bool:
        """Whether the format has a place for the part. Other providers' files, and files by URL, are nothing to this one."""
        if isinstance(part, r.NativePart):
            self._losses.lose(f"messages.{part.type}")
            return False
        if not self._own and isinstance(part, r.FilePart) and part.data is None:
            self._losses.lose("messages.file")
            return False
        return True

    def _plain(self, part: r.Part) -> r.Part:
        """A part of another dialect without what only that one knows."""
        if part.cache_control:
            self._losses.lose("messages.cache_control")
        return msgspec.structs.replace(part, cache_control=ABSENT, extra={}) if part.cache_control or part.extra else part

    def _reasoning(self, part: r.ReasoningPart, encoded: dict[str, Any]) -> None:
        """Text where the provider takes it; a signature only if it is of this format, or the client put it there itself."""
        ours = self._own and part.maker is None
        if part.signature is not None:
            if part.maker == NAME:
                put_back(encoded, part.signature)
            elif ours:
                encoded["reasoning_signature"] = part.signature
            else:
                self._losses.lose("messages.reasoning")
        field = "reasoning_content" if ours else self._facts.reasoning_field
        if field is not None:
            encoded[field] = encoded.get(field, "") + part.text
        elif part.text and part.signature is None:
            self._losses.lose("messages.reasoning_text")

    def _call(self, part: r.ToolCallPart) -> dict[str, Any]:
        if "type" in part.extra and self._own:
            return with_extra({"id": part.id, "custom": {"name": part.name, "input": part.arguments}}, part.extra)
        arguments = part.arguments if self._own else part.arguments or "{}"
        encoded: dict[str, Any] = {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": arguments}}
        if part.signature is not None:
            if part.maker == NAME or (self._own and part.maker is None):
                encoded["extra_content"] = extra_content(part.signature)
            else:
                self._losses.lose("messages.signature")
        return with_extra(encoded, part.extra) if self._own else encoded

    def tool(self, tool: r.Tool) -> Any:
        """A tool as OpenAI takes it; None: another provider's own, noted as lost."""
        if isinstance(tool, r.NativeTool):
            if self._own:
                return tool.raw
            self._losses.lose(f"tools.{tool.type}")
            return None
        function: dict[str, Any] = {"name": tool.name}
        for name, value in (("description", tool.description), ("parameters", tool.parameters or None), ("strict", tool.strict)):
            if value is not None:
                function[name] = value
        encoded: dict[str, Any] = {"type": "function", "function": function}
        if tool.cache_control:
            if self._own:
                encoded["cache_control"] = tool.cache_control
            else:
                self._losses.lose("tools.cache_control")
        return with_extra(encoded, tool.extra) if self._own else encoded


def _encode_format(wanted: r.ResponseFormat) -> dict[str, Any]:
    match wanted:
        case r.TextFormat():
            return {"type": "text"}
        case r.JsonObjectFormat():
            return {"type": "json_object"}
        case r.JsonSchemaFormat():
            schema = {"name": wanted.name, "schema": wanted.schema or None, "description": wanted.description, "strict": wanted.strict}
            return {"type": "json_schema", "json_schema": {name: value for name, value in schema.items() if value is not None}}
