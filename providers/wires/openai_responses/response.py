"""Responses answers to events, streamed and whole. The terminal event's own response is the truth of status and usage.

Events: https://platform.openai.com/docs/api-reference/responses-streaming; those that are not known are passed over.
"""

from typing import Any

import msgspec
from msgspec import Raw

from contract import events as ev
from contract.errors import AttemptError, MalformedResponse
from contract.finish import Finish
from contract.raw import ABSENT
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.decoding import Decoding
from providers.wires.openai_responses.errors import in_band_error
from providers.wires.openai_responses.usage import decode_usage
from providers.wires.tiers import is_told, without_counts

NAME = "openai_responses"
_NULL = Raw(b"null")
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Details(msgspec.Struct):
    reason: str | None = None


class ResponseHead(msgspec.Struct):
    """A response, as far as it is read."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    created_at: float | None = None
    status: str | None = None
    store: bool | None = None
    output: list[Raw] | None = None
    usage: Raw = _NULL
    error: Raw = _NULL
    incomplete_details: _Details | None = None
    service_tier: Raw = _NULL


class StreamEvent(msgspec.Struct, gc=False):
    """One event of a stream; which members it has depends on its type."""

    type: str = ""
    delta: Any = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    sequence_number: int | None = None
    item: Raw = _NULL
    annotation: Raw = _NULL
    logprobs: Raw = _NULL
    response: Raw = _NULL


class _Piece(msgspec.Struct):
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    logprobs: Raw = _NULL


class Item(msgspec.Struct):
    """An output item, as far as it is read. What its members hold differs by type: `arguments` is an object in a tool search."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: Any = None
    input: Any = None
    content: Raw = _NULL
    summary: Raw = _NULL
    encrypted_content: str | None = None


class _Annotation(msgspec.Struct):
    url: str | None = None
    title: str | None = None
    filename: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Kind(msgspec.Struct):
    type: str = ""


stream_event = msgspec.json.Decoder(StreamEvent)
head_decoder = msgspec.json.Decoder(ResponseHead)
item_decoder = msgspec.json.Decoder(Item)
_pieces = msgspec.json.Decoder(list[_Piece] | None)
_annotation = msgspec.json.Decoder(_Annotation)
_kind = msgspec.json.Decoder(_Kind)
CALLS = frozenset({"function_call", "custom_tool_call"})


def annotated(raw: Raw, part: int) -> ev.Annotated:
    """An annotation of any of OpenAI's kinds."""
    kept = Raw(bytes(raw))
    try:
        told = _annotation.decode(kept)
    except msgspec.ValidationError:
        told = _Annotation()
    place: dict[str, Any] = {"start": told.start_index, "end": told.end_index, "part": part}
    return ev.Annotated(annotation=kept, maker=NAME, url=told.url, title=told.title or told.filename, **place)


_INCOMPLETE = {
    "max_output_tokens": Finish("length", "max_output_tokens"),
    "content_filter": Finish("content_filter", "content_filter"),
}


def finish_of(head: ResponseHead, has_calls: bool) -> Finish:
    """Why a whole answer ended. Status and, where it is incomplete, its reason."""
    if head.status == "incomplete":
        reason = head.incomplete_details.reason if head.incomplete_details is not None else None
        return _INCOMPLETE.get(reason or "") or Finish("unknown", reason or "incomplete")
    if head.status in ("completed", "complete"):  # the second by some that speak this format
        return Finish("tool_calls" if has_calls else "stop", "completed")
    return Finish("unknown", head.status)


def logprobs_of(raw: Raw) -> Raw:
    """In chat's object, as events carry them; nothing for an empty list."""
    text = bytes(raw)
    return Raw(b'{"content":%b}' % text) if text[:1] == b"[" and text[1:].strip() != b"]" else ABSENT


