"""Content blocks of Anthropic's messages to parts. A block that no part names is kept whole, as it came."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.errors import InvalidRequest
from contract.raw import ABSENT
from providers.wires.fields import Fields, items_of, read
from providers.wires.seal import Seal, unseal

_DIRECT = {"type": "direct"}  # a call that the model itself made: Anthropic says so of each
Source = dict[str, Any]


def rest_of(fields: Fields) -> dict[str, Raw]:
    """What nobody took; null is Anthropic's word for nothing, and its clients send it back."""
    return {name: raw for name, raw in fields.rest().items() if bytes(raw) != b"null"}


def decode_content(raw: Raw | None, path: str) -> list[r.Part]:
    """A string or an array of blocks."""
    if raw is None:
        return []
    if bytes(raw)[:1] == b'"':
        return [r.TextPart(text=read(raw, str, path))]
    if bytes(raw)[:1] != b"[":
        raise InvalidRequest(f"`{path}` must be a string or an array of content blocks", param=path)
    return _unsealed([_part(item, at) for item, at in items_of(raw, path)])


class _CallSeal(msgspec.Struct, frozen=True):
    """A block that only carried a tool call's signature to the client."""

    seal: Seal


def _unsealed(found: list[r.Part | _CallSeal]) -> list[r.Part]:
    """The seals of tool calls, back at their calls."""
    seals = {each.seal.call_id: each.seal for each in found if isinstance(each, _CallSeal)}
    return [_signed(each, seals.get(each.id)) if isinstance(each, r.ToolCallPart) else each for each in found if not isinstance(each, _CallSeal)]


def _signed(call: r.ToolCallPart, seal: Seal | None) -> r.ToolCallPart:
    return call if seal is None else msgspec.structs.replace(call, signature=seal.signature or None, maker=seal.maker)


def _part(raw: Raw, path: str) -> r.Part | _CallSeal:
    fields = Fields(raw, path)
    match fields.need("type", str):
        case "text":
            return _text(fields, path)
        case "image" | "document" as kind:
            return _media(fields, kind, raw, path)
        case "tool_use":
            return _call(fields)
        case "tool_result":
            return _result(fields, path)
        case "thinking":
            return _reasoning(fields, fields.take("thinking", str) or "", fields.take("signature", str), redacted=False)
        case "redacted_thinking":
            return _reasoning(fields, "", fields.need("data", str), redacted=True)
        case other:
            return r.NativePart(type=other, raw=Raw(bytes(raw)))


def _mark(fields: Fields) -> Raw:
    return fields.take("cache_control", Raw) or ABSENT


def _text(fields: Fields, path: str) -> r.TextPart:
    cited = [raw for raw, at in items_of(fields.take("citations", Raw), f"{path}.citations") if not is_ours(raw, at)]
    if cited:
        fields.put_back("citations", Raw(msgspec.json.encode(cited)))
    return r.TextPart(text=fields.need("text", str), cache_control=_mark(fields), extra=rest_of(fields))


def is_ours(citation: Raw, path: str) -> bool:
    """Made here of another provider's annotation: Anthropic would not know it."""
    index = Fields(citation, path).take("encrypted_index", Raw)
    return index is not None and bytes(index)[:1] == b'"' and unseal(read(index, str, path)) is not None


def _call(fields: Fields) -> r.ToolCallPart:
    name, arguments = fields.need("name", str), bytes(fields.need("input", Raw)).decode()
    caller = fields.take("caller", Raw)
    if caller is not None and msgspec.json.decode(caller) != _DIRECT:
        fields.put_back("caller", caller)
    return r.ToolCallPart(id=fields.need("id", str), name=name, arguments=arguments, cache_control=_mark(fields), extra=rest_of(fields))


def _reasoning(fields: Fields, text: str, signature: str | None, *, redacted: bool) -> r.ReasoningPart | _CallSeal:
    sealed = unseal(signature) if signature else None
    if sealed is None:
        return r.ReasoningPart(text=text, signature=signature or None, redacted=redacted, extra=rest_of(fields))
    if sealed.call_id is not None:
        return _CallSeal(sealed)
    return r.ReasoningPart(text=text, signature=sealed.signature or None, redacted=sealed.redacted, id=sealed.id, maker=sealed.maker)


def _media(fields: Fields, kind: str, raw: Raw, path: str) -> r.Part:
    """An image or a document; one of a source that no field of ours names is kept whole."""
    source = Fields(fields.need("source", Raw), f"{path}.source")
    told: Source
    match source.need("type", str):
        case "base64":
            told = {"data": source.need("data", str), "media_type": source.need("media_type", str)}
        case "url":
            told = {"url": source.need("url", str)}
        case "text" if kind == "document":
            told = {"data": b64encode(source.need("data", str).encode()).decode(), "media_type": source.take("media_type", str) or "text/plain"}
        case "file" if kind == "document":
            told = {"file_id": source.need("file_id", str)}
        case _:
            return r.NativePart(type=kind, raw=Raw(bytes(raw)))
    fields.keep("source", source)
    mark = _mark(fields)
    if kind == "image":
        return r.ImagePart(**told, cache_control=mark, extra=rest_of(fields))
    return r.FilePart(**told, filename=fields.take("title", str), cache_control=mark, extra=rest_of(fields))


def _result(fields: Fields, path: str) -> r.ToolResultPart:
    """What another dialect has no place for in a result is told under `content`, which is then kept as it came."""
    raw = fields.take("content", Raw)
    parts = decode_content(raw, f"{path}.content")
    content = tuple(_taken(parts))
    if raw is not None and len(content) != len(parts):
        fields.put_back("content", raw)
    call_id, is_error = fields.need("tool_use_id", str), bool(fields.take("is_error", bool))
    return r.ToolResultPart(tool_call_id=call_id, content=content, is_error=is_error, cache_control=_mark(fields), extra=rest_of(fields))


def _taken(parts: list[r.Part]) -> Iterator[r.TextPart | r.ImagePart | r.FilePart]:
    for part in parts:
        if isinstance(part, r.TextPart | r.ImagePart | r.FilePart):
            yield part
