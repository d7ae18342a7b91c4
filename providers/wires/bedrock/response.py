"""Converse answers to events, streamed and whole.

A stream ends with its metadata, which comes after the message has stopped; one that ends between the two is whole, but for its usage.
A block that the provider made for itself (a tool that it runs, an image) is native output, streamed or not in the same form.
"""

from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import MalformedResponse, UpstreamError
from contract.finish import Finish, FinishReason
from contract.usage import Usage
from providers.eventstream import EventStreamDecoder, EventStreamMessage
from providers.wires.bedrock.errors import stream_error
from providers.wires.bedrock.models import NAME
from providers.wires.bedrock.native import NativeBlock
from providers.wires.decoding import Decoding
from providers.wires.failure import failure
from providers.wires.tiers import tier_in, without_counts_in

_NULL = Raw(b"null")
_EMPTY = Raw(b"{}")
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
_SERVER = "server_tool_use"  # a client's own tools have no type, or tool_use


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


class _Fields(msgspec.Struct):
    """What was asked for by `additionalModelResponseFieldPaths`."""

    stop_sequence: str | None = None


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: Raw = _EMPTY
    delta: _Block | None = None
    stop_reason: str | None = None
    additional_model_response_fields: _Fields | None = None
    usage: Raw = _NULL
    service_tier: Raw = _NULL


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
    additional_model_response_fields: _Fields | None = None
    usage: Raw = _NULL
    service_tier: Raw = _NULL


_answer = msgspec.json.Decoder(_Answer)
_block = msgspec.json.Decoder(_Block)
_event = msgspec.json.Decoder(_Event)
_start = msgspec.json.Decoder(_Start)
_counts = msgspec.json.Decoder(_Counts)
_citation = msgspec.json.Decoder(_Citation)
_members = msgspec.json.Decoder(dict[str, Any])


def decode_usage(raw: Raw, tier: Raw = _NULL) -> Usage:
    """Bedrock's counts to disjoint classes: the input excludes what the cache gave and took. `tier`: the answer's `serviceTier`."""
    kept = Raw(bytes(raw))
    try:
        given = _counts.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept, service_tier=tier_in(tier))
    hour = sum(detail.input_tokens for detail in given.cache_details or () if detail.ttl == "1h")
    write = given.cache_write_input_tokens
    beyond = write is not None and hour > write
    hour = hour if write is None else min(hour, write)
    return Usage(
        input_uncached=given.input_tokens,
        cache_read=given.cache_read_input_tokens,
        cache_write_5m=None if write is None else write - hour,
        cache_write_1h=hour if given.cache_details else None,
        output_visible=given.output_tokens,
        source="estimated" if beyond else "provider",
        raw=kept,
        service_tier=tier_in(tier),
    )


def finished(native: str, fields: _Fields | None) -> ev.Finished:
    """Raises UpstreamError for a reason that means a failure."""
    if native in FAILURES:
        raise failure(UpstreamError, 200)
    matched = fields.stop_sequence if fields is not None and native == "stop_sequence" else None
    return ev.Finished(finish=Finish(_REASONS.get(native, "unknown"), native or None, matched))


def annotated(raw: Raw, part: int) -> ev.Annotated:
    kept = Raw(bytes(raw))
    try:
        told = _citation.decode(kept)
    except msgspec.ValidationError:
        told = _Citation()
    url = told.location.web.url if told.location is not None and told.location.web is not None else None
    text = "".join(source.text for source in told.source_content or ()) or None
    return ev.Annotated(annotation=kept, maker=NAME, url=url, title=told.title, cited_text=text, part=part)


def _reasoned(told: _ReasoningText, part: int) -> list[ev.Event]:
    """Reasoning that nothing signs is closed too, so that it is known whose it was when it comes back."""
    text: list[ev.Event] = [ev.ReasoningDelta(text=told.text, part=part)] if told.text else []
    return [*text, ev.ReasoningSignature(signature=told.signature or "", maker=NAME, part=part)] if told.text or told.signature else []


def _call(use: _ToolUse, part: int) -> ev.ToolCallStarted:
    return ev.ToolCallStarted(id=use.tool_use_id or f"tooluse_{part}", name=use.name, part=part)


def _whole_block(raw: Raw, part: int, events: list[ev.Event]) -> None:
    block = _block.decode(raw)
    if block.text is not None:
        if block.text:
            events.append(ev.TextDelta(text=block.text, part=part))
    elif block.tool_use is not None and block.tool_use.type != _SERVER:
        given = bytes(block.tool_use.input).decode()
        events += [_call(block.tool_use, part), ev.ToolCallDelta(arguments="" if given == "null" else given, part=part)]
    elif block.reasoning_content is not None:
        told = block.reasoning_content
        if told.reasoning_text is not None:
            events += _reasoned(told.reasoning_text, part)
        elif told.redacted_content is not None:
            events.append(ev.ReasoningSignature(signature=told.redacted_content, maker=NAME, redacted=True, part=part))
    elif block.citations_content is not None:
        if text := "".join(piece.text for piece in block.citations_content.content or ()):
            events.append(ev.TextDelta(text=text, part=part))
        events += [annotated(citation, part) for citation in block.citations_content.citations or ()]
    else:
        events.append(_native(_members.decode(raw), part))


