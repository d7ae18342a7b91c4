"""Anthropic's message requests to `ChatRequest`. What no field of ours names is kept as it came.

Fields: the `anthropic` SDK's MessageCreateParams; https://platform.claude.com/docs/en/api/messages.
"""

from base64 import b64encode
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest, UnsupportedField
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read
from providers.wires.seal import Seal, unseal

NAME = "anthropic_messages"
_ROLES = frozenset({"user", "assistant", "system"})


def decode_request(body: bytes) -> r.ChatRequest:
    """Raises InvalidRequest with the path of the field at fault."""
    return _decode(Fields(Raw(body), ""), needs_limit=True)


def decode_count_request(body: bytes) -> r.ChatRequest:
    """A count_tokens request: a message request without the answer's part."""
    return _decode(Fields(Raw(body), ""), needs_limit=False)


def _decode(fields: Fields, *, needs_limit: bool) -> r.ChatRequest:
    model, messages = fields.need("model", str), fields.need("messages", Raw)
    system = _content(fields.take("system", Raw), "system")
    found = [r.Message(role="system", parts=tuple(system))] if system else []
    found += [_message(raw, path) for raw, path in items_of(messages, "messages")]
    choice, parallel = _tool_choice(fields)
    response_format, effort = _output_config(fields)
    stream = bool(fields.take("stream", bool))
    return r.ChatRequest(
        dialect=NAME,
        model=model,
        messages=tuple(found),
        tools=tuple(_tool(raw, path) for raw, path in items_of(fields.take("tools", Raw), "tools")),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=response_format,
        sampling=r.Sampling(temperature=fields.take("temperature", float), top_p=fields.take("top_p", float), top_k=fields.take("top_k", int)),
        max_output_tokens=fields.need("max_tokens", int) if needs_limit else fields.take("max_tokens", int),
        stop=tuple(fields.take("stop_sequences", list[str]) or ()),
        reasoning=_thinking(fields, effort),
        user=_user(fields),
        stream=stream,
        include_usage=stream,
        extra=fields.rest(),
    )


def _user(fields: Fields) -> str | None:
    raw = fields.take("metadata", Raw)
    if raw is None:
        return None
    metadata = Fields(raw, "metadata")
    user = metadata.take("user_id", str)
    fields.keep("metadata", metadata)
    return user if user is None else str(user)


def _thinking(fields: Fields, effort: str | None) -> r.Reasoning | None:
    """`thinking` and `output_config.effort` together; what is beside type and budget stays where it was."""
    raw = fields.take("thinking", Raw)
    if raw is None:
        return None if effort is None else r.Reasoning(effort=effort)
    thinking = Fields(raw, "thinking")
    kind = thinking.need("type", str)
    budget = thinking.take("budget_tokens", int)
    fields.keep("thinking", thinking)
    if kind == "disabled":
        return r.Reasoning(effort="none")
    if kind not in ("enabled", "adaptive"):
        fields.put_back("thinking", raw)
    return r.Reasoning(effort=effort, budget_tokens=budget)


def _output_config(fields: Fields) -> tuple[r.ResponseFormat | None, str | None]:
    raw = fields.take("output_config", Raw)
    if raw is None:
        return None, None
    config = Fields(raw, "output_config")
    effort, wanted = config.take("effort", str), config.take("format", Raw)
    found: r.ResponseFormat | None = None
    if wanted is not None:
        form = Fields(wanted, "output_config.format")
        if form.need("type", str) == "json_schema":
            found = r.JsonSchemaFormat(name="answer", schema=form.need("schema", Raw))
            config.keep("format", form)
        else:
            config.put_back("format", wanted)
    fields.keep("output_config", config)
    return found, effort


def _tool_choice(fields: Fields) -> tuple[r.ToolChoice | None, bool | None]:
    raw = fields.take("tool_choice", Raw)
    if raw is None:
        return None, None
    choice = Fields(raw, "tool_choice")
    kind = choice.need("type", str)
    single = choice.take("disable_parallel_tool_use", bool)
    parallel = None if single is None else not single
    match kind:
        case "auto" | "none":
            return r.ToolChoice(mode=kind), parallel
        case "any":
            return r.ToolChoice(mode="required"), parallel
        case "tool":
            return r.ToolChoice(mode="named", name=choice.need("name", str)), parallel
    raise InvalidRequest("`tool_choice.type` is not auto, any, tool or none", param="tool_choice.type")


def _tool(raw: Raw, path: str) -> r.Tool:
    fields = Fields(raw, path)
    kind = fields.take("type", str) or "custom"
    if kind != "custom":
        return r.NativeTool(type=kind, raw=Raw(bytes(raw)))
    return r.FunctionTool(
        name=fields.need("name", str),
        description=fields.take("description", str),
        parameters=fields.take("input_schema", Raw) or ABSENT,
        strict=fields.take("strict", bool),
        cache_control=fields.take("cache_control", Raw) or ABSENT,
        extra=fields.rest(),
    )


