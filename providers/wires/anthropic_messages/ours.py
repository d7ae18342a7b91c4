"""What we put into answers of other providers, taken out again of a history that goes to Anthropic as it came: it would refuse them.

A signature of ours marks reasoning of another provider, an index of ours a citation of one.
"""

from typing import Any

import msgspec
from msgspec import Raw

from providers.wires.anthropic_messages.parts import is_ours
from providers.wires.fields import Fields, items_of
from providers.wires.seal import unseal

_SIGNED = {"thinking": "signature", "redacted_thinking": "data"}


def without_ours(messages: Raw) -> Raw:
    """The messages without our blocks and citations; one that nothing else was in goes with them. Raises InvalidRequest."""
    kept = [kept for raw, path in items_of(messages, "messages") if (kept := _message(raw, path)) is not None]
    return Raw(msgspec.json.encode(kept))


def _message(raw: Raw, path: str) -> Any:
    fields = Fields(raw, path)
    content = fields.take("content", Raw)
    if content is None or bytes(content)[:1] != b"[":
        return raw
    blocks = [kept for block, at in items_of(content, f"{path}.content") if (kept := _block(block, at)) is not None]
    return {**fields.rest(), "content": blocks} if blocks or bytes(content) == b"[]" else None


def _block(raw: Raw, path: str) -> Any:
    fields = Fields(raw, path)
    kind = fields.need("type", str)
    if kind in _SIGNED:
        return None if unseal(fields.take(_SIGNED[kind], str) or "") is not None else raw
    if kind != "text":
        return raw
    given = list(items_of(fields.take("citations", Raw), f"{path}.citations"))
    cited = [citation for citation, at in given if not is_ours(citation, at)]
    if len(cited) == len(given):
        return raw
    rest = fields.rest()
    if not cited and bytes(rest.get("text", b"")) == b'""':
        return None
    return {"type": kind, **rest, **({"citations": cited} if cited else {})}
