"""Converse answers to events, streamed and whole. A stream is whole only with its metadata, which comes after the message has stopped."""

from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse, StreamCut, UpstreamError
from contract.finish import Finish, FinishReason
from contract.usage import Usage
from providers.eventstream import EventStreamDecoder, EventStreamMessage
from providers.wires.bedrock.errors import stream_error
from providers.wires.failure import failure

NAME = "bedrock"
_NULL = Raw(b"null")
_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
FAILURES = frozenset({"malformed_model_output", "malformed_tool_use"})


class _ReasoningText(msgspec.Struct):
    text: str = ""
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None
    text: str | None = None  # of a delta, as the other two
    signature: str | None = None


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Raw = _NULL
    type: str | None = None


class _Web(msgspec.Struct):
    url: str | None = None


class _Location(msgspec.Struct):
    web: _Web | None = None


class _Source(msgspec.Struct):
    text: str = ""


class _Citation(msgspec.Struct, rename="camel"):
    title: str | None = None
    source_content: list[_Source] | None = None
    location: _Location | None = None


class _CitedText(msgspec.Struct):
    text: str = ""


class _Cited(msgspec.Struct):
    content: list[_CitedText] | None = None
    citations: list[Raw] | None = None


class _Block(msgspec.Struct, rename="camel"):
    """A content block, or a delta of one."""

    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Cited | None = None
    citation: Raw = _NULL


class _Start(msgspec.Struct, rename="camel"):
    tool_use: _ToolUse | None = None


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: Raw = _NULL
    delta: _Block | None = None
    stop_reason: str | None = None
    usage: Raw = _NULL


class _CacheDetail(msgspec.Struct, rename="camel"):
    ttl: str | None = None
    input_tokens: int = 0


class _Counts(msgspec.Struct, rename="camel"):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None


class _Message(msgspec.Struct):
    content: list[Raw] | None = None


class _Output(msgspec.Struct):
    message: _Message | None = None


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: Raw = _NULL


_answer = msgspec.json.Decoder(_Answer)
_block = msgspec.json.Decoder(_Block)
_event = msgspec.json.Decoder(_Event)
_start = msgspec.json.Decoder(_Start)
_counts = msgspec.json.Decoder(_Counts)
_citation = msgspec.json.Decoder(_Citation)
_members = msgspec.json.Decoder(dict[str, Any])


def decode_usage(raw: Raw) -> Usage:
    """Bedrock's counts to disjoint classes: the input excludes what the cache gave and took."""
    kept = Raw(bytes(raw))
    try:
        given = _counts.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    hour = sum(detail.input_tokens for detail in given.cache_details or () if detail.ttl == "1h")
    write = given.cache_write_input_tokens
    return Usage(
        input_uncached=given.input_tokens,
        cache_read=given.cache_read_input_tokens,
        cache_write_5m=None if write is None else max(0, write - hour),
        cache_write_1h=hour if given.cache_details else None,
        output_visible=given.output_tokens,
        raw=kept,
    )


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
    url = told.location.web.url if told.location is not None and told.location.web is not None else None
    text = "".join(source.text for source in told.source_content or ()) or None
    return ev.Annotated(annotation=kept, maker=NAME, url=url, title=told.title, cited_text=text, part=part)


