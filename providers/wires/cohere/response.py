"""Cohere v2 answers to events, streamed and whole (docs.cohere.com/v2/docs/streaming)."""

from contextlib import suppress

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse, StreamCut, UpstreamError
from contract.finish import Finish, FinishReason
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.failure import failure

NAME = "cohere"
_NULL = Raw(b"null")
_REASONS: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
FAILURES = frozenset({"ERROR", "ERROR_LIMIT", "TIMEOUT", "USER_CANCEL"})


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Piece(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None


class _Page(msgspec.Struct):
    url: str | None = None
    title: str | None = None


class _Source(msgspec.Struct):
    id: str | None = None
    document: _Page | None = None


class _Citation(msgspec.Struct):
    start: int | None = None
    end: int | None = None
    text: str | None = None
    sources: list[_Source] | None = None


class _Whole(msgspec.Struct):
    content: list[_Piece] | None = None
    tool_calls: list[_Call] | None = None
    tool_plan: str | None = None
    citations: list[Raw] | None = None


class _Message(msgspec.Struct):
    """A delta's message: each member as the event's type has it."""

    content: _Piece | None = None
    tool_calls: _Call | None = None
    tool_plan: str | None = None
    citations: Raw = _NULL


class _Delta(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    usage: Raw = _NULL
    error: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    id: str | None = None
    index: int = 0
    delta: _Delta | None = None


class _StartedDelta(msgspec.Struct):
    type: str = ""
    id: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    message: _Whole | None = None
    finish_reason: str | None = None
    usage: Raw = _NULL


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Counts(msgspec.Struct):
    tokens: _Tokens | None = None
    cached_tokens: float | None = None


_answer = msgspec.json.Decoder(_Answer)
_type = msgspec.json.Decoder(_StartedDelta)
_event = msgspec.json.Decoder(_Event)
_counts = msgspec.json.Decoder(_Counts)
_citation = msgspec.json.Decoder(_Citation)
_WITHOUT_DELTA = frozenset({"message-start", "content-end", "tool-call-end", "citation-end"})


def decode_usage(raw: Raw) -> Usage:
    """`tokens` are what the model read and wrote; `billed_units`, which differ, stay in the raw object."""
    kept = Raw(bytes(raw))
    try:
        given = _counts.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    tokens = given.tokens or _Tokens()
    cached = None if given.cached_tokens is None else int(given.cached_tokens)
    fresh = None if tokens.input_tokens is None else max(0, int(tokens.input_tokens) - (cached or 0))
    output = None if tokens.output_tokens is None else int(tokens.output_tokens)
    return Usage(input_uncached=fresh, cache_read=cached, output_visible=output, raw=kept)


def finished(native: str) -> ev.Finished:
    """Raises UpstreamError for a reason that means a failure."""
    if native in FAILURES:
        raise failure(UpstreamError, 200)
    return ev.Finished(finish=Finish(_REASONS.get(native, "unknown"), native or None))


def annotated(raw: Raw, part: int) -> ev.Annotated:
    kept = Raw(bytes(raw))
    try:
        told = _citation.decode(kept)
    except msgspec.ValidationError:
        told = _Citation()
    page = next((source.document for source in told.sources or () if source.document is not None), None) or _Page()
    place = {"start": told.start, "end": told.end}
    return ev.Annotated(annotation=kept, maker=NAME, url=page.url, title=page.title, cited_text=told.text, part=part, **place)  # type: ignore[arg-type]


class _Parts:
    """Numbers the parts: a new one whenever the kind or the block changes."""

    def __init__(self) -> None:
        self._key: tuple[str, int] | None = None
        self._number = -1
        self._last_text = 0
        self.calls: dict[int, int] = {}

    def of(self, kind: str, index: int) -> int:
        if self._key != (kind, index):
            self._key = (kind, index)
            self._number += 1
        if kind == "text":
            self._last_text = self._number
        return self._number

    @property
    def text(self) -> int:
        """Where the citations belong."""
        return self._last_text


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse."""
    try:
        answer = _answer.decode(body)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a Cohere chat response") from exc
    if answer.message is None or answer.finish_reason is None:
        raise MalformedResponse("the upstream's answer is not a Cohere chat response")
    events: list[ev.Event] = [ev.Started(id=answer.id or "", model="", created_s=0)]
    parts, message = _Parts(), answer.message
    if message.tool_plan:
        events.append(ev.ReasoningDelta(text=message.tool_plan, part=parts.of("plan", 0)))
    for index, piece in enumerate(message.content or ()):
        if piece.thinking:
            events.append(ev.ReasoningDelta(text=piece.thinking, part=parts.of("thinking", index)))
        elif piece.text:
            events.append(ev.TextDelta(text=piece.text, part=parts.of("text", index)))
    events += [annotated(raw, parts.text) for raw in message.citations or ()]
    for index, call in enumerate(message.tool_calls or ()):
        part, function = parts.of("call", index), call.function or _Function()
        events.append(ev.ToolCallStarted(id=call.id or f"call_{index}", name=function.name or "", part=part))
        if function.arguments:
            events.append(ev.ToolCallDelta(arguments=function.arguments, part=part))
    events.append(finished(answer.finish_reason))
    if bytes(answer.usage)[:1] == b"{":
        events.append(ev.UsageReported(usage=decode_usage(answer.usage)))
    return [*events, ev.Ended()]


class CohereStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._parts = _Parts()
        self._ended = False
        self._failed: AttemptError | None = None

    def feed(self, chunk: bytes) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        events: list[ev.Event] = []
        try:
            for event in self._sse.feed(chunk):
                self._take(event, events)
        except AttemptError as error:
            if not events:
                raise
            self._failed = error  # what came before it is told first
        return events

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        if event.data is None or self._ended or event.data == b"[DONE]":
            return
        try:
            head = _type.decode(event.data)  # the starts' deltas hold lists where the others hold objects
            if head.type == "message-start":
                events.append(ev.Started(id=head.id or "", model="", created_s=0))
            elif head.type not in _WITHOUT_DELTA:
                self._read(_event.decode(event.data), events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, told: _Event, events: list[ev.Event]) -> None:
        delta = told.delta or _Delta()
        message = delta.message or _Message()
        match told.type:
            case "content-start" | "content-delta":
                piece = message.content or _Piece()
                if piece.thinking:
                    events.append(ev.ReasoningDelta(text=piece.thinking, part=self._parts.of("thinking", told.index)))
                elif piece.text:
                    events.append(ev.TextDelta(text=piece.text, part=self._parts.of("text", told.index)))
            case "tool-plan-delta":
                if message.tool_plan:
                    events.append(ev.ReasoningDelta(text=message.tool_plan, part=self._parts.of("plan", 0)))
            case "tool-call-start" | "tool-call-delta":
                self._call(told.type, told.index, message.tool_calls or _Call(), events)
            case "citation-start":
                if bytes(message.citations)[:1] == b"{":
                    events.append(annotated(message.citations, self._parts.text))
            case "message-end":
                if delta.error is not None:
                    raise failure(UpstreamError, 200)
                events.append(finished(delta.finish_reason or ""))
                if bytes(delta.usage)[:1] == b"{":
                    events.append(ev.UsageReported(usage=decode_usage(delta.usage)))
                self._ended = True
                events.append(ev.Ended())

    def _call(self, kind: str, index: int, call: _Call, events: list[ev.Event]) -> None:
        part, function = self._parts.of("call", index), call.function or _Function()
        if kind == "tool-call-start":
            events.append(ev.ToolCallStarted(id=call.id or f"call_{index}", name=function.name or "", part=part))
        if function.arguments:
            events.append(ev.ToolCallDelta(arguments=function.arguments, part=part))

    def end(self) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        events: list[ev.Event] = []
        last = self._sse.end()
        if last is not None:
            with suppress(MalformedResponse):  # it was cut, and counts for nothing
                self._take(last, events)
        if not self._ended:
            raise StreamCut("the upstream's stream ended before its answer was whole")
        return events
