"""A stream of OpenAI chat to events: one by one, and those that differ in one string alone by that string."""

import msgspec

from contract import events as ev
from contract.errors import AttemptError
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.decoding import Decoding
from providers.wires.openai_chat.alike import FIRST, MEMBERS, MOST_FRAMES, Frame, frame_around
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_chat.response import Reader


class _Alike(msgspec.Struct, frozen=True):
    """A frame, and what its strings are: text or reasoning of a choice."""

    frame: Frame
    kind: type[ev.TextDelta] | type[ev.ReasoningDelta]
    choice: int


def _alike(data: bytes) -> _Alike | None:
    """What an event has in common with others that differ in one string, if they tell nothing else."""
    for member in MEMBERS:
        frame = frame_around(data[1:-1], member)
        if frame is not None:
            told, untold = _told_by(frame.with_string(b'"?"')), _told_by(frame.with_string(b'""'))
            if untold == [] and told is not None and len(told) == 1:
                event = told[0]
                for kind in (ev.TextDelta, ev.ReasoningDelta):
                    if isinstance(event, kind) and event == kind(text="?", choice=event.choice):
                        return _Alike(frame, kind, event.choice)
    return None


def _told_by(data: bytes) -> list[ev.Event] | None:
    """The events of one chunk that is not the first; None: there is more to it."""
    reader, events = Reader(), list[ev.Event]()
    reader.skip_start()
    try:
        reader.read(data, events)
    except AttemptError:
        return None
    return None if reader.owes or bytes(reader.usage) != b"null" else events


class ChatStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`. `choices`: how many were asked for."""

    def __init__(self, choices: int) -> None:
        self._sse = SseDecoder()
        super().__init__(self._sse)
        self._choices = choices
        self._reader = Reader()
        self._alike: _Alike | None = None
        self._frames = 0  # that were taken or given up

    def feed(self, chunk: bytes) -> list[ev.Event]:
        if self._failed is not None or self._ended or self._sse.rest:
            return super().feed(chunk)
        alike = self._alike
        if alike is not None and not self._reader.owes and (found := alike.frame.string(chunk)) is not None:
            return self._reader.texts(alike.kind, alike.choice, [found[1]])
        objects = self._sse.objects(chunk)
        if alike is None and (self._frames >= MOST_FRAMES or len(objects) <= FIRST):
            return super().feed(chunk)
        return self._feed_several(chunk, objects)

    def _feed_several(self, chunk: bytes, objects: list[bytes]) -> list[ev.Event]:
        events: list[ev.Event] = []
        if self._alike is None:
            end = self._sse.took(objects[:FIRST])
            events += super().feed(chunk[:end])
            chunk, objects = chunk[end:], objects[FIRST:]
        if self._alike is not None and self._failed is None and not self._ended and not self._reader.owes:
            strings, texts = self._alike.frame.strings(chunk, 0, objects)
            if strings:
                events += self._reader.texts(self._alike.kind, self._alike.choice, texts)
                chunk = chunk[self._sse.took(objects[: len(strings)]) :]
        if not chunk or self._failed is not None or self._ended:
            return events
        try:
            return events + super().feed(chunk)
        except AttemptError:
            if not events:
                raise
            return events  # what came before it is told first

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        data = event.data
        if not data:  # some keep a connection alive by an empty one
            return
        if data == b"[DONE]":
            self._end(events)
            return
        if event.name == b"error":
            raise in_band_error(data)
        before = len(events)
        self._reader.read(data, events)
        if len(events) == before + 1 and isinstance(events[-1], ev.TextDelta | ev.ReasoningDelta):
            self._frames += 1
            self._alike = _alike(data) if self._frames <= MOST_FRAMES and event.raw.startswith(b"data: {") else None

    def _end(self, events: list[ev.Event]) -> None:
        self._ended = True
        self._reader.end(events)

    def told_usage(self) -> Usage | None:
        return self._reader.told_usage()

    def _close(self, events: list[ev.Event]) -> None:
        if self._reader.finished < self._choices:
            super()._close(events)
        self._end(events)
