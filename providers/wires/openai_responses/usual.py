"""Items of the usual shapes, each read in one go: texts, calls and their results. As openai_chat/usual.py, of which this is the twin."""

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.raw import ABSENT
from providers.wires.fields import UNREADABLE

TEXTS = frozenset({"input_text", "output_text", "text"})


class _Piece(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None
    prompt_cache_breakpoint: Raw = ABSENT


class _Item(msgspec.Struct, gc=False):
    """What the usual items have of members that count; those of them that are not here are not needed to read it."""

    type: str | None = None
    role: r.Role | None = None
    content: str | list[_Piece] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[_Piece] | None = None
    namespace: Raw = ABSENT
    phase: Raw = ABSENT


_decoder = msgspec.json.Decoder(_Item)


def read_usual(raw: Raw) -> r.Message | None:
    """The item as a message; None: it is of no usual shape."""
    try:
        item: _Item = _decoder.decode(raw)
    except UNREADABLE:
        return None
    match item.type:
        case None | "message":
            parts = _texts(item.content)
            if item.role is not None and item.role != "tool" and parts is not None and not item.phase:
                return r.Message(role=item.role, parts=parts)
        case "function_call":
            if item.call_id is not None and item.name is not None and item.arguments is not None and not item.namespace:
                return r.Message(role="assistant", parts=(r.ToolCallPart(id=item.call_id, name=item.name, arguments=item.arguments),))
        case "function_call_output":
            content = _texts(item.output)
            if item.call_id is not None and content is not None:
                return r.Message(role="tool", parts=(r.ToolResultPart(tool_call_id=item.call_id, content=content),))
    return None


def _texts(content: str | list[_Piece] | None) -> tuple[r.TextPart, ...] | None:
    """None: it is not text alone."""
    if isinstance(content, str):
        return (r.TextPart(text=content),)
    if content is None:
        return None
    found = [r.TextPart(text=piece.text) for piece in content if piece.text is not None and piece.type in TEXTS and not piece.prompt_cache_breakpoint]
    return tuple(found) if len(found) == len(content) else None
