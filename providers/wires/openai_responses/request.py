"""Responses requests to `ChatRequest`. What no field of ours names is kept as it came.

Fields: the `openai` SDK's ResponseCreateParams. Items that the model made stand together in one assistant message, as every other format
wants them; an item that only this format knows is kept whole.
"""

from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read
from providers.wires.openai_chat.parts import data_url
from providers.wires.openai_responses.usual import read_usual
from providers.wires.seal import Seal, unseal

NAME = "openai_responses"
_ROLES = frozenset({"user", "assistant", "system", "developer"})
_CUSTOM = {"type": Raw(b'"custom"')}


def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest with the path of the field at fault."""
    fields = Fields(Raw(body), "")
    model = fields.need("model", str)
    messages = [*_instructions(fields), *_input(fields.take("input", Raw))]
    effort, summary = _reasoning(fields)
    stream = bool(fields.take("stream", bool))
    top_logprobs = fields.take("top_logprobs", int)
    return r.ChatRequest(
        dialect=NAME,
        model=model,
        messages=tuple(messages),
        tools=tuple(_tool(raw, path) for raw, path in items_of(fields.take("tools", Raw), "tools")),
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=fields.take("parallel_tool_calls", bool),
        response_format=_text(fields),
        sampling=r.Sampling(
            temperature=fields.take("temperature", float),
            top_p=fields.take("top_p", float),
            logprobs=True if top_logprobs else None,
            top_logprobs=top_logprobs,
        ),
        max_output_tokens=fields.take("max_output_tokens", int),
        reasoning=r.Reasoning(effort=effort, summary=summary) if effort is not None or summary is not None else None,
        metadata=fields.take("metadata", dict[str, str]) or {},
        user=fields.take("user", str),
        stream=stream,
        include_usage=stream,
        extra=fields.rest(),
    )


def _instructions(fields: Fields) -> list[r.Message]:
    raw = fields.take("instructions", Raw)
    if raw is None or bytes(raw) == b'""':
        return []
    if bytes(raw)[:1] == b'"':
        return [r.Message(role="system", parts=(r.TextPart(text=read(raw, str, "instructions")),))]
    return _items(raw, "instructions")


def _input(raw: Raw | None) -> list[r.Message]:
    if raw is None:
        return []
    if bytes(raw)[:1] == b'"':
        return [r.Message(role="user", parts=(r.TextPart(text=read(raw, str, "input")),))]
    return _items(raw, "input")


def _items(raw: Raw, path: str) -> list[r.Message]:
    messages: list[r.Message] = []
    for item, at in items_of(raw, path):
        _add(messages, read_usual(item) or read_item(item, at))
    return _with_call_seals(messages)


def _add(messages: list[r.Message], new: r.Message) -> None:
    """What the model made in one turn is one message."""
    last = messages[-1] if messages else None
    if last is not None and last.role == new.role == "assistant":
        messages[-1] = r.Message(role="assistant", parts=last.parts + new.parts)
    else:
        messages.append(new)


def _with_call_seals(messages: list[r.Message]) -> list[r.Message]:
    """A seal of a tool call's signature goes back to its call, and the item that carried it away."""
    seals: dict[str, Seal] = {}
    for message in messages:
        for part in message.parts:
            if isinstance(part, r.NativePart) and part.type == "seal":
                sealed = msgspec.json.decode(part.raw, type=Seal)
                seals[sealed.call_id or ""] = sealed
    if not seals:
        return messages
    return [msgspec.structs.replace(message, parts=tuple(_with_seal(message, seals))) for message in messages]


def _with_seal(message: r.Message, seals: dict[str, Seal]) -> list[r.Part]:
    kept: list[r.Part] = []
    for part in message.parts:
        if isinstance(part, r.ToolCallPart) and part.id in seals:
            sealed = seals[part.id]
            kept.append(msgspec.structs.replace(part, signature=sealed.signature or None, maker=sealed.maker))
        elif not (isinstance(part, r.NativePart) and part.type == "seal"):
            kept.append(part)
    return kept


def read_item(raw: Raw, path: str) -> r.Message:
    """One item of any shape, field by field."""
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "message"
    match kind:
        case "message":
            role = fields.need("role", str)
            if role not in _ROLES:
                raise InvalidRequest(f"`{path}.role` is not one of {', '.join(sorted(_ROLES))}", param=f"{path}.role")
            parts, phase = _content(fields.need("content", Raw), f"{path}.content"), _kept(fields, "phase")
            return r.Message(role=role, parts=tuple(msgspec.structs.replace(part, extra=part.extra | phase) if phase else part for part in parts))
        case "function_call":
            told = {"id": fields.need("call_id", str), "name": fields.need("name", str), "arguments": fields.need("arguments", str)}
            return r.Message(role="assistant", parts=(r.ToolCallPart(**told, extra=_kept(fields, "namespace")),))
        case "custom_tool_call":
            custom = r.ToolCallPart(id=fields.need("call_id", str), name=fields.need("name", str), arguments=fields.need("input", str), extra=_CUSTOM)
            return r.Message(role="assistant", parts=(custom,))
        case "function_call_output" | "custom_tool_call_output":
            extra = _CUSTOM if kind == "custom_tool_call_output" else {}
            return r.Message(role="tool", parts=(_result(fields, path, extra),))
        case "reasoning":
            return r.Message(role="assistant", parts=(_reasoning_item(fields, path),))
        case "item_reference":
            raise UnsupportedField(f"`{path}` refers to an item that only the provider which keeps it knows", param=path)
    return r.Message(role="assistant", parts=(r.NativePart(type=kind, raw=Raw(bytes(raw))),))


