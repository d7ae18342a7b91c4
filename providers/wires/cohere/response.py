"""Cohere v2 answers to events, streamed and whole (docs.cohere.com/v2/docs/streaming, docs.cohere.com/v2/reference/chat).

A tool plan is reasoning. Citations of a plan or of thinking are left out: no format has a place for them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import MalformedResponse, UpstreamError
from contract.finish import Finish, FinishReason
from contract.raw import ABSENT
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.classes import input_of
from providers.wires.decoding import Decoding
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
_OF_TEXT = (None, "TEXT_CONTENT")  # what a citation may be of


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


class _Source(msgspec.Struct):
    document: dict[str, Any] | None = None


class _Citation(msgspec.Struct):
    start: int | None = None
    end: int | None = None
    text: str | None = None
    type: str | None = None
    content_index: int | None = None
    sources: list[_Source] | None = None


class _Logprobs(msgspec.Struct):
    """Those of the tokens that a piece of text is made of; which of it each one is, is not told."""

    text: str | None = None
    logprobs: list[float] | None = None


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
    index: int | None = None
    delta: _Delta | None = None
    logprobs: _Logprobs | None = None


class _Head(msgspec.Struct):
    type: str = ""
    id: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    message: _Whole | None = None
    finish_reason: str | None = None
    usage: Raw = _NULL
    logprobs: list[_Logprobs] | None = None


class _Tokens(msgspec.Struct):
    input_tokens: float | None = None
    output_tokens: float | None = None


class _Counts(msgspec.Struct):
    billed_units: _Tokens | None = None
    tokens: _Tokens | None = None
    cached_tokens: float | None = None


_answer = msgspec.json.Decoder(_Answer)
_head = msgspec.json.Decoder(_Head)
_event = msgspec.json.Decoder(_Event)
_counts = msgspec.json.Decoder(_Counts)
_citation = msgspec.json.Decoder(_Citation)
_READ = frozenset({"content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta", "citation-start", "message-end"})


def decode_usage(raw: Raw) -> Usage:
    """What is billed: `tokens` also count Cohere's own prompts around the request, which nobody pays; they stay in the raw object.

    They are taken where no billed units are told; only of them does `cached_tokens` say how many were read from the cache.
    """
    kept = Raw(bytes(raw))
    try:
        given = _counts.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    billed = given.billed_units
    if billed is not None and (billed.input_tokens is not None or billed.output_tokens is not None):
        return Usage(input_uncached=_whole(billed.input_tokens), output_visible=_whole(billed.output_tokens), raw=kept)
    tokens = given.tokens or _Tokens()
    read = input_of(_whole(tokens.input_tokens), _whole(given.cached_tokens))
    return Usage(read.uncached, read.cache_read, output_visible=_whole(tokens.output_tokens), source=read.source, raw=kept)


def _whole(count: float | None) -> int | None:
    """Cohere's numbers may be written as fractions: 41.0."""
    return None if count is None else int(count)


def _probabilities(items: Sequence[_Logprobs]) -> Raw:
    """OpenAI's form: each piece as one token, as likely as all of its tokens together."""
    told = [item for item in items if item.logprobs]
    tokens: list[dict[str, Any]] = [
        {"token": item.text or "", "logprob": sum(item.logprobs or ()), "bytes": None, "top_logprobs": []} for item in told
    ]
    return Raw(msgspec.json.encode({"content": tokens})) if tokens else ABSENT


