"""Backends: whatever can answer a call, a managed API and an engine of our own alike.

`Backend.open` sends one attempt. The `Exchange` it gives yields what the client is to get, already in the client's dialect: one piece
for a unary answer, many for a stream. The attempt engine (gateway/pipeline.py) does not know which it is.
"""

from typing import Protocol

import msgspec

from contract.call import Call, Drop
from contract.errors import AttemptError
from contract.finish import Finish
from contract.patience import Patience
from contract.usage import Usage
from providers.reading import Reading


class Marks(msgspec.Struct):
    """When things happened in one attempt, in time.monotonic() seconds (None: not yet), and how many body bytes went each way.

    Not in loop.time(): uvloop's counts whole milliseconds.
    """

    started: float
    admitted: float | None = None  # left the engine's queue; equals started where there is none
    connected: float | None = None
    headers: float | None = None
    first_token: float | None = None
    ended: float | None = None
    bytes_sent: int = 0
    bytes_received: int = 0
    key_id: str | None = None  # the provider's key that was sent, where there is a choice
    prefill_s: float | None = None  # of an owned engine's time, its share; None: it was in none
    decode_s: float | None = None
    trace: tuple[tuple[bytes, bytes], ...] = ()  # headers that carry the request's trace upstream


class Exchange(Protocol):
    """One attempt in flight. Whoever opened it ends it: by reading to b"", or by `abort`."""

    streamed: bool  # many pieces, not one
    content_type: bytes
    notes: tuple[tuple[bytes, bytes], ...]  # response headers that tell what was done to the request: x-turnout-dropped …

    @property
    def progressed(self) -> bool:
        """Whether there is more than a sign of life in what `next` gave last: output, or a step of the provider's work."""

    @property
    def ended(self) -> bool:
        """Whether what `next` gave last is known to be the last of a stream: the call after it gives b"" without waiting."""

    @property
    def upstream_id(self) -> str | None: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def finish(self) -> Finish | None: ...
    @property
    def tokens_seen(self) -> int | None:
        """Of output so far, about; None: it cannot be told, some of it is no text."""

    @property
    def whole(self) -> bytes:
        """A stream's answer as one body, where its format has that at the end; b"" elsewhere."""

    @property
    def bound(self) -> list[str]:
        """What in the answer binds a later request to this target."""

    async def next(self) -> bytes:
        """The next bytes for the client; b"" once the answer was whole. The first call gives real output, never a mere preamble.

        Raises AttemptError.
        """

    def in_band(self, body: bytes) -> bytes:
        """How a stream that has begun tells of an error. `body`: the error in the client's dialect."""

    def abort(self) -> None:
        """Stops the upstream now. Idempotent; harmless after the end."""


class Backend(Protocol):
    name: str

    async def open(self, call: Call, model: str, marks: Marks, drop: Drop, patience: Patience | None = None) -> Exchange:
        """Starts one attempt and returns when the response's head has come. Fills `marks` as it goes. `patience`: None: the target's own clocks.

        Raises AttemptError; InvalidRequest when the request, read in full to be translated, is not one.
        """

    def ready_at(self, model: str, now: float) -> float:
        """When an attempt may begin, in time.monotonic() seconds; not after `now`: at once."""

    def wait_s(self) -> float:
        """How long an attempt that begins now is expected to wait in the target's own queue, in seconds."""

    def load(self) -> int:
        """How many requests are at the target, of whoever, as far as it tells."""

    def reading(self) -> Reading | None:
        """The newest look at what runs there; None: it is not looked at."""

    def failed(self, model: str, marks: Marks, error: AttemptError) -> None:
        """Told of every attempt that ended in an error, before its output or after: the next one may have to wait, or to use another key."""

    async def aclose(self) -> None: ...
