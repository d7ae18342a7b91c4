"""Mistral's answers to events: OpenAI's, once content that comes as a list of chunks is told apart."""

from collections.abc import Iterator
from typing import Any

import msgspec

from contract import events as ev
from providers.sse import SseEvent
from providers.wires.mistral.messages import NAME
from providers.wires.openai_chat.alike import MOST_FRAMES
from providers.wires.openai_chat.response import decode_response
from providers.wires.openai_chat.stream import ChatStreamDecoder
from providers.wires.openai_chat.tap import ChatStreamTap

_MARKS = (b'"content":[', b'"content": [', b'"arguments":{', b'"arguments": {')  # what OpenAI has as text
_FINISHES = {"model_length": "length"}  # OpenAI's clients do not know the word


def plain(data: bytes, *, for_client: bool = False) -> bytes:
    """An answer, or a piece of one, in OpenAI's form: texts of a content list joined, its thinking as `reasoning_content`; arguments as text."""
    if not any(mark in data for mark in _MARKS) and not (for_client and b'"model_length"' in data):
        return data
    try:
        answer: Any = msgspec.json.decode(data)
        for choice in answer["choices"]:
            if for_client:
                choice["finish_reason"] = _FINISHES.get(choice.get("finish_reason"), choice.get("finish_reason"))
            for kind in ("message", "delta"):
                if not isinstance(said := choice.get(kind), dict):
                    continue
                if isinstance(said.get("content"), list):
                    said |= _told(said["content"])
                for call in said.get("tool_calls") or ():
                    if isinstance(arguments := call["function"].get("arguments"), dict):
                        call["function"]["arguments"] = msgspec.json.encode(arguments).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError, RecursionError):
        return data  # not of a shape we know: whoever reads it says so
    return msgspec.json.encode(answer)


def _told(chunks: list[Any]) -> dict[str, str]:
    text = "".join(chunk.get("text") or "" for chunk in chunks if chunk.get("type") == "text")
    thoughts = [piece for chunk in chunks if chunk.get("type") == "thinking" for piece in _pieces(chunk.get("thinking"))]
    return {"content": text} | ({"reasoning_content": "".join(thoughts)} if thoughts else {})


def _pieces(thinking: Any) -> list[str]:
    return [thinking] if isinstance(thinking, str) else [piece.get("text") or "" for piece in thinking or ()]


class _Chunk(msgspec.Struct):
    signature: str | None = None


class _Said(msgspec.Struct):
    content: str | list[_Chunk] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    message: _Said | None = None
    delta: _Said | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_answer = msgspec.json.Decoder(_Answer)


def _signatures(data: bytes) -> Iterator[tuple[int, str]]:
    """The signatures of thinking, each with its choice."""
    if b'"signature"' not in data:
        return
    try:
        choices = _answer.decode(data).choices
    except msgspec.DecodeError:
        return
    for choice in choices:
        said = choice.message or choice.delta
        for chunk in said.content if said is not None and isinstance(said.content, list) else ():
            if chunk.signature:
                yield choice.index, chunk.signature


class _Signer:
    """Puts the signatures behind the reasoning that they are of."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}  # choice -> its last part of reasoning

    def sign(self, data: bytes, events: list[ev.Event], start: int) -> None:
        """`start`: where in `events` those of `data` begin."""
        after: dict[int, int] = {}
        for at in range(start, len(events)):
            if isinstance(event := events[at], ev.ReasoningDelta):
                self._parts[event.choice], after[event.choice] = event.part, at + 1
        for choice, signature in _signatures(data):
            if choice in self._parts:
                signed = ev.ReasoningSignature(signature=signature, maker=NAME, choice=choice, part=self._parts[choice])
                events.insert(after.get(choice, start), signed)


def decode(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    events = decode_response(plain(body))
    _Signer().sign(body, events, 0)
    return events


class MistralStreamDecoder(ChatStreamDecoder):
    """Implements `providers.wires.port.StreamDecoder`: OpenAI's, of events in OpenAI's form."""

    def __init__(self, choices: int) -> None:
        super().__init__(choices)
        self._frames = MOST_FRAMES  # each may have to be read anew
        self._signer = _Signer()

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        start = len(events)
        super()._take(_plain_event(event, for_client=False), events)
        if event.data is not None:
            self._signer.sign(event.data, events, start)


class MistralStreamTap(ChatStreamTap):
    """Implements `providers.wires.port.StreamTap` for OpenAI's clients: they know no lists of content."""

    def _pass(self, events: list[SseEvent]) -> bytes:
        return super()._pass([_plain_event(event, for_client=True) for event in events])

    def _keep_all(self, chunk: bytes, objects: list[bytes]) -> int:
        return 0  # each may have to be told anew


def _plain_event(event: SseEvent, *, for_client: bool) -> SseEvent:
    if event.data is None or (data := plain(event.data, for_client=for_client)) is event.data:
        return event
    return SseEvent(b"data: %b\n\n" % data, data, event.name)
