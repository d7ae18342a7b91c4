"""`ChatRequest` to Responses requests, whatever dialect it was written in."""

import re
from typing import Any

import msgspec

from contract import requests as r
from providers.wires.effort import effort_of
from providers.wires.facts import Facts
from providers.wires.fields import with_extra
from providers.wires.losses import Losses
from providers.wires.openai_chat.parts import url_of
from providers.wires.openai_responses.request import NAME

_NO_PLACE = ("frequency_penalty", "presence_penalty", "seed", "logit_bias", "top_k")
INCLUDE_REASONING = "reasoning.encrypted_content"
# Models that reason unasked. Others refuse to be asked for encrypted reasoning; a name that says nothing (a deployment's) is not asked.
_REASONS = re.compile(r"(?:^|/)(?:o\d|codex|gpt-(?:oss|[6-9]|\d\d|5(?!(?:\.\d)?-chat)))")
INCLUDE_LOGPROBS = "message.output_text.logprobs"


def encode_request(request: r.ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
    """What the format has no place for is in `losses`. For a client of another dialect nothing is kept at the provider."""
    body = _prompt(request, model, losses)
    own = request.dialect == NAME
    sampling = request.sampling
    body |= {name: value for name in ("temperature", "top_p") if (value := getattr(sampling, name)) is not None}
    include = [INCLUDE_REASONING] if not own and (request.reasoning is not None or _REASONS.search(model)) else []
    if sampling.logprobs or sampling.top_logprobs:
        body["top_logprobs"] = sampling.top_logprobs or 0
        include += [] if own else [INCLUDE_LOGPROBS]
    for name in _NO_PLACE:
        if getattr(sampling, name):
            losses.lose(name)
    if sampling.n is not None and sampling.n > 1:
        losses.lose("n")
    if request.stop:
        losses.lose("stop")
    optional = {
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or None,
        "user": request.user,
        "stream": request.stream or None,
    }
    body |= {name: value for name, value in optional.items() if value is not None}
    if own:
        extra = dict(request.extra)
        if "verbosity" in extra:
            body["text"] = {**body.get("text", {}), "verbosity": extra.pop("verbosity")}
        body = with_extra(body, extra)
    else:
        body |= {"store": False, "include": include} if include else {"store": False}
        losses.lose_extra(request)
    return msgspec.json.encode({facts.renames.get(name, name): value for name, value in body.items()} if facts.renames else body)


def encode_count(request: r.ChatRequest, model: str, losses: Losses) -> bytes:
    """An input_tokens request: the prompt alone."""
    return msgspec.json.encode(_prompt(request, model, losses))


def _prompt(request: r.ChatRequest, model: str, losses: Losses) -> dict[str, Any]:
    encoder = _Encoder(request.dialect == NAME, losses)
    body: dict[str, Any] = {"model": model, "input": [item for message in request.messages for item in encoder.items(message)]}
    if tools := [tool for given in request.tools if (tool := encoder.tool(given)) is not None]:
        body["tools"] = tools
        if (choice := request.tool_choice) is not None:
            body["tool_choice"] = {"type": "function", "name": choice.name} if choice.mode == "named" else choice.mode
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    if (wanted := request.response_format) is not None:
        body["text"] = {"format": _format(wanted)}
    if request.reasoning is not None:
        told = {"effort": effort_of(request.reasoning), "summary": request.reasoning.summary}
        if request.dialect not in (NAME, "openai_chat"):
            told["effort"] = None if told["effort"] == "none" else told["effort"]
            told["summary"] = told["summary"] or ("auto" if request.reasoning.effort != "none" else None)
        if known := {name: value for name, value in told.items() if value is not None}:
            body["reasoning"] = known
    return body


def _format(wanted: r.ResponseFormat) -> dict[str, Any]:
    match wanted:
        case r.TextFormat():
            return {"type": "text"}
        case r.JsonObjectFormat():
            return {"type": "json_object"}
        case r.JsonSchemaFormat():
            told: dict[str, Any] = {"type": "json_schema", "name": wanted.name, "schema": wanted.schema or None}
            told |= {"description": wanted.description, "strict": wanted.strict}
            return {name: value for name, value in told.items() if value is not None}


class _Encoder:
    """One request's messages and tools."""

    def __init__(self, own: bool, losses: Losses) -> None:
        self._own = own
        self._losses = losses

    def items(self, message: r.Message) -> list[Any]:
        """A message's items; content of one phase stands together until another kind of item comes between."""
        items: list[Any] = []
        content: list[dict[str, Any]] = []
        phase: dict[str, Any] = {}

        def flush() -> None:
            if content:
                items.append({"type": "message", "role": message.role, "content": list(content), **phase})
                content.clear()

        if message.name is not None:
            self._losses.lose("messages.name")
        for part in message.parts:
            item = self._item(part)
            if item is not None:
                flush()
                items.append(item)
            elif (piece := self._content(part, message.role)) is not None:
                its = {"phase": piece.pop("phase")} if "phase" in piece else {}
                if its != phase:
                    flush()
                    phase = its
                content.append(piece)
        flush()
        return items

    def _item(self, part: r.Part) -> Any:
        """What is an item of its own; None: content, or nothing at all."""
        match part:
            case r.ToolCallPart():
                return self._call(part)
            case r.ToolResultPart():
                kind = "custom_tool_call_output" if self._own and "type" in part.extra else "function_call_output"
                if part.is_error:
                    self._losses.lose("messages.is_error")
                texts = [self._content(inner, "user") for inner in part.content]
                plain = len(texts) <= 1 and all(isinstance(inner, r.TextPart) for inner in part.content)
                output = part.content[0].text if plain and part.content and isinstance(part.content[0], r.TextPart) else texts or ""
                return {"type": kind, "call_id": part.tool_call_id, "output": output}
            case r.ReasoningPart():
                return self._reasoning(part)
            case r.NativePart() if self._own:
                return part.raw
        return None

    def _call(self, part: r.ToolCallPart) -> dict[str, Any]:
        if part.signature is not None:
            self._losses.lose("messages.signature")
        if self._own and "type" in part.extra:
            return {"type": "custom_tool_call", "call_id": part.id, "name": part.name, "input": part.arguments}
        told = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": part.arguments or "{}"}
        return {**told, **part.extra} if self._own else told

    def _reasoning(self, part: r.ReasoningPart) -> dict[str, Any] | None:
        if part.signature is None or not (part.maker == NAME or (part.maker is None and self._own)):
            if self._own and part.maker is None:  # kept at the provider under its id
                return {"type": "reasoning", "id": part.id, "summary": _summary(part)} if part.id else None
            if part.signature is not None:
                self._losses.lose("messages.reasoning")
            elif part.text:
                self._losses.lose("messages.reasoning_text")
            return None
        told = {"type": "reasoning", "id": part.id, "summary": _summary(part), "encrypted_content": part.signature}
        return {name: value for name, value in told.items() if value is not None}

    def _content(self, part: r.Part, role: str) -> dict[str, Any] | None:
        told = self._piece(part, role)
        return {**told, **part.extra} if told is not None and self._own else told

    def _piece(self, part: r.Part, role: str) -> dict[str, Any] | None:
        if part.cache_control:
            self._losses.lose("messages.cache_control")
        match part:
            case r.TextPart():
                return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
            case r.RefusalPart():
                return {"type": "refusal", "refusal": part.text}
            case r.ImagePart():
                return {"type": "input_image", "image_url": url_of(part), "detail": part.detail or "auto"}
            case r.FilePart():
                return self._file(part)
            case r.AudioPart():
                self._losses.lose("messages.audio")
            case r.NativePart():
                self._losses.lose(f"messages.{part.type}")
        return None

    def _file(self, part: r.FilePart) -> dict[str, Any] | None:
        if part.file_id is not None:
            if not self._own:
                self._losses.lose("messages.file")
                return None
            return {"type": "input_image" if part.media_type == "image/*" else "input_file", "file_id": part.file_id}
        told = {"type": "input_file", "filename": part.filename or ("file" if part.data is not None else None)}
        told |= {"file_url": part.url} if part.data is None else {"file_data": url_of(part)}
        return {name: value for name, value in told.items() if value is not None}

    def tool(self, tool: r.Tool) -> Any:
        """A tool as the format takes it; None: another provider's own, noted as lost."""
        if isinstance(tool, r.NativeTool):
            if self._own:
                return tool.raw
            self._losses.lose(f"tools.{tool.type}")
            return None
        if tool.cache_control:
            self._losses.lose("tools.cache_control")
        told: dict[str, Any] = {"type": "function", "name": tool.name}
        if tool.description is not None:
            told["description"] = tool.description
        told["parameters"] = tool.parameters or None
        # unlike chat, this format is strict unless told otherwise
        told["strict"] = tool.strict if tool.strict is not None or self._own else False
        return with_extra(told, tool.extra) if self._own else told


def _summary(part: r.ReasoningPart) -> list[dict[str, str]]:
    return [{"type": "summary_text", "text": part.text}] if part.text else []
