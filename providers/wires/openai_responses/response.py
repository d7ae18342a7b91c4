"""Responses answers to events, streamed and whole. The terminal event's own response is the truth of status and usage.

Events: https://platform.openai.com/docs/api-reference/responses-streaming; those that are not known are passed over.
"""

from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.finish import Finish
from contract.raw import ABSENT
from providers.sse import SseDecoder, SseEvent
from providers.wires.openai_chat.errors import in_band_error
from providers.wires.openai_responses.usage import decode_usage

NAME = "openai_responses"
_NULL = Raw(b"null")


class _Details(msgspec.Struct):
    reason: str | None = None


class ResponseHead(msgspec.Struct):
    """A response, as far as it is read."""

    id: str = ""
    object: str | None = None
    model: str = ""
    created_at: float = 0
    status: str | None = None
    output: list[Raw] | None = None
    usage: Raw = _NULL
    error: Raw = _NULL
    incomplete_details: _Details | None = None


class StreamEvent(msgspec.Struct):
    """One event of a stream; which members it has depends on its type."""

    type: str = ""
    delta: Any = None
    text: str | None = None
    arguments: str | None = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    item: Raw = _NULL
    annotation: Raw = _NULL
    logprobs: Raw = _NULL
    response: Raw = _NULL


class _Piece(msgspec.Struct):
    type: str = ""
    text: str = ""
    refusal: str = ""
    annotations: list[Raw] | None = None
    logprobs: Raw = _NULL


class Item(msgspec.Struct):
    """An output item, as far as it is read."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: Any = None
    content: list[_Piece] | None = None
    summary: list[_Piece] | None = None
    encrypted_content: str | None = None


class _Annotation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    filename: str | None = None
    start_index: int | None = None
    end_index: int | None = None


stream_event = msgspec.json.Decoder(StreamEvent)
head_decoder = msgspec.json.Decoder(ResponseHead)
item_decoder = msgspec.json.Decoder(Item)
_annotation = msgspec.json.Decoder(_Annotation)
_CALLS = ("function_call", "custom_tool_call")


def annotated(raw: Raw, part: int) -> ev.Annotated:
    """An annotation of any of OpenAI's kinds."""
    kept = Raw(bytes(raw))
    try:
        told = _annotation.decode(kept)
    except msgspec.ValidationError:
        told = _Annotation()
    return ev.Annotated(
        annotation=kept, maker=NAME, url=told.url, title=told.title or told.filename, start=told.start_index, end=told.end_index, part=part
    )


def finish_of(head: ResponseHead, has_calls: bool) -> Finish:
    """Why a whole answer ended. Status and, where it is incomplete, its reason."""
    if head.status == "incomplete":
        reason = head.incomplete_details.reason if head.incomplete_details is not None else None
        match reason:
            case "max_output_tokens":
                return Finish("length", reason)
            case "content_filter":
                return Finish("content_filter", reason)
        return Finish("unknown", reason or "incomplete")
    if head.status in ("completed", "complete"):  # the second by some that speak this format
        return Finish("tool_calls" if has_calls else "stop", "completed")
    return Finish("unknown", head.status)


def logprobs_of(raw: Raw) -> Raw:
    """In chat's object, as events carry them; nothing for an empty list."""
    return Raw(b'{"content":%b}' % bytes(raw)) if bytes(raw)[:1] == b"[" and bytes(raw)[1:].strip() != b"]" else ABSENT


