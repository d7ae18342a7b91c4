"""Server-sent events, sans-IO: bytes in, whole events out, each with the very bytes it came as.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html: lines end in LF, CRLF or CR, a BOM may stand at the start.
"""

import re

import msgspec

from contract.errors import AnswerTooLarge, MalformedResponse

EVENT_LIMIT = 64 << 20  # bytes, as of a whole answer: a picture comes as one event
BOM = b"\xef\xbb\xbf"
CR = 13  # as a number: CPython tries bytes as one first, and that costs an event more than the search
SMALL = 8 << 10  # bytes held that are cheaper read again than kept account of
SEAM = 3  # bytes of what is held in which a blank line may have begun
BETWEEN = b"}\n\ndata: {"  # two events that hold a JSON object each; as long as what stands around one
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class SseEvent(msgspec.Struct, frozen=True, gc=False):
    """`raw` is all of it, the blank line included. `data` None: no data field, as in a comment. `name`: the `event` field."""

    raw: bytes
    data: bytes | None
    name: bytes | None = None


class SseDecoder:
    """Holds back what is not yet a whole event. Raises MalformedResponse for an event of more than `limit` bytes, after the good ones before it.

    What is held (`rest`) is not read again once it is large: an upstream that never ends its event costs no more than what it sends.
    """

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self._limit = limit
        self.rest = bytearray()
        self._at_start = True
        self._bad: MalformedResponse | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes."""
        if self._bad is not None:
            raise self._bad
        data = chunk
        if self.rest:
            if len(self.rest) > SMALL and not self._may_end(chunk):
                self._grow(chunk)
                return []
            data = bytes(self.rest + chunk)
        if CR in data:
            return self._split_any(data)
        pieces = data.split(b"\n\n")
        try:
            self._hold(pieces.pop())
            return [self._event(piece + b"\n\n") for piece in pieces]
        except MalformedResponse:
            self._at_start = data.startswith(BOM)
            return self._split_any(data)  # again, for the events before the bad one

    def objects(self, chunk: bytes) -> list[bytes]:
        """What a chunk's first events hold, each without the braces of its object: those that are whole, and of which each begins and ends as one
        that is a line of data with a JSON object does. What is between may be anything. `took` says how many of them were read.
        """
        end = chunk.rfind(b"}\n\n")
        if end < 0 or self.rest or self._bad is not None or len(chunk) > self._limit or not chunk.startswith(b"data: {") or CR in chunk:
            return []
        objects = chunk.split(BETWEEN)
        last = objects.pop()
        size = len(last) - len(chunk) + end
        if size >= 0:  # else it has only begun
            objects.append(last[:size])
        objects[0] = objects[0][len(b"data: {") :]
        return objects

    def took(self, objects: list[bytes]) -> int:
        """The first events of a chunk were read: gives where they end."""
        self._at_start = False
        return sum(map(len, objects)) + len(BETWEEN) * len(objects)

    def end(self) -> SseEvent | None:
        """The last event, when the stream ended without the blank line that should close it; its `raw` is closed here."""
        if self._bad is not None:
            raise self._bad
        rest, self.rest = bytes(self.rest), bytearray()
        return self._event(rest.rstrip(b"\r\n") + b"\n\n") if rest.strip() else None

    def _may_end(self, chunk: bytes) -> bool:
        """Whether the event that is held ends in this chunk."""
        seam = bytes(self.rest[-SEAM:]) + chunk
        return b"\n\n" in seam or (b"\r" in seam and _BLANK_LINE.search(seam) is not None)

    def _split_any(self, data: bytes) -> list[SseEvent]:
        events: list[SseEvent] = []
        start = 0
        try:
            for blank in _BLANK_LINE.finditer(data):
                end = blank.end()
                if end == len(data) and data.endswith(b"\r"):
                    break  # its LF may still come
                events.append(self._event(data[start:end]))
                start = end
            self._hold(data[start:])
        except MalformedResponse as error:
            self._bad = error
            if not events:
                raise
        return events

    def _hold(self, rest: bytes) -> None:
        if not rest:
            self.rest.clear()
            return
        if len(rest) > self._limit:
            raise self._too_large()
        self.rest = bytearray(rest)

    def _grow(self, chunk: bytes) -> None:
        """Holds what follows in an event that goes on."""
        self.rest += chunk
        if len(self.rest) > self._limit:
            self._bad = self._too_large()
            raise self._bad

    def _event(self, raw: bytes) -> SseEvent:
        if len(raw) > self._limit:
            raise self._too_large()
        text = raw
        if self._at_start:
            self._at_start = False
            text = raw.removeprefix(BOM)
        if text.startswith(b"data: ") and text.find(b"\n") == len(text) - 2 and b"\r" not in text:
            return SseEvent(raw, text[6:-2])
        return self._fields(raw, text)

    def _fields(self, raw: bytes, text: bytes) -> SseEvent:
        data: list[bytes] = []
        name = None
        for line in _LINE_END.split(text):
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return SseEvent(raw, b"\n".join(data) if data else None, name)

    def _too_large(self) -> AnswerTooLarge:
        return AnswerTooLarge.of("an event of the upstream's stream", self._limit)
