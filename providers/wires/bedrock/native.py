"""Blocks that the provider makes for itself: a tool that it runs, that tool's result, an image. Put together of their deltas."""

from typing import Any

import msgspec


class _Event(msgspec.Struct):
    delta: dict[str, Any] = {}


_event = msgspec.json.Decoder(_Event)


class NativeBlock:
    """One block of a stream, in the form that a whole answer has it."""

    def __init__(self, start: dict[str, Any]) -> None:
        self._kind, told = next(iter(start.items()), ("unknown", None))
        self._members: dict[str, Any] = told if isinstance(told, dict) else {}
        self._input = ""
        self._content: list[Any] = []

    def add(self, payload: bytes) -> None:
        """Takes an event with a delta. Raises msgspec.DecodeError."""
        told = _event.decode(payload).delta.get(self._kind)
        if isinstance(told, list):
            self._content += told
        elif isinstance(told, dict) and isinstance(piece := told.get("input"), str):
            self._input += piece
        elif isinstance(told, dict):
            self._members |= told

    def whole(self) -> dict[str, Any]:
        """Raises msgspec.DecodeError for a call whose arguments are no JSON."""
        if self._kind == "toolUse":
            return {"toolUse": {**self._members, "input": msgspec.json.decode(self._input or "{}")}}
        return {self._kind: {**self._members, "content": self._content} if self._content else self._members}