class _Items:
    """Output items to events, as they come in pieces or whole."""

    def __init__(self) -> None:
        self.has_calls = False
        self._parts: dict[tuple[int, object], int] = {}
        self._told: set[tuple[int, object]] = set()  # parts whose text came in pieces
        self._summaries: dict[int, int] = {}  # output index -> the summary that was told last

    def part(self, output: int, content: object) -> int:
        return self._parts.setdefault((output, content), len(self._parts))

    def added(self, output: int, raw: Raw, events: list[ev.Event]) -> None:
        item = item_decoder.decode(raw)
        if item.type in _CALLS and (output, "call") not in self._parts:
            self.has_calls = True
            call_id = item.call_id or item.id or f"call_{output}"
            events.append(ev.ToolCallStarted(id=call_id, name=item.name or "", part=self.part(output, "call")))

    def text(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, told.content_index)
        self._told.add(key)
        events.append(ev.TextDelta(text=str(told.delta or ""), part=self.part(*key), logprobs=logprobs_of(told.logprobs)))

    def refusal(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, told.content_index)
        self._told.add(key)
        events.append(ev.RefusalDelta(text=str(told.delta or ""), part=self.part(*key)))

    def arguments(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, "call")
        if key not in self._parts:
            raise MalformedResponse("the upstream's stream has arguments of a call that it did not begin")
        self._told.add(key)
        if told.delta:
            events.append(ev.ToolCallDelta(arguments=str(told.delta), part=self._parts[key]))

    def reasoning(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, "reasoning")
        text = str(told.delta or "")
        index = told.summary_index if told.type.startswith("response.reasoning_summary") else -1
        if key in self._told and self._summaries.get(told.output_index) != index:
            text = "\n\n" + text
        self._summaries[told.output_index] = index
        self._told.add(key)
        events.append(ev.ReasoningDelta(text=text, part=self.part(*key)))

    def annotation(self, told: StreamEvent, events: list[ev.Event]) -> None:
        events.append(annotated(told.annotation, self.part(told.output_index, told.content_index)))

    def done(self, output: int, raw: Raw, events: list[ev.Event], *, whole: bool = False) -> None:
        """An item's end: what of it did not come in pieces. `whole`: none of it did."""
        item = item_decoder.decode(raw)
        if item.type in _CALLS:
            self._call(output, item, raw, events)
        elif item.type == "message":
            for index, piece in enumerate(item.content or ()):
                self._piece(output, index, piece, events, whole)
        elif item.type == "reasoning":
            self._reasoning(output, item, events)
        else:
            events.append(ev.NativeOutput(kind=item.type, raw=Raw(bytes(raw)), maker=NAME, part=self.part(output, "native")))

    def _call(self, output: int, item: Item, raw: Raw, events: list[ev.Event]) -> None:
        self.added(output, raw, events)
        text = item.arguments if item.type == "function_call" else item.input
        if (output, "call") not in self._told and text:
            events.append(ev.ToolCallDelta(arguments=str(text), part=self._parts[output, "call"]))

    def _piece(self, output: int, index: int, piece: _Piece, events: list[ev.Event], whole: bool) -> None:
        if (output, index) not in self._told:
            part = self.part(output, index)
            if piece.refusal:
                events.append(ev.RefusalDelta(text=piece.refusal, part=part))
            elif piece.text:
                events.append(ev.TextDelta(text=piece.text, part=part, logprobs=logprobs_of(piece.logprobs)))
        if whole:
            events += [annotated(raw, self.part(output, index)) for raw in piece.annotations or ()]

    def _reasoning(self, output: int, item: Item, events: list[ev.Event]) -> None:
        key = (output, "reasoning")
        text = "\n\n".join(piece.text for piece in (*(item.summary or ()), *(item.content or ())))
        if key not in self._told and text:
            events.append(ev.ReasoningDelta(text=text, part=self.part(*key)))
        if item.encrypted_content:
            events.append(ev.ReasoningSignature(signature=item.encrypted_content, maker=NAME, id=item.id, part=self.part(*key)))


def _terminal(head: ResponseHead, has_calls: bool) -> list[ev.Event]:
    events: list[ev.Event] = [ev.Finished(finish=finish_of(head, has_calls))]
    if bytes(head.usage)[:1] == b"{":
        events.append(ev.UsageReported(usage=decode_usage(head.usage)))
    return [*events, ev.Ended()]


def _started(head: ResponseHead) -> ev.Started:
    return ev.Started(id=head.id, model=head.model, created_s=int(head.created_at))


def read_head(body: bytes) -> ResponseHead:
    """A whole response. Raises MalformedResponse for what is none, or what its error means."""
    try:
        head = head_decoder.decode(body)
        if not body.isascii():
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    if bytes(head.error)[:1] == b"{" or head.object == "error":
        raise in_band_error(body)
    if head.output is None:
        raise MalformedResponse("the upstream's answer holds no output")
    return head


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    head = read_head(body)
    if head.status in ("queued", "in_progress", "cancelled", "failed"):
        raise MalformedResponse("the upstream's answer is not whole")
    events: list[ev.Event] = [_started(head)]
    items = _Items()
    try:
        for index, raw in enumerate(head.output or ()):
            items.done(index, raw, events, whole=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    return [*events, *_terminal(head, items.has_calls)]


_TEXTS = {
    "response.output_text.delta": _Items.text,
    "response.refusal.delta": _Items.refusal,
    "response.function_call_arguments.delta": _Items.arguments,
    "response.custom_tool_call_input.delta": _Items.arguments,
    "response.reasoning_summary_text.delta": _Items.reasoning,
    "response.reasoning_text.delta": _Items.reasoning,
    "response.output_text.annotation.added": _Items.annotation,
}
TERMINAL = frozenset({"response.completed", "response.incomplete"})
FAILED = frozenset({"response.failed", "error"})


class ResponsesStreamDecoder:
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._items = _Items()
        self._started = False
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
            self._read(stream_event.decode(event.data), event.data, events)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, told: StreamEvent, data: bytes, events: list[ev.Event]) -> None:
        kind = told.type
        if (text := _TEXTS.get(kind)) is not None:
            text(self._items, told, events)
        elif kind == "response.output_item.added":
            self._items.added(told.output_index, told.item, events)
        elif kind == "response.output_item.done":
            self._items.done(told.output_index, told.item, events)
        elif kind == "response.created" and not self._started:
            self._started = True
            events.append(_started(head_decoder.decode(told.response)))
        elif kind in TERMINAL:
            events += _terminal(head_decoder.decode(told.response), self._items.has_calls)
            self._ended = True
        elif kind in FAILED:
            raise stream_error(told, data)

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


def stream_error(told: StreamEvent, data: bytes) -> AttemptError:
    """What a failed response, or an error event, means."""
    if told.type == "error":
        return in_band_error(data)
    return in_band_error(bytes(told.response))
