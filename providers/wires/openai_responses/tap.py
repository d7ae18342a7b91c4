"""Responses to Responses: bytes pass, and are only watched."""

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.finish import Finish
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.facts import Facts
from providers.wires.openai_chat.tap import renamed
from providers.wires.openai_responses.response import (
    FAILED,
    TERMINAL,
    Item,
    ResponseHead,
    StreamEvent,
    finish_of,
    head_decoder,
    item_decoder,
    read_head,
    stream_error,
    stream_event,
)
from providers.wires.openai_responses.usage import decode_usage

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_PREAMBLE = frozenset({"response.created", "response.queued", "response.in_progress", "response.output_item.added", "response.content_part.added"})
_CALLS = ("function_call", "custom_tool_call")


def rewrite_request(call: Call, model: str, facts: Facts, *, stream: bool) -> bytes:
    """The client's body with model and stream set."""
    fields = renamed(call.fields, facts) if facts.renames else dict(call.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if stream != call.stream:
        fields["stream"] = _TRUE if stream else _FALSE
    return msgspec.json.encode(fields)


def is_kept(call: Call) -> bool:
    """Whether the client wants the answer kept, as the format does unless told otherwise."""
    return bytes(call.fields.get("store", b"true")) != b"false"


class ResponsesStreamTap:
    """Implements `providers.wires.port.StreamTap`. `whole`: the terminal event's response."""

    def __init__(self, kept: bool) -> None:
        self._kept = kept
        self._sse = SseDecoder()
        self._held: list[bytes] = []
        self._has_calls = False
        self._sequence = -1
        self._head = ResponseHead()
        self.content_seen = False
        self.finished = False
        self.complete = False
        self.error: AttemptError | None = None
        self.upstream_id: str | None = None
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.content_events = 0
        self.bound: list[str] = []
        self.whole = b""

    def feed(self, chunk: bytes) -> bytes:
        if self.error is not None or self.complete:
            return b""
        try:
            return self._pass(self._sse.feed(chunk))
        except AttemptError as error:
            self.error = error
            return b""

    def end(self) -> bytes:
        if self.error is not None or self.complete:
            return b""
        out = b""
        try:
            last = self._sse.end()
            if last is not None and last.data is not None:
                out = self._pass([last])
                if isinstance(self.error, MalformedResponse):
                    self.error = None  # it was cut, and counts for nothing
        except AttemptError as error:
            self.error = error
        if self.error is None and not self.complete:
            self.error = StreamCut("the upstream's stream ended before its answer was whole")
        return out

    def _pass(self, events: list[SseEvent]) -> bytes:
        out = self._held
        for event in events:
            if event.data is not None and event.data != b"[DONE]" and not self._keep(event.data):
                break
            out.append(event.raw)
            if self.complete:
                break
        if not self.content_seen:
            return b""
        self._held = []
        return out[0] if len(out) == 1 else b"".join(out)

    def _keep(self, data: bytes) -> bool:
        """Reads one event; False when it must not go on."""
        try:
            return self._read(stream_event.decode(data), data)
        except msgspec.ValidationError:
            return True  # JSON of a shape we do not know: the client may
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = MalformedResponse("an event of the upstream's stream is not valid JSON")
            return False

    def _read(self, told: StreamEvent, data: bytes) -> bool:
        kind = told.type
        self._sequence += 1
        if kind.endswith(".delta"):
            self.content_events += 1
            self.content_seen = True
        elif kind in TERMINAL:
            self._end(told)
        elif kind in FAILED:
            self.error = stream_error(told, data)
            return False
        elif kind == "response.created":
            self._head = head_decoder.decode(told.response)
            self.upstream_id = self._head.id or None
        elif kind == "response.output_item.added":
            self._added(item_decoder.decode(told.item))
        elif kind == "response.output_item.done":
            self._done(item_decoder.decode(told.item))
        elif kind not in _PREAMBLE:
            self.content_seen = True
        return True

    def _added(self, item: Item) -> None:
        if item.type in _CALLS:
            self._has_calls = True
        if item.type not in ("message", "reasoning"):
            self.content_events += 1
            self.content_seen = True

    def _done(self, item: Item) -> None:
        if item.type != "reasoning":
            self.content_seen = True
        if item.encrypted_content:
            self.bound.append(item.encrypted_content)

    def _end(self, told: StreamEvent) -> None:
        head = head_decoder.decode(told.response)
        self.whole = bytes(told.response)
        self.finish = finish_of(head, self._has_calls)
        self.upstream_id = head.id or self.upstream_id
        if bytes(head.usage)[:1] == b"{":
            self.usage = decode_usage(head.usage)
        if self._kept and self.upstream_id:
            self.bound.append(self.upstream_id)
        self.complete = self.finished = self.content_seen = True

    def in_band(self, body: bytes) -> bytes:
        return failed_event(body, {"id": self._head.id, "model": self._head.model, "created_at": int(self._head.created_at)}, self._sequence + 1)


class _OurError(msgspec.Struct, frozen=True):
    message: str = ""
    code: str = "server_error"


class _OurBody(msgspec.Struct, frozen=True):
    error: _OurError = _OurError()


def failed_event(body: bytes, head: dict[str, object], sequence: int) -> bytes:
    """The event that ends a stream which cannot go on; `body`: our error in OpenAI's form."""
    error = msgspec.json.decode(body, type=_OurBody).error
    told = {"object": "response", "status": "failed", "error": {"code": error.code, "message": error.message}}
    response = {**head, **told, "incomplete_details": None, "output": [], "usage": None}
    event = {"type": "response.failed", "sequence_number": sequence, "response": response}
    return b"event: response.failed\ndata: %b\n\n" % msgspec.json.encode(event)


class ResponsesUnaryAnswer(msgspec.Struct):
    """Implements `providers.wires.port.UnaryAnswer`."""

    body: bytes
    upstream_id: str | None
    usage: Usage | None
    finish: Finish | None
    content_events: int = 1
    bound: list[str] = []


def read_unary(body: bytes) -> ResponsesUnaryAnswer:
    """Checks a whole answer; one that a provider makes in the background passes. Raises MalformedResponse, or what an error in it means."""
    head = read_head(body)
    try:
        items = [item_decoder.decode(raw) for raw in head.output or ()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    finish = finish_of(head, any(item.type in _CALLS for item in items)) if head.status is not None else None
    usage = decode_usage(head.usage) if bytes(head.usage)[:1] == b"{" else None
    bound = [item.encrypted_content for item in items if item.encrypted_content]
    if head.id:
        bound.append(head.id)
    return ResponsesUnaryAnswer(body, head.id or None, usage, finish, bound=bound)
