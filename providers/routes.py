"""How one provider answers each dialect: as bytes, by translation, or passed through. One route for each, chosen by a call's dialect.

A route prepares the request and says what reads the answer; it opens nothing. `providers.backend` sends.
"""

from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import quote

import msgspec

from contract.call import Call, Drop
from contract.embeddings import EmbeddingRequest
from contract.errors import AttemptError, TargetCannot, UnsupportedField
from contract.requests import ChatRequest
from contract.usage import BYTES_PER_TOKEN, Usage
from providers.multipart import renamed_model
from providers.translation import TranslatedAnswer, TranslatingTap, answering, cannot, settled, translate
from providers.wires.answer import WholeAnswer
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.estimate import estimate
from providers.wires.facts import Facts, honoured
from providers.wires.failure import class_of_status, failure, retry_after_s
from providers.wires.losses import Losses
from providers.wires.openai_embeddings import OPENAI_EMBEDDINGS
from providers.wires.port import Dialect, Embedder, Native, StreamTap, UnaryAnswer, Upstream
from providers.wires.seal import MARK, disowned

EVENT_STREAM = b"text/event-stream"
ReadError = Callable[[int, Mapping[bytes, bytes], bytes], AttemptError]
ReadAnswer = Callable[[bytes], UnaryAnswer]


class Prepared(msgspec.Struct, kw_only=True):
    """One request ready to be sent, and what reads its answer.

    `read` None: nobody reads it, it passes as it comes. `tap`: set for a stream, which is of the media type `stream_type`.
    `ready`: the answer, where none need be asked for. `notes`: response headers that tell the client what was done to its request.
    """

    path: str
    body: bytes
    error: ReadError
    read: ReadAnswer | None = None
    tap: StreamTap | None = None
    stream_type: bytes = EVENT_STREAM
    ready: UnaryAnswer | None = None
    notes: tuple[tuple[bytes, bytes], ...] = ()


class Route(Protocol):
    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        """Raises InvalidRequest, TargetCannot."""


def filled(template: str, model: str) -> str:
    """A path with the model's name in it, where it has a place for one."""
    return template.replace("{model}", quote(model, safe="")) if "{model}" in template else template


