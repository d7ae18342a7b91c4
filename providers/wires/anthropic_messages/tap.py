"""Anthropic to Anthropic: bytes pass, and are only watched."""

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse, StreamCut
from contract.finish import Finish
from contract.usage import Usage
from providers.sse import SseDecoder, SseEvent
from providers.wires.anthropic_messages.errors import in_band_error
from providers.wires.anthropic_messages.finish import decode_finish
from providers.wires.anthropic_messages.ours import without_ours
from providers.wires.anthropic_messages.response import (
    Block,
    Message,
    MessageDelta,
    StreamEvent,
    block_decoder,
    delta_decoder,
    message_decoder,
    message_delta_decoder,
    stream_event,
    type_of,
)
from providers.wires.anthropic_messages.usage import decode_usage, merged
from providers.wires.facts import Facts
from providers.wires.openai_chat.tap import renamed
from providers.wires.seal import MARK

_TRUE = msgspec.Raw(b"true")
_FALSE = msgspec.Raw(b"false")
_NULL = msgspec.Raw(b"null")


def rewrite_request(call: Call, model: str, facts: Facts, *, stream: bool) -> bytes:
    """The client's body with model and stream set. All else as it came, but for what we put into other providers' answers ourselves."""
    fields = renamed(call.fields, facts) if facts.renames else dict(call.fields)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if call.may_hold_state and MARK in call.body and "messages" in fields:
        fields["messages"] = without_ours(fields["messages"])
    if stream != call.stream:
        fields["stream"] = _TRUE if stream else _FALSE
    return msgspec.json.encode(fields)


class MessagesStreamTap:
    """Implements `providers.wires.port.StreamTap`."""

    whole = b""

    def __init__(self) -> None:
        self._sse = SseDecoder()
        self._held: list[bytes] = []
        self._raw_usage = _NULL
        self.content_seen = False
        self.finished = False
        self.complete = False
        self.error: AttemptError | None = None
        self.upstream_id: str | None = None
        self.usage: Usage | None = None
        self.finish: Finish | None = None
        self.content_events = 0
        self.bound: list[str] = []

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
            if event.data is not None and not self._keep(event.data, event.name):
                break
            out.append(event.raw)
            if self.complete:
                break
        if not self.content_seen:
            return b""
        self._held = []
        return out[0] if len(out) == 1 else b"".join(out)

    def _keep(self, data: bytes, name: bytes | None) -> bool:
        """Reads one event; False when it must not go on."""
        if name == b"error":
            self.error = in_band_error(data)
            return False
        try:
            told = stream_event.decode(data)
            return self._read(told, data)
        except msgspec.ValidationError:
            if type_of(data) == "error":
                self.error = in_band_error(data)
            return self.error is None  # JSON of a shape we do not know: the client may
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.error = MalformedResponse("an event of the upstream's stream is not valid JSON")
            return False

    def _read(self, told: StreamEvent, data: bytes) -> bool:
        match told.type:
            case "content_block_delta":
                self._delta(told.delta)
            case "content_block_start":
                self._block(block_decoder.decode(told.content_block))
            case "message_start":
                if told.message is not None:
                    self.upstream_id = told.message.id or None
                    self._contained(told.message)
                    self._count(told.message.usage)
            case "message_delta":
                self._message_delta(told)
            case "message_stop":
                self.complete = self.content_seen = True
            case "error":
                self.error = in_band_error(data)
                return False
        return True

    def _delta(self, raw: msgspec.Raw) -> None:
        delta = delta_decoder.decode(raw)
        if delta.signature:
            self.bound.append(delta.signature)
        if delta.text or delta.partial_json or delta.thinking or delta.signature or bytes(delta.citation) != b"null":
            self.content_events += 1
            self.content_seen = True

    def _message_delta(self, told: StreamEvent) -> None:
        self._count(told.usage)
        if bytes(told.delta) == b"null":
            return
        delta = message_delta_decoder.decode(told.delta)
        self._contained(delta)
        if delta.stop_reason:
            self.content_seen = self.finished = True
            self.finish = decode_finish(delta.stop_reason, delta.stop_sequence)

    def _contained(self, told: Message | MessageDelta) -> None:
        """A container is kept at the provider: who asks for it again must come there."""
        if told.container is not None and told.container.id and told.container.id not in self.bound:
            self.bound.append(told.container.id)

    def _block(self, block: Block) -> None:
        """Most blocks begin empty; one that does not is output."""
        if token := _token(block):
            self.bound.append(token)
        if block.type not in ("text", "thinking") or block.text or block.thinking:
            self.content_events += 1
            self.content_seen = True

    def _count(self, raw: msgspec.Raw) -> None:
        self._raw_usage = merged(self._raw_usage, raw)
        if bytes(self._raw_usage)[:1] == b"{":
            self.usage = decode_usage(self._raw_usage)

    def in_band(self, body: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % body


class MessagesUnaryAnswer(msgspec.Struct):
    """Implements `providers.wires.port.UnaryAnswer`."""

    body: bytes
    upstream_id: str | None
    usage: Usage | None
    finish: Finish | None
    content_events: int = 1
    bound: list[str] = []


def read_unary(body: bytes) -> MessagesUnaryAnswer:
    """Checks a whole answer. Raises MalformedResponse, or what an error object in it means."""
    try:
        message = message_decoder.decode(body)
        if message.type == "error" or bytes(message.error) != b"null":
            raise in_band_error(body)
        if message.content is None:
            raise MalformedResponse("the upstream's answer holds no content")
        blocks = [block_decoder.decode(raw) for raw in message.content] if b'"signature"' in body or b'"redacted_thinking"' in body else []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer is not a message") from exc
    bound = [token for block in blocks if (token := _token(block))]
    if message.container is not None and message.container.id:
        bound.append(message.container.id)
    usage = decode_usage(message.usage) if bytes(message.usage)[:1] == b"{" else None
    finish = decode_finish(message.stop_reason, message.stop_sequence) if message.stop_reason else None
    return MessagesUnaryAnswer(body, message.id or None, usage, finish, bound=bound)


def _token(block: Block) -> str | None:
    return block.data if block.type == "redacted_thinking" else block.signature
