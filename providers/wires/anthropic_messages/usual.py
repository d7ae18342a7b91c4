"""Messages of the usual shapes, each read in one go: texts, calls and results. As openai_chat/usual.py, of which this is the twin."""

import msgspec
from msgspec import Raw

from contract import requests as r
from contract.raw import ABSENT
from providers.wires.fields import NULL, UNREADABLE


class _Block(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, gc=False, kw_only=True):
    """Any of them; `type` is what tells which."""

    cache_control: Raw = NULL

    @property
    def mark(self) -> Raw:
        return ABSENT if self.cache_control == NULL else self.cache_control

    def part(self) -> r.Part:
        raise NotImplementedError


class _Text(_Block, tag="text"):
    text: str
    citations: None = None

    def part(self) -> r.TextPart:
        return r.TextPart(text=self.text, cache_control=self.mark)


class _Call(_Block, tag="tool_use"):
    id: str
    name: str
    input: Raw

    def part(self) -> r.Part:
        return r.ToolCallPart(id=self.id, name=self.name, arguments=bytes(self.input).decode(), cache_control=self.mark)


class _Result(_Block, tag="tool_result"):
    tool_use_id: str
    content: str | list[_Text] | None = None
    is_error: bool | None = None

    def part(self) -> r.Part:
        content = tuple([block.part() for block in self.content]) if isinstance(self.content, list) else _texts(self.content)
        return r.ToolResultPart(tool_call_id=self.tool_use_id, content=content, is_error=bool(self.is_error), cache_control=self.mark)


def _texts(content: str | None) -> tuple[r.TextPart, ...]:
    return () if content is None else (r.TextPart(text=content),)


class _Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True, gc=False):
    content: str | list[_Text | _Call | _Result]


class _User(_Message, tag="user"):
    pass


class _Assistant(_Message, tag="assistant"):
    pass


_decoder = msgspec.json.Decoder(_User | _Assistant)


def read_usual(raw: Raw) -> r.Message | None:
    """The message; None: it is of no usual shape."""
    try:
        told = _decoder.decode(raw)
        content = told.content
        parts: tuple[r.Part, ...] = _texts(content) if isinstance(content, str) else tuple([block.part() for block in content])
    except UNREADABLE:
        return None
    return r.Message(role="user" if told.__class__ is _User else "assistant", parts=parts)