class _Items:
    """Output items to events, as they come in pieces or whole."""

    def __init__(self) -> None:
        self.has_calls = False
        self._parts: dict[tuple[int, object], int] = {}
        self._told: set[tuple[int, object]] = set()  # parts whose text came in pieces
        self._thoughts: dict[int, tuple[bool, int]] = {}  # output index -> the piece of reasoning that was told last
        self._annotations: dict[tuple[int, object], int] = {}  # how many of a part were told

    @property
    def empty(self) -> bool:
        return not self._parts

    def part(self, output: int, content: object) -> int:
        return self._parts.setdefault((output, content), len(self._parts))

    def begun(self, told: StreamEvent, events: list[ev.Event]) -> None:
        item = item_decoder.decode(told.item)
        if item.type in CALLS:
            self._begin_call(told.output_index, item, events)

    def _begin_call(self, output: int, item: Item, events: list[ev.Event]) -> int:
        key = (output, "call")
        if key not in self._parts:
            self.has_calls = True
            call_id = item.call_id or item.id or f"call_{output}"
            events.append(ev.ToolCallStarted(id=call_id, name=item.name or "", part=self.part(*key)))
        return self._parts[key]

    def text(self, told: StreamEvent, events: list[ev.Event]) -> None:
        logprobs = logprobs_of(told.logprobs)
        if not told.delta and not logprobs:
            return
        key = (told.output_index, told.content_index)
        self._told.add(key)
        events.append(ev.TextDelta(text=str(told.delta or ""), part=self.part(*key), logprobs=logprobs))

    def refusal(self, told: StreamEvent, events: list[ev.Event]) -> None:
        if told.delta:
            key = (told.output_index, told.content_index)
            self._told.add(key)
            events.append(ev.RefusalDelta(text=str(told.delta), part=self.part(*key)))

    def arguments(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, "call")
        if key not in self._parts:
            raise MalformedResponse("the upstream's stream has arguments of a call that it did not begin")
        if told.delta:
            self._told.add(key)
            events.append(ev.ToolCallDelta(arguments=str(told.delta), part=self._parts[key]))

    def summary(self, told: StreamEvent, events: list[ev.Event]) -> None:
        self._think(told, (False, told.summary_index), events)

    def thought(self, told: StreamEvent, events: list[ev.Event]) -> None:
        self._think(told, (True, told.content_index), events)

    def _think(self, told: StreamEvent, piece: tuple[bool, int], events: list[ev.Event]) -> None:
        """Pieces of one item's reasoning are paragraphs of one text."""
        if not told.delta:
            return
        key = (told.output_index, "reasoning")
        last = self._thoughts.get(told.output_index, piece)
        self._thoughts[told.output_index] = piece
        self._told.add(key)
        text = str(told.delta)
        events.append(ev.ReasoningDelta(text=text if last == piece else f"\n\n{text}", part=self.part(*key)))

    def annotation(self, told: StreamEvent, events: list[ev.Event]) -> None:
        key = (told.output_index, told.content_index)
        self._annotations[key] = self._annotations.get(key, 0) + 1
        events.append(annotated(told.annotation, self.part(*key)))

    def done(self, told: StreamEvent, events: list[ev.Event]) -> None:
        self.item(told.output_index, told.item, events)

    def item(self, output: int, raw: Raw, events: list[ev.Event]) -> None:
        """An item's end: what of it did not come in pieces, which is all of it in a whole answer."""
        item = item_decoder.decode(raw)
        if item.type in CALLS:
            self._call(output, item, events)
        elif item.type == "message":
            for index, piece in enumerate(_pieces.decode(item.content) or ()):
                self._piece((output, index), piece, events)
        elif item.type == "reasoning":
            self._reasoning(output, item, events)
        else:
            events.append(ev.NativeOutput(kind=item.type, raw=Raw(bytes(raw)), maker=NAME, part=self.part(output, "native")))

    def _call(self, output: int, item: Item, events: list[ev.Event]) -> None:
        part = self._begin_call(output, item, events)
        text = item.arguments if item.type == "function_call" else item.input
        if (output, "call") not in self._told and text:
            events.append(ev.ToolCallDelta(arguments=str(text), part=part))

    def _piece(self, key: tuple[int, int], piece: _Piece, events: list[ev.Event]) -> None:
        if key not in self._told:
            if piece.refusal:
                events.append(ev.RefusalDelta(text=piece.refusal, part=self.part(*key)))
            elif piece.text:
                events.append(ev.TextDelta(text=piece.text, part=self.part(*key), logprobs=logprobs_of(piece.logprobs)))
        for raw in (piece.annotations or [])[self._annotations.get(key, 0) :]:
            events.append(annotated(raw, self.part(*key)))

    def _reasoning(self, output: int, item: Item, events: list[ev.Event]) -> None:
        key = (output, "reasoning")
        if key not in self._told:
            pieces = [*(_pieces.decode(item.summary) or ()), *(_pieces.decode(item.content) or ())]
            if text := "\n\n".join(piece.text for piece in pieces if piece.text):
                events.append(ev.ReasoningDelta(text=text, part=self.part(*key)))
        if item.encrypted_content:
            events.append(ev.ReasoningSignature(signature=item.encrypted_content, maker=NAME, id=item.id, part=self.part(*key)))


def _started(head: ResponseHead) -> ev.Started:
    return ev.Started(id=head.id or "", model=head.model or "", created_s=int(head.created_at or 0))


def _last(head: ResponseHead, has_calls: bool, tier: Raw) -> list[ev.Event]:
    """`tier`: the last that was told."""
    finished = ev.Finished(finish=finish_of(head, has_calls))
    if bytes(head.usage)[:1] != b"{":
        return [finished, ev.Ended(without_counts(tier))]
    return [finished, ev.UsageReported(usage=decode_usage(head.usage, head.output, tier)), ev.Ended()]


