"""What a provider wants to have back on a message or a call unchanged, where it speaks OpenAI's format: signatures, encrypted reasoning.

OpenRouter's `reasoning_details` (openrouter.ai/docs/use-cases/reasoning-tokens) and Google's `extra_content.google.thought_signature`
(ai.google.dev/gemini-api/docs/openai). As a signature of ours it is the JSON object of those members.
"""

import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

_JOINED = ("text", "summary", "data", "signature")  # members that come in pieces
_OPAQUE = re.compile(rb'"(?:thought_signature|signature|data)"\s*:\s*"([^"\\]+)"')


class _Google(msgspec.Struct, frozen=True):
    thought_signature: str = ""


class _ExtraContent(msgspec.Struct, frozen=True):
    google: _Google = _Google()


_extra_content = msgspec.json.Decoder(_ExtraContent)
_details = msgspec.json.Decoder(list[dict[str, Any]])
_members = msgspec.json.Decoder(dict[str, Any])


def call_signature(extra_content: Raw) -> str | None:
    """The signature in a call's, or a message's, `extra_content`."""
    if bytes(extra_content)[:1] != b"{":
        return None
    try:
        return _extra_content.decode(extra_content).google.thought_signature or None
    except msgspec.DecodeError:
        return None


def bound_in(raw: bytes) -> list[str]:
    """The opaque states in `reasoning_details`, in calls, or in a whole answer: what binds a later request to this provider."""
    if raw.find(b"thought_signature") < 0 and raw.find(b"reasoning.") < 0:  # `in` costs four times as much: it tries the name as a number first
        return []
    return [found[1].decode("utf-8", "replace") for found in _OPAQUE.finditer(raw)]


def extra_content(signature: str) -> dict[str, Any]:
    """Where Google's format wants a signature."""
    return {"google": {"thought_signature": signature}}


class MessageState:
    """The members of one message, put together of a stream's deltas. `binds`: there is something opaque in it."""

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []
        self.extra_content: Any = None
        self.binds = False

    def add(self, details: Raw, extra: Raw, *, whole: bool) -> str:
        """Gives the text that the details tell: some providers tell it nowhere else."""
        if call_signature(extra) is not None:
            self.extra_content = _members.decode(extra)
            self.binds = True
        if bytes(details)[:1] != b"[":
            return ""
        told: list[str] = []
        with suppress(msgspec.ValidationError):
            for detail in _details.decode(details):
                told += [text for name in ("text", "summary") if isinstance(text := detail.get(name), str)]
                self.binds = self.binds or bool(detail.get("signature") or detail.get("data"))
                self._keep(detail, whole)
        return "".join(told)

    def _keep(self, detail: dict[str, Any], whole: bool) -> None:
        """A piece joins the one that it goes on with: the last one, when that is of the same index and type."""
        last = self.details[-1] if self.details and not whole else None
        if last is None or (last.get("index"), last.get("type")) != (detail.get("index"), detail.get("type")):
            self.details.append(detail)
            return
        for name, value in detail.items():
            if value is not None:
                last[name] = last[name] + value if name in _JOINED and isinstance(last.get(name), str) and isinstance(value, str) else value


def state_text(state: MessageState) -> str:
    members: dict[str, Any] = {"reasoning_details": state.details} if state.details else {}
    if state.extra_content is not None:
        members["extra_content"] = state.extra_content
    return msgspec.json.encode(members).decode()


def put_back(message: dict[str, Any], signature: str) -> dict[str, Any]:
    """A message with the members that `state_text` told; several parts' details follow one another."""
    with suppress(msgspec.DecodeError):
        for name, value in _members.decode(signature).items():
            earlier = message.get(name)
            message[name] = earlier + value if isinstance(earlier, list) and isinstance(value, list) else value
    return message
