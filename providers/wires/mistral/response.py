"""Mistral's answers to events: OpenAI's, once content that comes as a list of chunks is told apart."""

from typing import Any

import msgspec

from contract import events as ev
from contract.errors import AttemptError
from providers.sse import SseDecoder
from providers.wires.openai_chat.response import ChatStreamDecoder, decode_response

_LISTED = (b'"content":[', b'"content": [')
_FINISHES = {"model_length": "length"}


def plain(data: bytes) -> bytes:
    """An answer, or a piece of one, in OpenAI's form: texts of a content list joined, its thinking as `reasoning_content`."""
    if b'"model_length"' not in data and not any(mark in data for mark in _LISTED):
        return data
    try:
        answer: Any = msgspec.json.decode(data)
        for choice in answer["choices"]:
            choice["finish_reason"] = _FINISHES.get(choice.get("finish_reason"), choice.get("finish_reason"))
            for kind in ("message", "delta"):
                if isinstance(choice.get(kind), dict) and isinstance(choice[kind].get("content"), list):
                    choice[kind] |= _told(choice[kind]["content"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError, RecursionError):
        return data  # not of a shape we know: whoever reads it says so
    return msgspec.json.encode(answer)


def _told(chunks: list[Any]) -> dict[str, str]:
    text = "".join(chunk.get("text") or "" for chunk in chunks if chunk.get("type") == "text")
    thoughts = [piece for chunk in chunks if chunk.get("type") == "thinking" for piece in _pieces(chunk.get("thinking"))]
    return {"content": text} | ({"reasoning_content": "".join(thoughts)} if thoughts else {})


def _pieces(thinking: Any) -> list[str]:
    return [thinking] if isinstance(thinking, str) else [piece.get("text") or "" for piece in thinking or ()]


def decode(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    return decode_response(plain(body))


class MistralStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self, choices: int) -> None:
        self._sse = SseDecoder()
        self._inner = ChatStreamDecoder(choices)
        self._failed: AttemptError | None = None

    def feed(self, chunk: bytes) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        events: list[ev.Event] = []
        try:
            for event in self._sse.feed(chunk):
                if event.data is not None:
                    events += self._inner.feed(b"data: %b\n\n" % plain(event.data))
        except AttemptError as error:
            if not events:
                raise
            self._failed = error  # what came before it is told first
        return events

    def end(self) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        last = self._sse.end()
        events: list[ev.Event] = []
        if last is not None and last.data is not None:
            events += self._inner.feed(b"data: %b" % plain(last.data))
        return [*events, *self._inner.end()]
