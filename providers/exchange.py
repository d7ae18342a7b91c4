"""The shapes of an attempt in flight: a unary answer, a stream, a stream folded into a unary answer, and bytes that nobody reads.

All implement `providers.port.Exchange`, over any HTTP response and any wire.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from contract.errors import AnswerTooLarge, AttemptError, MalformedResponse, StreamCut
from contract.events import Ended, Event, Finished, Started, UsageReported
from contract.finish import Finish
from contract.usage import Usage
from providers.http.port import HttpResponse
from providers.passed import Tail
from providers.port import Marks
from providers.translation import tokens_in
from providers.wires.answer import tokens_in_answer
from providers.wires.half import half_of
from providers.wires.media import is_medium
from providers.wires.port import StreamDecoder, StreamTap, UnaryAnswer

FINISHED_GRACE_S = 2.0  # how long a terminal event may still come after every choice has its finish reason
JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
Notes = tuple[tuple[bytes, bytes], ...]


class UnaryExchange:
    """The provider's whole body, checked and read, then given as one piece. Of one that does not come whole, what came tells its usage, about."""

    __slots__ = ("_answer", "_half_tokens", "_marks", "_max_body", "_read", "_response", "bound", "finish", "notes", "upstream_id", "usage")
    whole = b""
    streamed = False
    progressed = True
    ended = False
    content_type = JSON

    def __init__(self, response: HttpResponse, read: Callable[[bytes], UnaryAnswer], marks: Marks, max_body: int, notes: Notes = ()) -> None:
        self._response = response
        self._read = read
        self._marks = marks
        self._max_body = max_body
        self._answer: UnaryAnswer | None = None
        self._half_tokens: int | None = 0  # of output, of an answer that was cut
        self.notes = notes
        self.upstream_id: str | None = None  # plain attributes: a property costs a request a call each time that it is looked at
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.bound: list[str] = []

    async def next(self) -> bytes:
        if self._answer is not None:
            return b""
        marks = self._marks
        try:
            body = await self._response.read(self._max_body)
        except (AttemptError, asyncio.CancelledError):
            body = b"".join(self._response.taken)
            marks.bytes_received += len(body)
            self._read_half(body)
            raise
        marks.bytes_received += len(body)
        marks.first_token = marks.ended = monotonic()
        try:
            answer = self._answer = self._read(body)
        except MalformedResponse:  # it may have ended with the connection, and early
            self._read_half(body)
            raise
        self.upstream_id, self.usage, self.finish, self.bound = answer.upstream_id, answer.usage, answer.finish, answer.bound
        return answer.body

    def _read_half(self, body: bytes) -> None:
        answer, self._half_tokens = half_of(self._read, body)
        if answer is not None:
            self.upstream_id, self.usage = answer.upstream_id, answer.usage

    def in_band(self, body: bytes) -> bytes:
        return b""  # it is one piece: nothing can go wrong after it has begun

    def abort(self) -> None:
        self._response.abort()

    @property
    def tokens_seen(self) -> int | None:
        """Of an answer whose provider does not tell its usage: by its length."""
        return self._half_tokens if self._answer is None else tokens_in_answer(self._answer)


class StreamExchange:
    """A stream, whole events at a time: the provider's own bytes watched by a tap, or what a translating tap makes of them."""

    streamed = True
    content_type = EVENT_STREAM

    def __init__(self, response: HttpResponse, tap: StreamTap, marks: Marks, notes: Notes = ()) -> None:
        self._response = response
        self._tap = tap
        self._marks = marks
        self._given = False
        self.notes = notes

    async def next(self) -> bytes:
        tap, marks = self._tap, self._marks
        while True:
            if tap.error is not None:
                self._response.abort()
                raise tap.error
            if tap.complete:
                return self._end()
            chunk = await (self._chunk_in_time() if tap.finished else self._response.chunk())
            if not chunk:
                out = tap.end()
            else:
                marks.bytes_received += len(chunk)
                tap.progressed = False
                out = tap.feed(chunk)
                if marks.first_token is None:
                    if tap.content_seen:
                        marks.first_token = monotonic()
                        self._response.first_token()
                elif not tap.progressed:
                    self._response.no_progress()
            if tap.error is not None and not self._given:
                continue  # nothing has left yet: the attempt as a whole failed, and may be made elsewhere
            if out:
                self._given = True
                return out

    async def _chunk_in_time(self) -> bytes:
        try:
            async with asyncio.timeout(FINISHED_GRACE_S):
                return await self._response.chunk()
        except (TimeoutError, AttemptError):
            self._response.abort()  # the answer is whole: an upstream that never closes is not waited for, nor one that breaks off now blamed
            return b""

    def _end(self) -> bytes:
        if self._marks.ended is None:
            self._marks.ended = monotonic()
            self._response.release()
        return b""

    def abort(self) -> None:
        self._response.abort()

    @property
    def progressed(self) -> bool:
        return self._tap.progressed

    @property
    def ended(self) -> bool:
        return self._tap.complete and self._tap.error is None

    @property
    def upstream_id(self) -> str | None:
        return self._tap.upstream_id

    @property
    def usage(self) -> Usage | None:
        return self._tap.told_usage()

    @property
    def finish(self) -> Finish | None:
        return self._tap.finish

    @property
    def tokens_seen(self) -> int | None:
        return None if self._tap.media_seen else self._tap.tokens_seen

    @property
    def bound(self) -> list[str]:
        return self._tap.bound

    @property
    def whole(self) -> bytes:
        return self._tap.whole

    def in_band(self, body: bytes) -> bytes:
        return self._tap.in_band(body)


