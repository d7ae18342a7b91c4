"""What a wire format must give: four verbs towards the provider, the same four mirrored towards the client, and the byte path.

Pure: no I/O, no clock. One object per wire format implements `Wire`; streams get an object of their own per answer.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.finish import Finish
from contract.requests import ChatRequest
from contract.usage import Usage


class Seen(Protocol):
    """What has been read of an answer so far: the tap's findings, for ledger and statistics."""

    upstream_id: str | None
    usage: Usage | None
    finish: Finish | None  # of choice 0
    content_events: int  # events that carried output


class StreamTap(Seen, Protocol):
    """Watches a same-dialect byte stream go by. Only whole events are let through, so a cut never leaves half a one.

    Nothing is let through before the first event with output in it (text, reasoning, refusal, tool call, audio, or a finish reason):
    what came before is held and goes out with it. Comments and blank lines alone never end the holding.
    """

    content_seen: bool
    finished: bool  # every choice has its finish reason; only usage and the terminal event may still come
    complete: bool  # the terminal event was seen, or `end` found the answer whole; later bytes are ignored
    error: AttemptError | None  # found in the bytes after those that were let through; ends the answer

    def feed(self, chunk: bytes) -> bytes:
        """Takes what came, gives what may go to the client now. Never raises on bad input: sets `error` and lets through what was good before it."""

    def end(self) -> bytes:
        """The upstream ended cleanly: gives what is left to send. Sets `error` to StreamCut when the answer is not whole."""


class StreamDecoder(Protocol):
    """Bytes of a provider's stream to events. Raises AttemptError (MalformedResponse, UpstreamError …); `end` raises StreamCut."""

    def feed(self, chunk: bytes) -> list[Event]: ...
    def end(self) -> list[Event]: ...


class StreamEncoder(Protocol):
    """Events to the bytes of a client's stream."""

    def feed(self, event: Event) -> bytes: ...
    def error(self, body: bytes) -> bytes:
        """An in-band error; nothing follows it, no terminal event above all. `body`: what `encode_error` gave."""


class UnaryAnswer(Seen, Protocol):
    """A whole same-dialect answer that was checked and read; `body` goes to the client as it came."""

    body: bytes


class Wire(Protocol):
    # towards the provider
    def encode_request(self, request: ChatRequest, model: str) -> bytes: ...
    def decode_response(self, body: bytes) -> list[Event]: ...
    def stream_decoder(self, choices: int) -> StreamDecoder: ...
    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        """Classifies by status and structured code, never by wording; the upstream's text does not enter the error."""

    # towards the client
    def decode_request(self, body: bytes) -> ChatRequest: ...
    def encode_response(self, events: Iterable[Event]) -> bytes: ...
    def stream_encoder(self, include_usage: bool) -> StreamEncoder: ...
    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes: ...

    # same dialect on both sides: bytes
    def rewrite_request(self, call: Call, model: str, *, stream: bool, ask_usage: bool) -> bytes:
        """The client's body with the fields that we own set: model, stream, stream_options.include_usage. All others as they came."""

    def stream_tap(self, call: Call, strip_usage: bool) -> StreamTap: ...
    def read_unary(self, body: bytes) -> UnaryAnswer:
        """Raises MalformedResponse or, for an error object under a 200, what `decode_error` would give."""
