"""What a wire format must give. Pure: no I/O, no clock; streams get an object of their own per answer.

`Upstream`: four verbs towards a provider. `Dialect`: the same four mirrored, towards a client. `Native`: both sides speak the same, and
bytes pass. A format may have one, two or all of them; `providers/wires/table.py` lists which has what.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from contract.call import Call
from contract.embeddings import EmbeddingAnswer, EmbeddingRequest
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.finish import Finish
from contract.requests import ChatRequest
from contract.usage import Usage
from providers.wires.facts import Facts
from providers.wires.losses import Losses


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What a dialect needs to word an answer: the call it answers, the target's label (for seals), and the Unix time in seconds."""

    call: Call
    target: str
    now_s: int


class Seen(Protocol):
    """What has been read of an answer so far: the tap's findings, for ledger and statistics."""

    upstream_id: str | None
    usage: Usage | None
    finish: Finish | None  # of choice 0
    bound: list[str]  # signatures, encrypted reasoning, a kept answer's id: what binds a later request to this target


class StreamTap(Seen, Protocol):
    """Watches a same-dialect byte stream go by. Only whole events are let through, so a cut never leaves half a one.

    Nothing is let through before the first event with output in it (text, reasoning, refusal, tool call, audio, or a finish reason):
    what came before is held and goes out with it. Comments and blank lines alone never end the holding.
    """

    tokens_seen: int  # of output so far, about: by its length, and at least one an event
    media_seen: bool  # some of it is no text, so that its tokens cannot be told
    content_seen: bool
    progressed: bool  # set with each output and step of work, never by a comment, a ping, an empty delta, half an event; who reads it takes it back
    finished: bool  # every choice has its finish reason; only usage and the terminal event may still come
    complete: bool  # the terminal event was seen, or `end` found the answer whole; later bytes are ignored
    error: AttemptError | None  # found in the bytes after those that were let through; ends the answer

    @property
    def whole(self) -> bytes:
        """The whole answer as one body, where the format's stream ends with it; b"" elsewhere."""

    def feed(self, chunk: bytes) -> bytes:
        """Takes what came, gives what may go to the client now. Never raises on bad input: sets `error` and lets through what was good before it."""

    def told_usage(self) -> Usage | None:
        """Usage as far as it was told, also of an answer that did not come to its end."""

    def end(self) -> bytes:
        """The upstream ended cleanly: gives what is left to send. Sets `error` to StreamCut when the answer is not whole."""

    def in_band(self, body: bytes) -> bytes:
        """An error for the client inside a stream that has begun; nothing follows it, no terminal event above all. `body`: of `encode_error`."""


class StreamDecoder(Protocol):
    """Bytes of a provider's stream to events. Raises AttemptError (MalformedResponse, UpstreamError …); `end` raises StreamCut.

    The events that came before a failure are never lost: `feed` gives them, and raises at the next call.
    """

    stepped: bool  # the provider did a step of work that no event tells of; who reads it takes it back
    settled: bool  # every choice has told why it ended, and only the upstream's end is still to come

    def feed(self, chunk: bytes) -> list[Event]: ...
    def end(self) -> list[Event]: ...
    def told_usage(self) -> Usage | None:
        """Usage as far as it was told, for an answer whose end, and with it its `UsageReported`, never came."""


class StreamEncoder(Protocol):
    """Events to the bytes of a client's stream. `whole`: as a tap's."""

    @property
    def whole(self) -> bytes: ...
    def feed(self, event: Event) -> bytes: ...
    def in_band(self, body: bytes) -> bytes:
        """As `StreamTap.in_band`."""


class ResumedEncoder(StreamEncoder, Protocol):
    """One that may take up an answer where its first part was cut. `closing`: what its last events tell beside what the format has."""

    closing: Mapping[str, object]


class Resumable(Protocol):
    """A dialect whose cut streams can be gone on with, by another answer that begins where the first one ends."""

    ending: bytes  # what is left of a stream that has told why its answer ended; b"": then it is whole

    def stream_decoder(self, choices: int) -> StreamDecoder: ...
    def go_on(self, call: Call, text: str, spent: int) -> Call:
        """The request for the rest: it ends with the answer's text so far, which took about `spent` tokens of what it may have."""

    def resumed(self, delivered: bytes, answering: Answering) -> ResumedEncoder | None:
        """An encoder for what follows the delivered bytes, whole events of this dialect; None where nothing can.

        The text that comes first is of part 0, should it belong to a text that is open. Raises LookupError, TypeError, ValueError,
        AttemptError, msgspec.MsgspecError for bytes that are not of the dialect.
        """


class UnaryAnswer(Seen, Protocol):
    """A whole same-dialect answer that was checked and read; `body` goes to the client as it came."""

    body: bytes
    tokens_seen: int | None  # of its output, about, at least one; None: some of it is no text


class Upstream(Protocol):
    name: str
    stream_type: bytes  # the media type of its streams

    def path(self, model: str, stream: bool) -> str:
        """What follows the provider's base URL, the query included."""

    def encode_request(self, request: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        """The provider's body. What it has no place for is left out and noted in `losses`; TargetCannot only when nothing could be sent."""

    def decode_response(self, body: bytes) -> list[Event]:
        """A whole answer: the same events as its stream, come at once. Raises MalformedResponse, or what an error object in it means."""

    def stream_decoder(self, choices: int) -> StreamDecoder: ...
    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        """Classifies by status and structured code (by sentence: failure.py alone); the upstream's text does not enter the error."""


class Named(Protocol):
    field_names: Mapping[str, str]  # the contract's name of a field -> this dialect's, where they differ (`losses` are shown so)


class Dialect(Named, Protocol):
    name: str

    def decode_request(self, body: bytes) -> ChatRequest:
        """Raises InvalidRequest or UnsupportedField with the field's path. Unseals signatures (providers/wires/seal.py)."""

    def encode_response(self, events: Iterable[Event], answering: Answering) -> bytes: ...
    def stream_encoder(self, answering: Answering) -> StreamEncoder: ...
    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes: ...


class Native(Protocol):
    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        """The client's body with the fields that we own set: model, stream, stream_options.include_usage. All others as they came."""

    def stream_tap(self, call: Call, strip_usage: bool) -> StreamTap: ...
    def read_unary(self, body: bytes) -> UnaryAnswer:
        """Raises MalformedResponse or, for an error object under a 200, what `decode_error` would give."""

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError: ...


class Variant(Upstream, Native, Protocol):
    """A wire that is nearly a dialect: most of that dialect's bytes pass, and what it does not take is translated."""

    def takes(self, call: Call) -> bool:
        """Whether the client's body may pass."""


class Embedder(Protocol):
    """One provider's embeddings, where they are not OpenAI's."""

    def path(self, model: str) -> str: ...
    def encode_request(self, request: EmbeddingRequest, model: str, losses: Losses) -> bytes: ...
    def decode_response(self, body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer: ...
    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError: ...