class ReadyExchange:
    """An answer for which no upstream had to be asked."""

    whole = b""
    streamed = False
    progressed = True
    ended = False
    content_type = JSON
    tokens_seen = 0

    def __init__(self, answer: UnaryAnswer, marks: Marks, notes: Notes) -> None:
        self._answer = answer
        self._marks = marks
        self.notes = notes
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.upstream_id: str | None = None
        self.bound: list[str] = []

    async def next(self) -> bytes:
        if self._marks.ended is not None:
            return b""
        self._marks.first_token = self._marks.ended = monotonic()
        return self._answer.body

    def in_band(self, body: bytes) -> bytes:
        return b""

    def abort(self) -> None:
        """There is nothing to stop."""


class RawExchange:
    """Bytes of any kind, passed on as they come: audio, images, text, events. Nothing is read of them but the usage at an event stream's end."""

    whole = b""
    streamed = True
    progressed = True
    ended = False
    finish = None
    upstream_id = None

    def __init__(self, response: HttpResponse, content_type: bytes, marks: Marks) -> None:
        self._response = response
        self._marks = marks
        self._tail = Tail() if content_type.startswith(b"text/event-stream") else None
        self.content_type = content_type
        self.notes: Notes = ()
        self.usage: Usage | None = None
        self.tokens_seen = 0
        self.bound: list[str] = []

    async def next(self) -> bytes:
        marks = self._marks
        chunk = await self._response.chunk()
        if self._tail is not None:
            self._tail.see(chunk)
        if not chunk:
            marks.ended = monotonic()
            if not marks.bytes_received and not self.content_type.startswith(b"text/"):  # of a silence the transcript may be empty
                raise MalformedResponse("the upstream's answer is empty")
            if self._tail is not None:
                self.usage = self._tail.usage
                if not self._tail.ended:
                    raise StreamCut("the upstream's stream ended before its answer was whole")
        elif marks.first_token is None:
            marks.first_token = monotonic()
            self._response.first_token()
        marks.bytes_received += len(chunk)
        return chunk

    def in_band(self, body: bytes) -> bytes:
        if self._tail is None:
            return b""  # no place for one; the connection's early end tells
        return b"event: error\ndata: %b\n\n" % body

    def abort(self) -> None:
        self._response.abort()


class FoldedExchange:
    """A provider's stream folded into one unary answer in the client's dialect."""

    whole = b""
    streamed = False
    progressed = True
    ended = False
    content_type = JSON

    def __init__(
        self,
        response: HttpResponse,
        decoder: StreamDecoder,
        encode: Callable[[Iterable[Event]], bytes],
        marks: Marks,
        max_body: int,
        notes: Notes = (),
    ) -> None:
        self._response = response
        self._decoder = decoder
        self._encode = encode
        self._marks = marks
        self._max_body = max_body
        self._done = False
        self.notes = notes
        self.bound: list[str] = []
        self.upstream_id: str | None = None
        self._usage: Usage | None = None
        self.finish: Finish | None = None
        self._tokens = 0
        self._media_seen = False

    @property
    def tokens_seen(self) -> int | None:
        return None if self._media_seen else self._tokens

    @property
    def usage(self) -> Usage | None:
        return self._usage or self._decoder.told_usage()

    async def next(self) -> bytes:
        if self._done:
            return b""
        events = await self._events()
        self._done = True
        self._marks.ended = monotonic()
        return self._encode(events)

    async def _events(self) -> list[Event]:
        events: list[Event] = []
        marks = self._marks
        while chunk := await self._response.chunk():
            marks.bytes_received += len(chunk)
            if marks.bytes_received > self._max_body:
                self._response.abort()
                raise AnswerTooLarge.of("the upstream's answer", self._max_body)
            new = self._decoder.feed(chunk)
            if self._read(new, events):
                self._response.release()
                return events
            if marks.first_token is not None and not new and not self._decoder.stepped:
                self._response.no_progress()
            self._decoder.stepped = False
        self._read(self._decoder.end(), events)
        return events

    def _read(self, new: list[Event], events: list[Event]) -> bool:
        """Takes the new events in; True once the answer is whole."""
        ended = False
        for event in new:
            match event:
                case Started():
                    self.upstream_id = event.id
                case UsageReported():
                    self._usage = event.usage
                case Finished():
                    if event.choice == 0:
                        self.finish = event.finish
                case Ended():
                    ended = True
                case _:
                    self._tokens += tokens_in(event)
                    self._media_seen = self._media_seen or is_medium(event)
                    if self._marks.first_token is None:
                        self._marks.first_token = monotonic()
                        self._response.first_token()
        events.extend(new)
        return ended

    def abort(self) -> None:
        self._response.abort()

    def in_band(self, body: bytes) -> bytes:
        return b""
