"""What the byte paths of all dialects share: whole events pass as they came and are watched; what came before the first output waits for it.

Each dialect brings its reading of one event.
"""

from abc import ABC, abstractmethod

from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.finish import Finish
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent


class Findings:
    """What has been read of an answer so far (`providers.wires.port.StreamTap` says what each means)."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self.content_seen = False
        self.progressed = False
        self.finished = False
        self.complete = False
        self.error: AttemptError | None = None
        self.upstream_id: str | None = None
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.tokens_seen = 0
        self.media_seen = False
        self.bound: list[str] = []

    def told_usage(self) -> Usage | None:
        return self.usage

    def _released(self) -> bytes:
        """What was held, once there is output in it; until then it waits."""
        out = self._held
        if not self.content_seen or not out:
            return b""
        self._held = []
        return out[0] if len(out) == 1 else b"".join(out)


class Tapping(Findings, ABC):
    """Implements `providers.wires.port.StreamTap` around `_keep`."""

    whole = b""

    def __init__(self) -> None:
        super().__init__()
        self._sse = SseDecoder()

    @abstractmethod
    def _keep(self, event: SseEvent, data: bytes) -> bool:
        """Reads one event; False when its bytes must not go on. Sets `error` or `complete` when nothing after it may."""

    def _keep_all(self, chunk: bytes, objects: list[bytes]) -> int:
        """Reads events at once, as `SseDecoder.objects` gives them, as long as nothing ends with them and their bytes may go on: so many of them."""
        return 0

    def _close(self) -> bytes:
        """The upstream ended before its terminal event. A dialect that can do without one gives it here, and sets `complete`."""
        self.error = StreamCut("the upstream's stream ended before its answer was whole")
        return b""

    @abstractmethod
    def in_band(self, body: bytes) -> bytes: ...

    def feed(self, chunk: bytes) -> bytes:
        if self.error is not None or self.complete:
            return b""
        if (objects := self._sse.objects(chunk)) and ((read := self._keep_all(chunk, objects)) or self.error is not None):
            end = self._sse.took(objects if read == len(objects) else objects[:read])
            self._held.append(chunk if end == len(chunk) else chunk[:end])
            if end == len(chunk) or self.error is not None:
                return self._released()
            chunk = chunk[end:]
        try:
            return self._pass(self._sse.feed(chunk))
        except AttemptError as error:
            self.error = error
            return b""

    def end(self) -> bytes:
        if self.error is not None or self.complete:
            return b""
        out = b""
        try:
            last = self._sse.end()
            if last is not None and last.data is not None:
                out = self._pass([last])
                if isinstance(self.error, MalformedResponse):
                    self.error = None  # it was cut, and counts for nothing
        except AttemptError as error:
            self.error = error
        return out if self.error is not None or self.complete else out + self._close()

    def _pass(self, events: list[SseEvent]) -> bytes:
        """The bytes of the events that may go on; stops at an error or at the terminal event."""
        out = self._held
        for event in events:
            data = event.data
            if data is None or self._keep(event, data):
                out.append(event.raw)
            if self.complete or self.error is not None:
                break
        return self._released()
