"""The three shapes of an attempt in flight: a unary answer, a stream passed on, a stream folded into a unary answer.

All three implement `providers.port.Exchange`, over any HTTP response and any wire.
"""

import asyncio
from time import monotonic

from contract.errors import MalformedResponse
from contract.events import Ended, Event, Finished, Started, UsageReported
from contract.finish import Finish
from contract.usage import Usage
from providers.http.port import HttpResponse
from providers.port import Marks
from providers.wires.port import StreamDecoder, StreamTap, UnaryAnswer, Wire

FINISHED_GRACE_S = 2.0  # how long a terminal event may still come after every choice has its finish reason


class UnaryExchange:
    """The provider's whole body, checked, then given untouched as one piece."""

    def __init__(self, response: HttpResponse, wire: Wire, marks: Marks, max_body: int) -> None:
        self._response = response
        self._wire = wire
        self._marks = marks
        self._max_body = max_body
        self._answer: UnaryAnswer | None = None

    async def next(self) -> bytes:
        if self._answer is not None:
            return b""
        body = await self._response.read(self._max_body)
        marks = self._marks
        marks.bytes_received += len(body)
        marks.first_token = marks.ended = monotonic()
        self._answer = self._wire.read_unary(body)
        return body

    def abort(self) -> None:
        self._response.abort()

    @property
    def upstream_id(self) -> str | None:
        return self._answer.upstream_id if self._answer else None

    @property
    def usage(self) -> Usage | None:
        return self._answer.usage if self._answer else None

    @property
    def finish(self) -> Finish | None:
        return self._answer.finish if self._answer else None

    @property
    def content_events(self) -> int:
        return 1 if self._answer else 0


class StreamExchange:
    """A same-dialect stream: the provider's bytes, whole events at a time, watched by a tap."""

    def __init__(self, response: HttpResponse, tap: StreamTap, marks: Marks) -> None:
        self._response = response
        self._tap = tap
        self._marks = marks
        self._given = False

    async def next(self) -> bytes:
        tap, marks = self._tap, self._marks
        while True:
            if tap.error is not None:
                self._response.abort()
                raise tap.error
            if tap.complete:
                return self._end()
            chunk = await self._chunk()
            if not chunk:
                out = tap.end()
            else:
                marks.bytes_received += len(chunk)
                out = tap.feed(chunk)
                if marks.first_token is None and tap.content_seen:
                    marks.first_token = monotonic()
                    self._response.first_token()
            if tap.error is not None and not self._given:
                continue  # nothing has left yet: the attempt as a whole failed, and may be made elsewhere
            if out:
                self._given = True
                return out

    async def _chunk(self) -> bytes:
        if not self._tap.finished:
            return await self._response.chunk()
        try:
            async with asyncio.timeout(FINISHED_GRACE_S):
                return await self._response.chunk()
        except TimeoutError:
            self._response.abort()  # the answer is whole; an upstream that never closes is not waited for
            return b""

    def _end(self) -> bytes:
        if self._marks.ended is None:
            self._marks.ended = monotonic()
            self._response.release()
        return b""

    def abort(self) -> None:
        self._response.abort()

    @property
    def upstream_id(self) -> str | None:
        return self._tap.upstream_id

    @property
    def usage(self) -> Usage | None:
        return self._tap.usage

    @property
    def finish(self) -> Finish | None:
        return self._tap.finish

    @property
    def content_events(self) -> int:
        return self._tap.content_events


class FoldedExchange:
    """A provider's stream folded into one unary answer in the client's dialect."""

    def __init__(self, response: HttpResponse, decoder: StreamDecoder, wire: Wire, marks: Marks, max_body: int) -> None:
        self._response = response
        self._decoder = decoder
        self._wire = wire
        self._marks = marks
        self._max_body = max_body
        self._done = False
        self.upstream_id: str | None = None
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.content_events = 0

    async def next(self) -> bytes:
        if self._done:
            return b""
        events = await self._events()
        self._done = True
        self._marks.ended = monotonic()
        return self._wire.encode_response(events)

    async def _events(self) -> list[Event]:
        events: list[Event] = []
        marks = self._marks
        while chunk := await self._response.chunk():
            marks.bytes_received += len(chunk)
            if marks.bytes_received > self._max_body:
                self._response.abort()
                raise MalformedResponse(f"the upstream's answer is larger than {self._max_body} bytes")
            if self._read(self._decoder.feed(chunk), events):
                self._response.release()
                return events
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
                    self.usage = event.usage
                case Finished():
                    if event.choice == 0:
                        self.finish = event.finish
                case Ended():
                    ended = True
                case _:
                    self.content_events += 1
                    if self._marks.first_token is None:
                        self._marks.first_token = monotonic()
                        self._response.first_token()
        events.extend(new)
        return ended

    def abort(self) -> None:
        self._response.abort()