def _whole_block(raw: Raw, part: int, events: list[ev.Event]) -> None:
    block = _block.decode(raw)
    if block.text is not None:
        if block.text:
            events.append(ev.TextDelta(text=block.text, part=part))
    elif block.tool_use is not None and block.tool_use.type is None:
        events.append(ev.ToolCallStarted(id=block.tool_use.tool_use_id or f"tooluse_{part}", name=block.tool_use.name, part=part))
        events.append(ev.ToolCallDelta(arguments=bytes(block.tool_use.input).decode(), part=part))
    elif block.reasoning_content is not None:
        told = block.reasoning_content
        if told.reasoning_text is not None:
            events.append(ev.ReasoningDelta(text=told.reasoning_text.text, part=part))
            if told.reasoning_text.signature:
                events.append(ev.ReasoningSignature(signature=told.reasoning_text.signature, maker=NAME, part=part))
        elif told.redacted_content is not None:
            events.append(ev.ReasoningSignature(signature=told.redacted_content, maker=NAME, redacted=True, part=part))
    elif block.citations_content is not None:
        text = "".join(piece.text for piece in block.citations_content.content or ())
        events.append(ev.TextDelta(text=text, part=part))
        events += [annotated(citation, part) for citation in block.citations_content.citations or ()]
    else:
        kind = next(iter(_members.decode(raw)), "unknown")
        events.append(ev.NativeOutput(kind=kind, raw=Raw(bytes(raw)), maker=NAME, part=part))


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse."""
    events: list[ev.Event] = [ev.Started(id="", model="", created_s=0)]
    try:
        answer = _answer.decode(body)
        body.decode()
        if answer.output is None or answer.output.message is None or answer.stop_reason is None:
            raise MalformedResponse("the upstream's answer is not a Converse response")
        for part, raw in enumerate(answer.output.message.content or ()):
            _whole_block(raw, part, events)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a Converse response") from exc
    events.append(finished(answer.stop_reason))
    if bytes(answer.usage)[:1] == b"{":
        events.append(ev.UsageReported(usage=decode_usage(answer.usage)))
    return [*events, ev.Ended()]


class BedrockStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        self._messages = EventStreamDecoder()
        self._parts: dict[int, int] = {}
        self._finished = False
        self._ended = False
        self._failed: AttemptError | None = None

    def feed(self, chunk: bytes) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        events: list[ev.Event] = []
        try:
            for message in self._messages.feed(chunk):
                self._take(message, events)
        except AttemptError as error:
            if not events:
                raise
            self._failed = error  # what came before it is told first
        return events

    def _take(self, message: EventStreamMessage, events: list[ev.Event]) -> None:
        if self._ended:
            return
        kind = message.headers.get(":message-type", "event")
        if kind != "event":
            raise stream_error(message.headers.get(":exception-type") or message.headers.get(":error-code", ""))
        try:
            self._read(message.headers.get(":event-type", ""), _event.decode(message.payload or b"{}"), events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, kind: str, told: _Event, events: list[ev.Event]) -> None:
        match kind:
            case "contentBlockDelta":
                if told.delta is not None:
                    self._delta(told.delta, self._part(told.content_block_index), events)
            case "contentBlockStart":
                part = self._part(told.content_block_index)
                use = _start.decode(told.start).tool_use if bytes(told.start)[:1] == b"{" else None
                if use is not None and use.type is None:
                    events.append(ev.ToolCallStarted(id=use.tool_use_id or f"tooluse_{part}", name=use.name, part=part))
            case "messageStart":
                events.append(ev.Started(id="", model="", created_s=0))
            case "messageStop":
                self._finished = True
                events.append(finished(told.stop_reason or ""))
            case "metadata":
                if bytes(told.usage)[:1] == b"{":
                    events.append(ev.UsageReported(usage=decode_usage(told.usage)))
                if self._finished:
                    self._ended = True
                    events.append(ev.Ended())

    def _part(self, index: int) -> int:
        return self._parts.setdefault(index, len(self._parts))

    def _delta(self, delta: _Block, part: int, events: list[ev.Event]) -> None:
        if delta.text:
            events.append(ev.TextDelta(text=delta.text, part=part))
        elif delta.tool_use is not None:
            piece = delta.tool_use.input
            text = msgspec.json.decode(piece, type=str) if bytes(piece)[:1] == b'"' else ""
            if text:
                events.append(ev.ToolCallDelta(arguments=text, part=part))
        elif delta.reasoning_content is not None:
            told = delta.reasoning_content
            if told.text:
                events.append(ev.ReasoningDelta(text=told.text, part=part))
            elif told.signature:
                events.append(ev.ReasoningSignature(signature=told.signature, maker=NAME, part=part))
            elif told.redacted_content:
                events.append(ev.ReasoningSignature(signature=told.redacted_content, maker=NAME, redacted=True, part=part))
        elif bytes(delta.citation)[:1] == b"{":
            events.append(annotated(delta.citation, part))

    def end(self) -> list[ev.Event]:
        if self._failed is not None:
            raise self._failed
        if self._ended:
            return []
        if not self._finished or not self._messages.whole:
            raise StreamCut("the upstream's stream ended before its answer was whole")
        self._ended = True
        return [ev.Ended()]
