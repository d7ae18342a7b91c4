"""Messages of the usual shapes, each read in one go: most messages are of one, and reading them field by field takes three times as long.

A message that is not exactly of such a shape is not read here: request.py reads it field by field, keeps what it does not know, and says
what is wrong with it. tests/providers/wires/test_usual.py holds the two to the same.
"""

from typing import Literal

import msgspec
from msgspec import Raw

from contract import requests as r
from providers.wires.fields import UNREADABLE


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str


Content = str | list[_Text]


def texts(content: Content) -> tuple[r.TextPart, ...]:
    """A text, or parts that are texts."""
    if content.__class__ is str:
        return (r.TextPart(text=content),)
    return tuple(r.TextPart(text=part.text) for part in content)  # type: ignore[union-attr]


class _Message(msgspec.Struct, tag_field="role", forbid_unknown_fields=True, gc=False):
    """Any of them; `role` is what tells which."""

    def message(self) -> r.Message:
        raise NotImplementedError


class _System(_Message, tag="system"):
    content: Content

    def message(self) -> r.Message:
        return r.Message(role="system", parts=texts(self.content))


class _User(_Message, tag="user"):
    content: Content

    def message(self) -> r.Message:
        return r.Message(role="user", parts=texts(self.content))


class _Function(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str


class _Call(msgspec.Struct, tag_field="type", tag="function", forbid_unknown_fields=True, gc=False):
    id: str
    function: _Function


class _Assistant(_Message, tag="assistant"):
    content: Content | None = None
    tool_calls: list[_Call] | None = None

    def message(self) -> r.Message:
        parts: tuple[r.Part, ...] = () if self.content is None else texts(self.content)
        if self.tool_calls:
            parts += tuple([r.ToolCallPart(id=c.id, name=c.function.name, arguments=c.function.arguments) for c in self.tool_calls])
        return r.Message(role="assistant", parts=parts)


class _Tool(_Message, tag="tool"):
    tool_call_id: str
    content: Content

    def message(self) -> r.Message:
        return r.Message(role="tool", parts=(r.ToolResultPart(tool_call_id=self.tool_call_id, content=texts(self.content)),))


_decoder = msgspec.json.Decoder(_System | _User | _Assistant | _Tool)


def read_usual(raw: Raw) -> r.Message | None:
    """The message; None: it is of no usual shape."""
    try:
        told: _Message = _decoder.decode(raw)
    except UNREADABLE:
        return None
    return told.message()
