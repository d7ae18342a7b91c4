"""Output that only its own format knows, as a client of another dialect gets it: in the member `native_output`, which every SDK lets through."""

from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev


def on_one_line(raw: Raw) -> Raw:
    """JSON that an event can carry."""
    return Raw(msgspec.json.format(raw, indent=-1)) if b"\n" in bytes(raw) or b"\r" in bytes(raw) else raw


def native_output(event: ev.NativeOutput) -> dict[str, Any]:
    """One element of `native_output`; `raw` is the object as the wire `maker` told it."""
    return {"maker": event.maker, "kind": event.kind, "raw": on_one_line(event.raw)}


def as_member(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The member, where there is anything in it."""
    return {"native_output": found} if found else {}