def dropped_note(dropped: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    """The header that names what a target did not get; a name that the client made up is kept to what a header can hold."""
    if not dropped:
        return ()
    return ((b"x-turnout-dropped", ", ".join(quote(name, safe=".[]_- ") for name in dropped).encode()[:2000]),)


def takes_all(call: Call) -> bool:
    return True


class NativeRoute:
    """Both sides speak the same: bytes. `takes`: whether the provider takes the client's body; one that it does not take is translated."""

    def __init__(
        self,
        native: Native,
        path: str,
        facts: Facts,
        asks_usage: bool,
        resealed: Route | None = None,
        takes: Callable[[Call], bool] = takes_all,
    ) -> None:
        self._native = native
        self._path = path
        self._facts = facts
        self._asks_usage = asks_usage
        self._takes = takes
        self._resealed = resealed  # for a request that holds signatures of another target: they must not reach the provider

    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        native, stream = self._native, call.stream
        ask_usage = stream and self._asks_usage
        if self._resealed is not None and not self._takes(call):
            return self._resealed.prepare(call, model, drop)
        if self._resealed is not None and call.may_hold_state and MARK in call.body:
            written = self._resealed.prepare(call, model, drop)
            written.read = native.read_unary  # the answer passes: its id is the provider's, and its signatures are its own
            written.tap = native.stream_tap(call, not call.include_usage) if stream else None
            return written
        return Prepared(
            path=filled(self._path, model),
            body=native.rewrite_request(call, model, self._facts, stream=stream, ask_usage=ask_usage),
            error=native.decode_error,
            read=native.read_unary,
            tap=native.stream_tap(call, ask_usage and not call.include_usage) if stream else None,
        )


class TranslatedRoute:
    """The client's dialect and the provider's wire differ: events."""

    def __init__(self, provider: str, dialect: Dialect, upstream: Upstream, facts: Facts, path: str | None = None) -> None:
        """`path`: where the provider has that wire, if not at its usual place."""
        self._provider = provider
        self._dialect = dialect
        self._upstream = upstream
        self._facts = facts
        self._path = path

    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        dialect, upstream = self._dialect, self._upstream
        if call.may_hold_state:
            call = msgspec.structs.replace(call, body=disowned(call.body, self._provider))
        translated = translate(call, dialect, upstream, model, self._facts, drop)
        context = answering(call, f"{self._provider}/{model}")
        tap = None
        if call.stream:
            choices = translated.request.sampling.n or 1
            tap = TranslatingTap(upstream.stream_decoder(choices), dialect.stream_encoder(context), choices)
        return Prepared(
            path=upstream.path(model, call.stream) if self._path is None else filled(self._path, model),
            body=translated.body,
            error=upstream.decode_error,
            read=lambda body: TranslatedAnswer(upstream.decode_response(body), dialect, context),
            tap=tap,
            stream_type=upstream.stream_type,
            notes=dropped_note(translated.dropped),
        )


class Counter(Protocol):
    """A wire whose provider counts a prompt's tokens."""

    def count_path(self, model: str) -> str: ...
    def encode_count_request(self, request: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes: ...
    def decode_count(self, body: bytes) -> int: ...
    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError: ...


class CountRoute:
    """Anthropic's count_tokens at a provider that counts in another way, or (`counter` None) not at all: then it is estimated, and said so."""

    def __init__(self, counter: Counter | None, facts: Facts) -> None:
        self._counter = counter
        self._facts = facts

    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        counter, losses = self._counter, Losses()
        request = ANTHROPIC_MESSAGES.decode_count_request(call.body)
        if counter is None:
            answer = WholeAnswer(ANTHROPIC_MESSAGES.encode_count(estimate(request, len(call.body))))
            return Prepared(path="", body=b"", error=by_status, ready=answer, notes=((b"x-turnout-estimated", b"input_tokens"),))
        body = counter.encode_count_request(honoured(request, self._facts, losses), model, self._facts, losses)
        return Prepared(
            path=counter.count_path(model),
            body=body,
            error=counter.decode_error,
            read=lambda b: WholeAnswer(ANTHROPIC_MESSAGES.encode_count(counter.decode_count(b))),
            notes=dropped_note(settled(losses, "everything", ANTHROPIC_MESSAGES)),
        )


class EmbeddingRoute:
    """OpenAI's embeddings at a provider whose own are of another form."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        request, losses = OPENAI_EMBEDDINGS.decode_request(call.body), Losses()
        losses.lose_members(request.extra, "extra")
        try:
            body = self._embedder.encode_request(request, model, losses)
        except UnsupportedField as error:
            raise cannot(error.param or "") from error
        notes = dropped_note(settled(losses, drop, OPENAI_EMBEDDINGS))
        return Prepared(
            path=self._embedder.path(model), body=body, error=self._embedder.decode_error, read=lambda b: self._read(b, request), notes=notes
        )

    def _read(self, body: bytes, request: EmbeddingRequest) -> WholeAnswer:
        answer = self._embedder.decode_response(body, request)
        usage = answer.usage or estimated_usage(request)  # a number that OpenAI's clients look for
        return WholeAnswer(OPENAI_EMBEDDINGS.encode_response(answer, request, usage), usage, answer.id)


def estimated_usage(request: EmbeddingRequest) -> Usage:
    """Of a request whose provider does not tell; flagged `estimated`."""
    return Usage(input_uncached=max(1, sum(len(text) for text in request.inputs) // BYTES_PER_TOKEN), source="estimated")


class PassRoute:
    """An endpoint whose bodies we do not read, but for the model's name in the request and the usage in a JSON answer."""

    def __init__(self, paths: Mapping[str, str], decode_error: ReadError) -> None:
        self._paths = paths
        self._decode_error = decode_error

    def prepare(self, call: Call, model: str, drop: Drop) -> Prepared:
        path = self._paths.get(call.path)
        if path is None:
            raise TargetCannot(f"the target has no endpoint {call.path}", param=None)
        return Prepared(path=filled(path, model), body=_with_model(call, model), error=self._decode_error)


def _with_model(call: Call, model: str) -> bytes:
    if call.content_type.startswith(b"multipart/"):
        return renamed_model(call.body, call.content_type, model)
    return msgspec.json.encode({**call.fields, "model": model})


def by_status(status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
    """An error of an endpoint whose bodies we do not read."""
    return failure(class_of_status(status), status, wait_s=retry_after_s(headers))
