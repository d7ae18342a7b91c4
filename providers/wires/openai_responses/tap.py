"""Responses to Responses: bytes pass, and are only watched."""

from collections.abc import Mapping

import msgspec

from contract.call import Call
from contract.errors import MalformedResponse
from contract.usage import Usage, tokens_about
from providers.sse import SseEvent
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.openai_chat.tap import renamed
from providers.wires.openai_responses.response import (
    CALLS,
    FAILED,
    PROGRESS,
    TERMINAL,
    Item,
    ResponseHead,
    StreamEvent,
    finish_of,
    head_decoder,
    is_known,
    is_step,
    item_decoder,
    read_head,
    stream_error,
    stream_event,
)
from providers.wires.openai_responses.usage import decode_usage
from providers.wires.tapping import Tapping
from providers.wires.tiers import is_told, without_counts

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_NULL = msgspec.Raw(b"null")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
PICTURE = "image_generation_call"  # an item
SOUND = "response.audio.delta"  # an event
_QUIET = frozenset({"message", "reasoning"})  # items that begin before there is any output in them


def rewrite_request(call: Call, model: str, facts: Facts, *, stream: bool) -> bytes:
    """The client's body with model and stream set."""
    fields = renamed(call.fields, facts) if facts.renames else dict(call.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if stream != call.stream:
        fields["stream"] = _TRUE if stream else _FALSE
        if not stream:
            fields.pop("stream_options", None)  # refused where there is no stream
    return msgspec.json.encode(fields)


def is_kept(call: Call) -> bool:
    """Whether the client wants the answer kept, as the format does unless told otherwise."""
    return bytes(call.fields.get("store", b"true")) != b"false"


class ResponsesStreamTap(Tapping):
    """Implements `providers.wires.port.StreamTap`. `whole`: the terminal event's response.

    A failure ends the answer as any other error does, in our words: what the provider wrote about it goes no further. What it cost is kept.
    """

    def __init__(self, kept: bool) -> None:
        super().__init__()
        self._kept = kept
        self._has_calls = False
        self._sequence = -1
        self._tier = _NULL  # the last that was told
        self._begun = b"{}"  # the response as the stream's first event had it
        self.whole = b""

    def _keep(self, event: SseEvent, data: bytes) -> bool:
        if data == b"[DONE]":  # of some that speak chat too
            return True
        try:
            return self._read(stream_event.decode(data), data)
        except msgspec.ValidationError:
            return self._keep_strange(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = MalformedResponse("an event of the upstream's stream is not valid JSON")
            return False

    def _keep_strange(self, data: bytes) -> bool:
        """JSON of a shape we do not know: the client may. But what we must understand is no answer so."""
        try:
            if is_known(data):
                raise MalformedResponse("an event of the upstream's stream is not valid")
        except MalformedResponse as error:
            self.error = error
            return False
        return True

    def _read(self, told: StreamEvent, data: bytes) -> bool:
        kind = told.type
        self._sequence = self._sequence + 1 if told.sequence_number is None else told.sequence_number
        if kind.endswith(".delta"):
            if told.delta:
                self.tokens_seen += tokens_about(len(told.delta))
                self.content_seen = self.progressed = True
                self.media_seen = self.media_seen or kind == SOUND
        elif kind == "response.output_item.added":
            self._item_begun(item_decoder.decode(told.item))
        elif kind == "response.output_item.done":
            self._item_done(item_decoder.decode(told.item))
        elif kind in PROGRESS:
            self._progress(told)
        elif kind in TERMINAL:
            self._end(told)
        elif kind in FAILED:
            self._fail(told, data)
            return False
        if not self.progressed and is_step(told):
            self.progressed = True
        return True

    def _progress(self, told: StreamEvent) -> None:
        head = head_decoder.decode(told.response)
        self.upstream_id = head.id or self.upstream_id
        self._begun = bytes(told.response)
        if is_told(head.service_tier):
            self._tier = head.service_tier

    def told_usage(self) -> Usage | None:
        return self.usage or without_counts(self._tier)

    def _item_begun(self, item: Item) -> None:
        if item.type in CALLS:
            self._has_calls = True
        if item.type == PICTURE:
            self.media_seen = True
        if item.type not in _QUIET:
            self.tokens_seen += 1
            self.content_seen = True

    def _item_done(self, item: Item) -> None:
        if item.type != "reasoning":
            self.content_seen = True
        if item.type == PICTURE:
            self.media_seen = True
        if item.type in CALLS:
            self._has_calls = True
        if item.encrypted_content and item.encrypted_content not in self.bound:
            self.bound.append(item.encrypted_content)

    def _end(self, told: StreamEvent) -> None:
        head = self._read_last(told)
        self.whole = bytes(told.response)
        for raw in head.output or ():  # what is encrypted is so anew, and the client may return either
            self._item_done(item_decoder.decode(raw))
        self.finish = finish_of(head, self._has_calls)
        if self._kept and self.upstream_id:
            self.bound.append(self.upstream_id)
        self.complete = self.finished = self.content_seen = self.progressed = True

    def _fail(self, told: StreamEvent, data: bytes) -> None:
        if told.type == "response.failed":
            self._read_last(told)
            if bytes(told.response)[:1] == b"{":
                self._begun = bytes(told.response)
        self.error = stream_error(told, data)
        self._sequence -= 1  # it is ours that takes its place

    def _read_last(self, told: StreamEvent) -> ResponseHead:
        head = head_decoder.decode(told.response) if bytes(told.response) != b"null" else ResponseHead()
        self.upstream_id = head.id or self.upstream_id
        if is_told(head.service_tier):
            self._tier = head.service_tier
        if bytes(head.usage)[:1] == b"{":
            self.usage = decode_usage(head.usage, head.output, self._tier)
        return head

    def in_band(self, body: bytes) -> bytes:
        return failed_event(body, _members.decode(self._begun), self._sequence + 1)


class _OurError(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | None = None


class _OurBody(msgspec.Struct, frozen=True):
    error: _OurError = _OurError()


_our_body = msgspec.json.Decoder(_OurBody)


def failed_event(body: bytes, response: Mapping[str, object], sequence: int) -> bytes:
    """The event that ends a stream which cannot go on; `body`: our error in OpenAI's form, `response`: the answer as far as it is told."""
    error = _our_body.decode(body).error
    told = {"status": "failed", "error": {"code": error.code or "server_error", "message": error.message}, "incomplete_details": None}
    failed = {"object": "response", "output": [], **response, **told}
    event = {"type": "response.failed", "sequence_number": sequence, "response": failed}
    return b"event: response.failed\ndata: %b\n\n" % msgspec.json.encode(event)


def read_unary(body: bytes) -> WholeAnswer:
    """Checks a whole answer; one that a provider makes in the background passes. Raises MalformedResponse, or what an error in it means."""
    head = read_head(body)
    try:
        items = [item_decoder.decode(raw) for raw in head.output or ()]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a response") from exc
    ended = head.status not in (None, "queued", "in_progress")
    finish = finish_of(head, any(item.type in CALLS for item in items)) if ended else None
    usage = decode_usage(head.usage, head.output, head.service_tier) if bytes(head.usage)[:1] == b"{" else without_counts(head.service_tier)
    bound = [item.encrypted_content for item in items if item.encrypted_content]
    if head.id and head.store is not False:  # an answer says whether it is kept
        bound.append(head.id)
    return WholeAnswer(body, usage, head.id or None, finish, bound=bound)