def read_head(body: bytes) -> ResponseHead:
    """A whole response. Raises MalformedResponse for what is none, or what its failure means."""
    try:
        head = head_decoder.decode(body)
        if not body.isascii():
            body.decode()  # what stays JSON is read later
    except _UNREADABLE as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    if bytes(head.error) != b"null" or head.object == "error" or head.status == "failed":
        raise in_band_error(body)
    if head.output is None:
        raise MalformedResponse("the upstream's answer holds no output")
    return head


def decode_response(body: bytes) -> list[ev.Event]:
    """A whole answer. Raises MalformedResponse, or what an error object in it means."""
    head = read_head(body)
    if head.status in ("queued", "in_progress", "cancelled"):
        raise MalformedResponse("the upstream's answer is not whole")
    events: list[ev.Event] = [_started(head)]
    items = _Items()
    try:
        for index, raw in enumerate(head.output or ()):
            items.item(index, raw, events)
    except _UNREADABLE as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    return [*events, *_last(head, items.has_calls, head.service_tier)]


_CONTENT = {
    "response.output_text.delta": _Items.text,
    "response.refusal.delta": _Items.refusal,
    "response.function_call_arguments.delta": _Items.arguments,
    "response.custom_tool_call_input.delta": _Items.arguments,
    "response.reasoning_summary_text.delta": _Items.summary,
    "response.reasoning_text.delta": _Items.thought,
    "response.output_text.annotation.added": _Items.annotation,
    "response.output_item.added": _Items.begun,
    "response.output_item.done": _Items.done,
}
PROGRESS = frozenset({"response.created", "response.queued", "response.in_progress"})
TERMINAL = frozenset({"response.completed", "response.incomplete"})
FAILED = frozenset({"response.failed", "error"})
_KNOWN = frozenset(_CONTENT) | PROGRESS | TERMINAL | FAILED


class ResponsesStreamDecoder(Decoding[SseEvent]):
    """Implements `providers.wires.port.StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(SseDecoder())
        self._items = _Items()
        self._started = False
        self._tier = _NULL  # the last that was told

    def told_usage(self) -> Usage | None:
        return without_counts(self._tier)

    def _take(self, event: SseEvent, events: list[ev.Event]) -> None:
        data = event.data
        if data is None or data == b"[DONE]":
            return
        try:
            told = stream_event.decode(data)
            if not data.isascii():
                data.decode()  # what stays JSON is read later
            self._read(told, data, events)
        except _UNREADABLE as exc:
            if isinstance(exc, msgspec.ValidationError) and not is_known(data):
                return
            raise MalformedResponse("an event of the upstream's stream is not valid") from exc

    def _read(self, told: StreamEvent, data: bytes, events: list[ev.Event]) -> None:
        content = _CONTENT.get(told.type)
        if content is not None and self._started:
            content(self._items, told, events)
            return
        self.stepped = self.stepped or is_step(told)
        if told.type not in _KNOWN:
            return
        if told.type in FAILED:
            raise stream_error(told, data)
        if not self._started:
            self._start(told, events)
        if content is not None:
            content(self._items, told, events)
        elif told.type in PROGRESS and bytes(told.response) != b"null":
            self._hear(head_decoder.decode(told.response))
        elif told.type in TERMINAL:
            self._end(head_decoder.decode(told.response), events)

    def _start(self, told: StreamEvent, events: list[ev.Event]) -> None:
        self._started = True
        events.append(_started(head_decoder.decode(told.response) if bytes(told.response) != b"null" else ResponseHead()))

    def _hear(self, head: ResponseHead) -> None:
        if is_told(head.service_tier):
            self._tier = head.service_tier

    def _end(self, head: ResponseHead, events: list[ev.Event]) -> None:
        if self._items.empty:  # some send all of it at once
            for index, raw in enumerate(head.output or ()):
                self._items.item(index, raw, events)
        self._hear(head)
        events += _last(head, self._items.has_calls, self._tier)
        self._ended = True


def is_step(told: StreamEvent) -> bool:
    """Whether an event tells of output or of the provider's work (a search begun, an item done), and is no mere sign of life."""
    kind = told.type
    return bool(told.delta) if kind.endswith(".delta") else kind.startswith("response.") and kind not in PROGRESS


def stream_error(told: StreamEvent, data: bytes) -> AttemptError:
    """What a failed response, or an error event, means."""
    return in_band_error(data if told.type == "error" else bytes(told.response))


def is_known(data: bytes) -> bool:
    """Whether an event that does not read as one is of a type that we must understand. Raises MalformedResponse for what is no JSON."""
    try:
        return _kind.decode(data).type in _KNOWN
    except msgspec.ValidationError:
        return False
    except _UNREADABLE as exc:
        raise MalformedResponse("an event of the upstream's stream is not valid JSON") from exc
