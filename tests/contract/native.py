"""What an answer holds that only its own format knows, as a client of another dialect is to find it in `native_output`."""

from typing import Any

import msgspec

from contract import events as ev


def natives(events: list[Any], dialect: str = "", choice: int | None = None) -> list[dict[str, Any]]:
    """Of every maker but the dialect's own; `choice`: of that one alone."""
    found = [event for event in events if isinstance(event, ev.NativeOutput) and event.maker != dialect]
    told = [event for event in found if choice is None or event.choice == choice]
    return [{"maker": event.maker, "kind": event.kind, "raw": msgspec.json.decode(event.raw)} for event in told]