def _kept(fields: Fields, name: str) -> dict[str, Raw]:
    """One member that only this format knows, where it is there."""
    raw = fields.take(name, Raw)
    return {} if raw is None else {name: raw}


def _result(fields: Fields, path: str, extra: dict[str, Raw]) -> r.ToolResultPart:
    parts = _content(fields.need("output", Raw), f"{path}.output")
    content = tuple(part for part in parts if isinstance(part, r.TextPart | r.ImagePart | r.FilePart))
    if len(content) != len(parts):
        raise UnsupportedField(f"`{path}.output` holds a part that this gateway does not know in a tool's result", param=f"{path}.output")
    return r.ToolResultPart(tool_call_id=fields.need("call_id", str), content=content, extra=extra)


class _Texts(msgspec.Struct):
    text: str = ""


def _reasoning_item(fields: Fields, path: str) -> r.Part:
    texts: list[_Texts] = [*(fields.take("summary", list[_Texts]) or ()), *(fields.take("content", list[_Texts]) or ())]
    text, signature = "\n\n".join(piece.text for piece in texts), fields.take("encrypted_content", str)
    sealed = unseal(signature) if signature else None
    if sealed is None:
        return r.ReasoningPart(text=text, signature=signature, id=fields.take("id", str))
    if sealed.call_id is not None:
        return r.NativePart(type="seal", raw=Raw(msgspec.json.encode(sealed)))
    return r.ReasoningPart(text=text, signature=sealed.signature or None, redacted=sealed.redacted, id=sealed.id, maker=sealed.maker)


def _content(raw: Raw, path: str) -> list[r.Part]:
    if bytes(raw)[:1] == b'"':
        return [r.TextPart(text=read(raw, str, path))]
    if bytes(raw)[:1] != b"[":
        raise InvalidRequest(f"`{path}` must be a string or an array of content parts", param=path)
    return [_part(item, at) for item, at in items_of(raw, path)]


def _part(raw: Raw, path: str) -> r.Part:
    fields = Fields(raw, path)
    extra = _kept(fields, "prompt_cache_breakpoint")
    match fields.need("type", str):
        case "input_text" | "text" | "output_text":
            return r.TextPart(text=fields.need("text", str), extra=extra)
        case "refusal":
            return r.RefusalPart(text=fields.need("refusal", str))
        case "input_image":
            if (file_id := fields.take("file_id", str)) is not None:
                return r.FilePart(file_id=file_id, media_type="image/*", extra=extra)
            media_type, data, url = data_url(fields.need("image_url", str))
            return r.ImagePart(url=url, data=data, media_type=media_type, detail=fields.take("detail", str), extra=extra)
        case "input_file":
            media_type, data, url = data_url(fields.take("file_data", str))
            told: dict[str, Any] = {"data": data or url, "media_type": media_type, "url": fields.take("file_url", str)}
            return r.FilePart(file_id=fields.take("file_id", str), filename=fields.take("filename", str), extra=extra, **told)
        case other:
            raise UnsupportedField(f"`{path}.type` {other[:40]!r} is not a content part that this gateway knows", param=f"{path}.type")


def _tool(raw: Raw, path: str) -> r.Tool:
    fields = Fields(raw, path)
    kind = fields.need("type", str)
    if kind != "function":
        return r.NativeTool(type=kind, raw=Raw(bytes(raw)))
    return r.FunctionTool(
        name=fields.need("name", str),
        description=fields.take("description", str),
        parameters=fields.take("parameters", Raw) or ABSENT,
        strict=fields.take("strict", bool),
        extra=fields.rest(),
    )


def _tool_choice(fields: Fields) -> r.ToolChoice | None:
    raw = fields.take("tool_choice", Raw)
    if raw is None:
        return None
    if bytes(raw)[:1] == b'"':
        word = read(raw, str, "tool_choice")
        if word not in ("auto", "none", "required"):
            raise InvalidRequest("`tool_choice` is not auto, none, required or an object", param="tool_choice")
        return r.ToolChoice(mode=word)
    choice = Fields(raw, "tool_choice")
    if choice.need("type", str) != "function":
        fields.put_back("tool_choice", raw)  # a hosted tool, allowed_tools …: only OpenAI's own
        return None
    return r.ToolChoice(mode="named", name=choice.need("name", str))


def _reasoning(fields: Fields) -> tuple[str | None, str | None]:
    raw = fields.take("reasoning", Raw)
    if raw is None:
        return None, None
    reasoning = Fields(raw, "reasoning")
    effort, summary = reasoning.take("effort", str), reasoning.take("summary", str)
    fields.keep("reasoning", reasoning)
    return effort, summary


def _text(fields: Fields) -> r.ResponseFormat | None:
    raw = fields.take("text", Raw)
    if raw is None:
        return None
    text = Fields(raw, "text")
    wanted = text.take("format", Raw)
    verbosity = text.take("verbosity", Raw)
    if verbosity is not None:
        fields.put_back("verbosity", verbosity)  # in chat's place: a hint
    fields.keep("text", text)
    if wanted is None:
        return None
    form = Fields(wanted, "text.format")
    match form.need("type", str):
        case "text":
            return r.TextFormat()
        case "json_object":
            return r.JsonObjectFormat()
        case "json_schema":
            return r.JsonSchemaFormat(
                name=form.need("name", str),
                schema=form.take("schema", Raw) or ABSENT,
                description=form.take("description", str),
                strict=form.take("strict", bool),
            )
    raise UnsupportedField("`text.format.type` is not text, json_object or json_schema", param="text.format.type")
