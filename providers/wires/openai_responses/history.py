"""Conversations by items: a request's input as a list, and a later request with what went before put in front of it."""

import msgspec
from msgspec import Raw

_members = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])


class _Output(msgspec.Struct):
    output: list[Raw] = []


_output = msgspec.json.Decoder(_Output)


def input_items(fields: dict[str, Raw]) -> list[Raw]:
    """The request's input as items; a plain text is a user's message."""
    raw = fields.get("input")
    if raw is None or bytes(raw) == b"null":
        return []
    if bytes(raw)[:1] == b"[":
        return _items.decode(raw)
    return [Raw(msgspec.json.encode({"type": "message", "role": "user", "content": raw}))]


def with_history(body: bytes, earlier_input: bytes, earlier_answer: bytes, *, signed: bool) -> bytes:
    """The request with the earlier request's items and its answer's in front of its own, and no `previous_response_id`.

    `signed` False: without what only the maker of the earlier answers could read, for another target is to be asked.
    """
    fields = _members.decode(body)
    earlier = [*_items.decode(earlier_input), *_output.decode(earlier_answer).output]
    items = [*(earlier if signed else map(_unsigned, earlier)), *input_items(fields)]
    return msgspec.json.encode({**{name: raw for name, raw in fields.items() if name != "previous_response_id"}, "input": items})


def _unsigned(item: Raw) -> Raw:
    if b'"encrypted_content"' not in bytes(item):
        return item
    members = _members.decode(item)
    members.pop("encrypted_content", None)
    return Raw(msgspec.json.encode(members))