class _Reader:
    """Turns what an answer holds into events, and numbers the parts: a new one whenever the kind or the block changes."""

    def __init__(self) -> None:
        self._id = ""
        self._open: tuple[str, int] | None = None
        self._number = -1
        self._texts: dict[int, int] = {}  # content block -> its part
        self._calls: dict[int, int] = {}  # tool call's index -> its part

    def started(self, answer_id: str | None) -> ev.Started:
        self._id = answer_id or ""
        return ev.Started(id=self._id, model="", created_s=0)

    def plan(self, text: str | None) -> list[ev.Event]:
        return [ev.ReasoningDelta(text=text, part=self._part("plan", 0))] if text else []

    def piece(self, index: int, piece: _Piece, logprobs: Sequence[_Logprobs]) -> list[ev.Event]:
        if piece.thinking:
            return [ev.ReasoningDelta(text=piece.thinking, part=self._part("thinking", index))]
        if not piece.text:
            return []
        part = self._texts[index] = self._part("text", index)
        return [ev.TextDelta(text=piece.text, part=part, logprobs=_probabilities(logprobs))]

    def call(self, index: int, call: _Call, *, starts: bool) -> list[ev.Event]:
        """Raises MalformedResponse for a piece of a call that never began."""
        function, events = call.function or _Function(), list[ev.Event]()
        if starts:
            self._calls[index] = self._part("call", index, anew=True)
            name = call.id or f"call_{self._id}_{index}"
            events.append(ev.ToolCallStarted(id=name, name=function.name or "", part=self._calls[index]))
        if index not in self._calls:
            raise MalformedResponse("the upstream's stream goes on with a tool call that it did not begin")
        if function.arguments:
            events.append(ev.ToolCallDelta(arguments=function.arguments, part=self._calls[index]))
        return events

    def cited(self, told: _Citation, raw: Raw) -> list[ev.Event]:
        if told.type not in _OF_TEXT:
            return []
        page: dict[str, Any] = next((source.document for source in told.sources or () if source.document is not None), {})
        url, title = (text if isinstance(text := page.get(name), str) else None for name in ("url", "title"))
        part = self._texts.get(-1 if told.content_index is None else told.content_index, max(self._texts.values(), default=0))
        place: dict[str, Any] = {"start": told.start, "end": told.end, "part": part}
        return [ev.Annotated(annotation=raw, maker=NAME, url=url, title=title, cited_text=told.text, **place)]

    def ended(self, native: str | None, usage: Raw) -> list[ev.Event]:
        """Raises UpstreamError for a reason that means a failure, MalformedResponse for none."""
        if not native:
            raise MalformedResponse("the upstream's answer does not say why it ended")
        if native in FAILURES:
            raise failure(UpstreamError, 200)
        events: list[ev.Event] = [ev.Finished(finish=Finish(_REASONS.get(native, "unknown"), native))]
        if bytes(usage)[:1] == b"{":
            events.append(ev.UsageReported(usage=decode_usage(usage)))
        return [*events, ev.Ended()]

    def _part(self, kind: str, index: int, *, anew: bool = False) -> int:
        if anew or self._open != (kind, index):
            self._open = (kind, index)
            self._number += 1
        return self._number


def _read_citation(raw: Raw) -> tuple[_Citation, Raw]:
    kept = Raw(bytes(raw))
    try:
        return _citation.decode(kept), kept
    except msgspec.ValidationError:
        return _Citation(), kept  # of a shape we do not know: it goes on as it is


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse; UpstreamError for an answer that failed."""
    try:
        answer = _answer.decode(body)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a Cohere chat response") from exc
    if answer.message is None:
        raise MalformedResponse("the upstream's answer is not a Cohere chat response")
    reader, message = _Reader(), answer.message
    events: list[ev.Event] = [reader.started(answer.id), *reader.plan(message.tool_plan)]
    content, logprobs = message.content or (), answer.logprobs or ()
    last = max((index for index, piece in enumerate(content) if piece.text), default=-1)
    cited = [_read_citation(raw) for raw in message.citations or ()]
    for index, piece in enumerate(content):
        events += reader.piece(index, piece, logprobs if index == last else ())
        for citation, raw in cited:
            if index == (last if citation.content_index is None else citation.content_index):
                events += reader.cited(citation, raw)
    for index, call in enumerate(message.tool_calls or ()):
        events += reader.call(index, call, starts=True)
    return [*events, *reader.ended(answer.finish_reason, answer.usage)]


class CohereStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(SseDecoder())
        self._reader = _Reader()

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        if event.data is None or event.data == b"[DONE]":
            return
        try:
            event.data.decode()
            head = _head.decode(event.data)  # the deltas of other events are of other shapes
            if head.type == "message-start":
                events.append(self._reader.started(head.id))
            elif head.type in _READ:
                events += self._read(_event.decode(event.data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, told: _Event) -> list[ev.Event]:
        delta, index, reader = told.delta or _Delta(), told.index or 0, self._reader
        message = delta.message or _Message()
        match told.type:
            case "content-start" | "content-delta":
                return reader.piece(index, message.content or _Piece(), (told.logprobs,) if told.logprobs is not None else ())
            case "tool-plan-delta":
                return reader.plan(message.tool_plan)
            case "tool-call-start" | "tool-call-delta":
                return reader.call(index, message.tool_calls or _Call(), starts=told.type == "tool-call-start")
            case "citation-start":
                return reader.cited(*_read_citation(message.citations)) if bytes(message.citations)[:1] == b"{" else []
            case _:
                if delta.error is not None:
                    raise failure(UpstreamError, 200)
                ended = reader.ended(delta.finish_reason, delta.usage)
                self._ended = True
                return ended
