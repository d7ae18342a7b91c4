"""What the dialects share in going on with an answer that was cut: the request that ends with the answer's text so far."""

from typing import Any

import msgspec
from msgspec import Raw

from contract.call import Call

_items = msgspec.json.Decoder(list[Raw])
_members = msgspec.json.Decoder(dict[str, Any])


def asked_on(call: Call, text: str, members: dict[str, Raw], without: frozenset[str] = frozenset()) -> Call:
    """The call with `members` in the place of its own, and without those that the rest of an answer is not asked for."""
    fields = {name: raw for name, raw in call.fields.items() if name not in without} | members
    return msgspec.structs.replace(call, body=msgspec.json.encode(fields), fields=fields, answered=text)


def lessened(call: Call, spent: int, *names: str) -> dict[str, Raw]:
    """The limits on the answer's tokens less what was spent of them; at least one is left."""
    return {name: less(raw, spent) for name in names if (raw := call.fields.get(name)) is not None and bytes(raw) != b"null"}


def less(limit: Raw, spent: int) -> Raw:
    return Raw(msgspec.json.encode(max(1, int(msgspec.json.decode(limit, type=float)) - spent)))


def with_answer(messages: Raw, text: str, kind: str) -> Raw:
    """The messages with the answer's beginning as the last; where the client began the answer itself, it goes on in that message.

    `kind`: the dialect's word for a part that is an assistant's text.
    """
    told = _items.decode(messages)
    last = _members.decode(told[-1]) if told else {}
    if last.get("role") == "assistant" and isinstance(begun := _text_of(last.get("content")), str):
        last["content"] = _content(begun + text, kind)
        return Raw(msgspec.json.encode([*told[:-1], last]))
    return Raw(msgspec.json.encode([*told, {"role": "assistant", "content": _content(text, kind)}]))


def _content(text: str, kind: str) -> Any:
    return text if kind == "text" else [{"type": kind, "text": text}]


def _text_of(content: Any) -> str | None:
    """A message's text; None: it is not of text alone."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        return None
    return "".join([part["text"] for part in content])