def _message(raw: Raw, path: str) -> r.Message:
    fields = Fields(raw, path)
    role = fields.need("role", str)
    if role not in _ROLES:
        raise InvalidRequest(f"`{path}.role` must be user, assistant or system", param=f"{path}.role")
    parts = _with_call_seals(_content(fields.need("content", Raw), f"{path}.content"))
    return r.Message(role=role, parts=tuple(parts), extra=fields.rest())


def _with_call_seals(parts: list[r.Part]) -> list[r.Part]:
    """A seal of a tool call's signature goes back to its call, and the block that carried it away."""
    seals = {s.call_id: s for part in parts if isinstance(part, r.NativePart) and part.type == "seal" for s in [_seal_in(part)]}
    if not seals:
        return parts
    kept: list[r.Part] = []
    for part in parts:
        if isinstance(part, r.ToolCallPart) and part.id in seals:
            sealed = seals[part.id]
            kept.append(msgspec.structs.replace(part, signature=sealed.signature or None, maker=sealed.maker))
        elif not (isinstance(part, r.NativePart) and part.type == "seal"):
            kept.append(part)
    return kept


def _seal_in(part: r.NativePart) -> Seal:
    return msgspec.json.decode(part.raw, type=Seal)


def _content(raw: Raw | None, path: str) -> list[r.Part]:
    if raw is None:
        return []
    if bytes(raw)[:1] == b'"':
        return [r.TextPart(text=read(raw, str, path))]
    if bytes(raw)[:1] != b"[":
        raise InvalidRequest(f"`{path}` must be a string or an array of content blocks", param=path)
    return [_part(item, at) for item, at in items_of(raw, path)]


def _part(raw: Raw, path: str) -> r.Part:
    fields = Fields(raw, path)
    kind = fields.need("type", str)
    mark = fields.take("cache_control", Raw) or ABSENT
    match kind:
        case "text":
            return r.TextPart(text=fields.need("text", str), cache_control=mark, extra=fields.rest())
        case "image" | "document":
            return _media(fields, kind, mark, path)
        case "tool_use":
            name, arguments = fields.need("name", str), bytes(fields.need("input", Raw)).decode()
            return r.ToolCallPart(id=fields.need("id", str), name=name, arguments=arguments, cache_control=mark, extra=fields.rest())
        case "tool_result":
            return _result(fields, mark, path)
        case "thinking":
            return _reasoning(fields.take("thinking", str) or "", fields.take("signature", str), redacted=False)
        case "redacted_thinking":
            return _reasoning("", fields.need("data", str), redacted=True)
    return r.NativePart(type=kind, raw=Raw(bytes(raw)))


def _reasoning(text: str, signature: str | None, *, redacted: bool) -> r.Part:
    sealed = unseal(signature) if signature else None
    if sealed is None:
        return r.ReasoningPart(text=text, signature=signature or None, redacted=redacted)
    if sealed.call_id is not None:
        return r.NativePart(type="seal", raw=Raw(msgspec.json.encode(sealed)))
    return r.ReasoningPart(text=text, signature=sealed.signature or None, redacted=sealed.redacted, id=sealed.id, maker=sealed.maker)


def _media(fields: Fields, kind: str, mark: Raw, path: str) -> r.ImagePart | r.FilePart:
    source = Fields(fields.need("source", Raw), f"{path}.source")
    told: dict[str, Any] = {}
    match source.need("type", str):
        case "base64":
            told = {"data": source.need("data", str), "media_type": source.need("media_type", str)}
        case "url":
            told = {"url": source.need("url", str)}
        case "text" if kind == "document":
            told = {"data": b64encode(source.need("data", str).encode()).decode(), "media_type": "text/plain"}
            source.take("media_type", str)
        case "file" if kind == "document":
            told = {"file_id": source.need("file_id", str)}
        case other:
            raise UnsupportedField(f"`{path}.source.type` {other[:40]!r} is not a source that this gateway knows", param=f"{path}.source.type")
    if kind == "image":
        return r.ImagePart(**told, cache_control=mark, extra=fields.rest())
    return r.FilePart(**told, filename=fields.take("title", str), cache_control=mark, extra=fields.rest())


def _result(fields: Fields, mark: Raw, path: str) -> r.ToolResultPart:
    parts = _content(fields.take("content", Raw), f"{path}.content")
    content = tuple(part for part in parts if isinstance(part, r.TextPart | r.ImagePart | r.FilePart))
    if len(content) != len(parts):
        raise UnsupportedField(f"`{path}.content` holds a block that this gateway does not know in a tool's result", param=f"{path}.content")
    call_id, is_error = fields.need("tool_use_id", str), bool(fields.take("is_error", bool))
    return r.ToolResultPart(tool_call_id=call_id, content=content, is_error=is_error, cache_control=mark, extra=fields.rest())
