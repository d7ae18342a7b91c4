"""What the stream decoders of all wires share: frames in, events out, what came before a failure told first, a cut never taken for an end.

Each wire brings the framing of its bytes and its reading of one frame.
"""

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.events import Event
from contract.usage import Usage

Frame = TypeVar("Frame")


class Framing(Protocol[Frame]):
    """Bytes to whole frames: `providers.sse`, `providers.eventstream`. Both raise MalformedResponse, after the good ones before it."""

    def feed(self, chunk: bytes) -> list[Frame]: ...
    def end(self) -> Frame | None: ...


class Decoding(ABC, Generic[Frame]):
    """Implements `providers.wires.port.StreamDecoder` around `_take`. `_ended`: the answer is whole; what comes after it is not read."""

    settled = False
    stepped = False

    def __init__(self, framing: Framing[Frame]) -> None:
        self._framing = framing
        self._ended = False
        self._failed: AttemptError | None = None

    @abstractmethod
    def _take(self, frame: Frame, events: list[Event]) -> None:
        """Adds what one frame tells, and sets `_ended` with the last. Raises AttemptError; what it added before stays told."""

    def _close(self, events: list[Event]) -> None:
        """The upstream ended before the answer did. A wire whose streams need no terminal event adds here what makes it whole."""
        raise StreamCut("the upstream's stream ended before its answer was whole")

    def told_usage(self) -> Usage | None:
        return None

    def feed(self, chunk: bytes) -> list[Event]:
        if self._failed is not None:
            raise self._failed
        events: list[Event] = []
        try:
            for frame in self._framing.feed(chunk):
                if self._ended:
                    break
                self._take(frame, events)
        except AttemptError as error:
            self._failed = error
            if not events:  # what came before it is told first
                raise
        return events

    def end(self) -> list[Event]:
        if self._failed is not None:
            raise self._failed
        events: list[Event] = []
        if self._ended:
            return events
        last = self._framing.end()
        if last is not None:
            with suppress(MalformedResponse):  # it was cut, and counts for nothing
                self._take(last, events)
        if not self._ended:
            self._close(events)
            self._ended = True
        return events
