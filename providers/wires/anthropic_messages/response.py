"""Anthropic's answers to events, streamed and whole."""

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import MalformedResponse
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.anthropic_messages.errors import in_band_error
from providers.wires.anthropic_messages.finish import decode_finish
from providers.wires.anthropic_messages.usage import decode_usage, ending, merged
from providers.wires.decoding import Decoding

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


class Message(msgspec.Struct):
    """A message as far as it is read."""

    id: str = ""
    type: str | None = None
    model: str = ""
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = _NULL
    container: "_Container | None" = None
    error: Raw = _NULL


class Delta(msgspec.Struct):
    """A piece of a block as far as it is read."""

    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Raw = _NULL


class _Container(msgspec.Struct):
    id: str | None = None


class MessageDelta(msgspec.Struct):
    """What the end of a message says of it."""

    stop_reason: str | None = None
    stop_sequence: str | None = None
    container: _Container | None = None


class StreamEvent(msgspec.Struct):
    """One event of a stream; which members it has depends on its type."""

    type: str = ""
    index: int = 0
    delta: Raw = _NULL
    content_block: Raw = _NULL
    message: Message | None = None
    usage: Raw = _NULL


class _Citation(msgspec.Struct):
    url: str | None = None
    source: str | None = None
    title: str | None = None
    document_title: str | None = None
    cited_text: str | None = None


stream_event = msgspec.json.Decoder(StreamEvent)
block_decoder = msgspec.json.Decoder(Block)
delta_decoder = msgspec.json.Decoder(Delta)
message_delta_decoder = msgspec.json.Decoder(MessageDelta)
message_decoder = msgspec.json.Decoder(Message)
_citation = msgspec.json.Decoder(_Citation)
_members = msgspec.json.Decoder(dict[str, Raw])


KNOWN = frozenset({"content_block_delta", "content_block_start", "content_block_stop", "message_start", "message_delta", "message_stop", "error"})


class _Typed(msgspec.Struct):
    type: str = ""


_typed = msgspec.json.Decoder(_Typed)


def type_of(data: bytes) -> str:
    """The type of an event that is otherwise not of the shape that we read; "": it has none."""
    try:
        return _typed.decode(data).type
    except msgspec.DecodeError:
        return ""


def annotated(raw: Raw, part: int) -> ev.Annotated:
    """A citation of any of Anthropic's kinds."""
    kept = Raw(bytes(raw))
    try:
        cited = _citation.decode(kept)
    except msgspec.ValidationError:
        cited = _Citation()
    url, title = cited.url or cited.source, cited.title or cited.document_title
    return ev.Annotated(annotation=kept, maker=NAME, url=url, title=title, cited_text=cited.cited_text, part=part)


class _Native(msgspec.Struct):
    """A block of a kind that only Anthropic has, while it comes in: as it began, its input's text so far, and other members' so far."""

    began: Raw
    input: list[str]
    members: dict[str, str]


