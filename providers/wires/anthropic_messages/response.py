"""Anthropic's answers to events, streamed and whole."""

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.raw import ABSENT
from providers.sse import SseDecoder, SseEvent
from providers.wires.anthropic_messages.errors import in_band_error
from providers.wires.anthropic_messages.finish import decode_finish
from providers.wires.anthropic_messages.usage import decode_usage, merged

NAME = "anthropic_messages"
_NULL = Raw(b"null")


class Block(msgspec.Struct):
    """A content block as far as it is read."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = _NULL
    citations: list[Raw] | None = None


class _Message(msgspec.Struct):
    id: str = ""
    type: str | None = None
    model: str = ""
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = _NULL


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Raw = _NULL
    stop_reason: str | None = None
    stop_sequence: str | None = None


class StreamEvent(msgspec.Struct):
    """One event of a stream; which members it has depends on its type."""

    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: Raw = _NULL
    message: _Message | None = None
    usage: Raw = _NULL


class _Citation(msgspec.Struct):
    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


stream_event = msgspec.json.Decoder(StreamEvent)
block_decoder = msgspec.json.Decoder(Block)
message_decoder = msgspec.json.Decoder(_Message)
_citation = msgspec.json.Decoder(_Citation)
_members = msgspec.json.Decoder(dict[str, Raw])


def annotated(raw: Raw, part: int) -> ev.Annotated:
    """A citation of any of Anthropic's kinds."""
    kept = Raw(bytes(raw))
    try:
        cited = _citation.decode(kept)
    except msgspec.ValidationError:
        cited = _Citation()
    url, title = cited.url or cited.source, cited.title or cited.document_title
    return ev.Annotated(annotation=kept, maker=NAME, url=url, title=title, cited_text=cited.cited_text, part=part)


class _Blocks:
    """Content blocks to events; a block is a part."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}
        self._native: dict[int, tuple[Raw, list[str]]] = {}  # index -> a block of a kind that only Anthropic has, and its input so far

    def start(self, index: int, raw: Raw, events: list[ev.Event]) -> None:
        block = block_decoder.decode(raw)
        part = self._parts[index] = len(self._parts)
        match block.type:
            case "text":
                if block.text:
                    events.append(ev.TextDelta(text=block.text, part=part))
                events += [annotated(citation, part) for citation in block.citations or ()]
            case "thinking":
                if block.thinking:
                    events.append(ev.ReasoningDelta(text=block.thinking, part=part))
                if block.signature:
                    events.append(ev.ReasoningSignature(signature=block.signature, maker=NAME, part=part))
            case "redacted_thinking":
                events.append(ev.ReasoningSignature(signature=block.data or "", maker=NAME, redacted=True, part=part))
            case "tool_use":
                events.append(ev.ToolCallStarted(id=block.id or f"toolu_{index}", name=block.name or "", part=part))
            case _:
                self._native[index] = (Raw(bytes(raw)), [])

    def whole(self, index: int, raw: Raw, events: list[ev.Event]) -> None:
        """A block of a whole answer."""
        self.start(index, raw, events)
        block = block_decoder.decode(raw)
        if block.type == "tool_use":
            events.append(ev.ToolCallDelta(arguments=bytes(block.input).decode(), part=self._parts[index]))
        self.stop(index, events)

    def delta(self, index: int, delta: _Delta, events: list[ev.Event]) -> None:
        part = self._parts.get(index)
        if part is None:
            raise MalformedResponse("the upstream's stream has a delta of a block that it did not begin")
        if delta.text:
            events.append(ev.TextDelta(text=delta.text, part=part))
        elif delta.partial_json is not None:
            if index in self._native:
                self._native[index][1].append(delta.partial_json)
            elif delta.partial_json:
                events.append(ev.ToolCallDelta(arguments=delta.partial_json, part=part))
        elif delta.thinking:
            events.append(ev.ReasoningDelta(text=delta.thinking, part=part))
        elif delta.signature:
            events.append(ev.ReasoningSignature(signature=delta.signature, maker=NAME, part=part))
        elif bytes(delta.citation) != b"null":
            events.append(annotated(delta.citation, part))

    def stop(self, index: int, events: list[ev.Event]) -> None:
        raw, pieces = self._native.pop(index, (ABSENT, []))
        if raw:
            events.append(
                ev.NativeOutput(kind=block_decoder.decode(raw).type, raw=with_input(raw, "".join(pieces)), maker=NAME, part=self._parts[index])
            )


def with_input(raw: Raw, text: str) -> Raw:
    """A block with the input that came in pieces; pieces that do not make up JSON are left out."""
    if not text:
        return raw
    members: dict[str, Any] = dict(_members.decode(raw))
    with suppress(msgspec.DecodeError):
        members["input"] = Raw(msgspec.json.encode(msgspec.json.decode(text)))
    return Raw(msgspec.json.encode(members))


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    try:
        message = message_decoder.decode(body)
        body.decode()
        if message.type == "error":
            raise in_band_error(body)
        if message.content is None:
            raise MalformedResponse("the upstream's answer holds no content")
        events: list[ev.Event] = [ev.Started(id=message.id, model=message.model, created_s=0)]
        blocks = _Blocks()
        for index, raw in enumerate(message.content):
            blocks.whole(index, raw, events)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a message") from exc
    events.append(ev.Finished(finish=decode_finish(message.stop_reason or "", message.stop_sequence)))
    if bytes(message.usage) != b"null":
        events.append(ev.UsageReported(usage=decode_usage(message.usage)))
    return [*events, ev.Ended()]


class MessagesStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._blocks = _Blocks()
        self._usage = _NULL
        self._finished = False
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
        if event.data is None or self._ended:
            return
        try:
            self._read(stream_event.decode(event.data), event.data, events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, told: StreamEvent, data: bytes, events: list[ev.Event]) -> None:
        match told.type:
            case "content_block_delta":
                if told.delta is not None:
                    self._blocks.delta(told.index, told.delta, events)
            case "content_block_start":
                self._blocks.start(told.index, told.content_block, events)
            case "content_block_stop":
                self._blocks.stop(told.index, events)
            case "message_start":
                message = told.message or _Message()
                self._usage = Raw(bytes(message.usage))
                events.append(ev.Started(id=message.id, model=message.model, created_s=0))
            case "message_delta":
                self._message_delta(told, events)
            case "message_stop":
                self._ended = True
                events.append(ev.Ended())
            case "error":
                raise in_band_error(data)
            case _:
                pass  # ping, and what is not known yet

    def _message_delta(self, told: StreamEvent, events: list[ev.Event]) -> None:
        if told.delta is not None and told.delta.stop_reason and not self._finished:
            self._finished = True
            events.append(ev.Finished(finish=decode_finish(told.delta.stop_reason, told.delta.stop_sequence)))
        self._usage = merged(self._usage, told.usage)
        if bytes(self._usage) != b"null":
            events.append(ev.UsageReported(usage=decode_usage(self._usage)))

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