def _native(block: dict[str, Any], part: int) -> ev.NativeOutput:
    return ev.NativeOutput(kind=next(iter(block), "unknown"), raw=Raw(msgspec.json.encode(block)), maker=NAME, part=part)


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
    events.append(finished(answer.stop_reason, answer.additional_model_response_fields))
    if bytes(answer.usage)[:1] != b"{":
        return [*events, ev.Ended(without_counts_in(answer.service_tier))]
    return [*events, ev.UsageReported(usage=decode_usage(answer.usage, answer.service_tier)), ev.Ended()]


class BedrockStreamDecoder(Decoding[EventStreamMessage]):
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        self._messages = EventStreamDecoder()
        super().__init__(self._messages)
        self._parts: dict[int, int] = {}
        self._calls: set[int] = set()
        self._native: dict[int, NativeBlock] = {}
        self._unsigned: set[int] = set()
        self._started = False
        self._finished = False
        self._tier = _NULL

    def told_usage(self) -> Usage | None:
        return without_counts_in(self._tier)

    def _take(self, message: EventStreamMessage, events: list[ev.Event]) -> None:
        if message.headers.get(":message-type", "event") != "event":
            raise stream_error(message.headers.get(":exception-type") or message.headers.get(":error-code", ""), message.payload)
        if not self._started:
            self._started = True
            events.append(ev.Started(id="", model="", created_s=0))
        try:
            self._read(message.headers.get(":event-type", ""), message.payload or b"{}", events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, kind: str, payload: bytes, events: list[ev.Event]) -> None:
        told = _event.decode(payload)
        part = self._part(told.content_block_index)
        match kind:
            case "contentBlockDelta" if part in self._native:
                self._native[part].add(payload)
            case "contentBlockDelta":
                if told.delta is not None:
                    self._delta(told.delta, part, events)
            case "contentBlockStart":
                self._open(told.start, part, events)
            case "contentBlockStop":
                self._block_ended(part, events)
            case "messageStop" if not self._finished:
                events.append(finished(told.stop_reason or "", told.additional_model_response_fields))
                self._finished = True
            case "metadata":
                self._tier = Raw(bytes(told.service_tier))
                if bytes(told.usage)[:1] == b"{":
                    events.append(ev.UsageReported(usage=decode_usage(told.usage, told.service_tier)))
                if self._finished:
                    self._ended = True
                    events.append(ev.Ended())

    def _part(self, index: int) -> int:
        return self._parts.setdefault(index, len(self._parts))

    def _open(self, start: Raw, part: int, events: list[ev.Event]) -> None:
        use = _start.decode(start).tool_use
        if use is not None and use.type != _SERVER:
            if part in self._calls:
                raise MalformedResponse("a tool call of the upstream's stream began twice")
            self._calls.add(part)
            events.append(_call(use, part))
        elif members := _members.decode(start):
            self._native[part] = NativeBlock(members)

    def _block_ended(self, part: int, events: list[ev.Event]) -> None:
        if part in self._unsigned:
            events.append(ev.ReasoningSignature(signature="", maker=NAME, part=part))
        if part in self._native:
            events.append(_native(self._native.pop(part).whole(), part))

    def _delta(self, delta: _Block, part: int, events: list[ev.Event]) -> None:
        if delta.text:
            events.append(ev.TextDelta(text=delta.text, part=part))
        elif delta.tool_use is not None:
            if part not in self._calls:
                raise MalformedResponse("a tool call of the upstream's stream has no beginning")
            piece = delta.tool_use.input
            text = msgspec.json.decode(piece, type=str) if bytes(piece)[:1] == b'"' else ""
            if text:
                events.append(ev.ToolCallDelta(arguments=text, part=part))
        elif delta.reasoning_content is not None:
            self._reasoning(delta.reasoning_content, part, events)
        elif bytes(delta.citation)[:1] == b"{":
            events.append(annotated(delta.citation, part))

    def _reasoning(self, told: _Reasoning, part: int, events: list[ev.Event]) -> None:
        if told.text:
            self._unsigned.add(part)
            events.append(ev.ReasoningDelta(text=told.text, part=part))
        elif signature := told.signature or told.redacted_content:
            self._unsigned.discard(part)
            events.append(ev.ReasoningSignature(signature=signature, maker=NAME, redacted=not told.signature, part=part))

    def _close(self, events: list[ev.Event]) -> None:
        """Usage comes behind the end of the message, and may be lost without the answer being cut."""
        if not self._finished or not self._messages.whole:
            super()._close(events)
        events.append(ev.Ended())