class _Blocks:
    """Content blocks to events; a block is a part."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}
        self._native: dict[int, _Native] = {}
        self._empty_calls: dict[int, Raw] = {}  # index -> the input that a call began with, until a piece of it comes

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
                self._empty_calls[index] = Raw(bytes(block.input))
                events.append(ev.ToolCallStarted(id=block.id or f"toolu_{index}", name=block.name or "", part=part))
            case _:
                self._native[index] = _Native(Raw(bytes(raw)), [], {})

    def delta(self, index: int, raw: Raw, events: list[ev.Event]) -> None:
        part = self._parts.get(index)
        if part is None:
            raise MalformedResponse("the upstream's stream has a delta of a block that it did not begin")
        if index in self._native:
            _grow(self._native[index], raw)
            return
        delta = delta_decoder.decode(raw)
        if delta.text:
            events.append(ev.TextDelta(text=delta.text, part=part))
        elif delta.partial_json:
            self._empty_calls.pop(index, None)
            events.append(ev.ToolCallDelta(arguments=delta.partial_json, part=part))
        elif delta.thinking:
            events.append(ev.ReasoningDelta(text=delta.thinking, part=part))
        elif delta.signature:
            events.append(ev.ReasoningSignature(signature=delta.signature, maker=NAME, part=part))
        elif bytes(delta.citation) != b"null":
            events.append(annotated(delta.citation, part))

    def stop(self, index: int, events: list[ev.Event]) -> None:
        """A call without a piece of input has the one that it began with: `{}`, as Anthropic sends it."""
        given = self._empty_calls.pop(index, None)
        if given is not None and bytes(given) != b"null":
            events.append(ev.ToolCallDelta(arguments=bytes(given).decode(), part=self._parts[index]))
        native = self._native.pop(index, None)
        if native is not None:
            kind = block_decoder.decode(native.began).type
            events.append(ev.NativeOutput(kind=kind, raw=_whole(native), maker=NAME, part=self._parts[index]))


def _grow(native: _Native, raw: Raw) -> None:
    """A piece of a block that we do not read: of its input, or of the members that the piece names (compaction_delta)."""
    for name, value in _members.decode(raw).items():
        if name != "type" and bytes(value)[:1] == b'"':
            text = msgspec.json.decode(value, type=str)
            if name == "partial_json":
                native.input.append(text)
            else:
                native.members[name] = native.members.get(name, "") + text


def _whole(native: _Native) -> Raw:
    """The block as if it had come at once; pieces of input that do not make up JSON are left out."""
    if not native.input and not native.members:
        return native.began
    members: dict[str, Any] = {**_members.decode(native.began), **native.members}
    with suppress(msgspec.DecodeError):
        members["input"] = Raw(msgspec.json.encode(msgspec.json.decode("".join(native.input))))
    return Raw(msgspec.json.encode(members))


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    try:
        message = message_decoder.decode(body)
        body.decode()
        if message.type == "error" or bytes(message.error) != b"null":
            raise in_band_error(body)
        if message.content is None:
            raise MalformedResponse("the upstream's answer holds no content")
        events: list[ev.Event] = [ev.Started(id=message.id, model=message.model, created_s=0)]
        blocks = _Blocks()
        for index, raw in enumerate(message.content):
            blocks.start(index, raw, events)
            blocks.stop(index, events)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a message") from exc
    events.append(ev.Finished(finish=decode_finish(message.stop_reason, message.stop_sequence)))
    if bytes(message.usage) != b"null":
        events.append(ev.UsageReported(usage=decode_usage(message.usage)))
    return [*events, ev.Ended()]


class MessagesStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(SseDecoder())
        self._blocks = _Blocks()
        self._usage = _NULL
        self._started = False
        self._ending = False
        self._finished = False

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        if event.data is None:
            return
        if event.name == b"error":
            raise in_band_error(event.data)
        try:
            told = stream_event.decode(event.data)
            self._read(told, event.data, events)
        except msgspec.ValidationError as exc:
            if type_of(event.data) in KNOWN:
                raise MalformedResponse("an event of the upstream's stream is not of its shape") from exc
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid JSON") from exc

    def _read(self, told: StreamEvent, data: bytes, events: list[ev.Event]) -> None:
        match told.type:
            case "content_block_delta":
                self._blocks.delta(told.index, told.delta, events)
            case "content_block_start":
                if not self._started:
                    raise MalformedResponse("the upstream's stream does not begin with its message")
                self.stepped = True
                self._blocks.start(told.index, told.content_block, events)
            case "content_block_stop":
                self.stepped = True
                self._blocks.stop(told.index, events)
            case "message_start" if not self._started:
                self._started = True
                message = told.message or Message()
                self._usage = Raw(bytes(message.usage))
                events.append(ev.Started(id=message.id, model=message.model, created_s=0))
            case "message_delta":
                self._message_delta(told, events)
            case "message_stop":
                self._end(events)
            case "error":
                raise in_band_error(data)
            case _:
                pass  # ping, and what is not known yet

    def _message_delta(self, told: StreamEvent, events: list[ev.Event]) -> None:
        delta = message_delta_decoder.decode(told.delta) if bytes(told.delta) != b"null" else MessageDelta()
        self._usage, self._ending = (merged if self._ending else ending)(self._usage, told.usage), True
        if not delta.stop_reason or self._finished:
            return
        self._finished = True
        events.append(ev.Finished(finish=decode_finish(delta.stop_reason, delta.stop_sequence)))

    def told_usage(self) -> Usage | None:
        return decode_usage(self._usage) if bytes(self._usage)[:1] == b"{" else None

    def _close(self, events: list[ev.Event]) -> None:
        if not self._finished:
            super()._close(events)
        self._end(events)

    def _end(self, events: list[ev.Event]) -> None:
        self._ended = True
        if not self._finished:
            events.append(ev.Finished(finish=decode_finish(None)))
        if bytes(self._usage) != b"null":
            events.append(ev.UsageReported(usage=decode_usage(self._usage)))
        events.append(ev.Ended())
