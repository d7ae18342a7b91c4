"""Anthropic to Anthropic: bytes pass, and are only watched."""

import msgspec

from contract.call import Call
from contract.errors import MalformedResponse
from contract.usage import tokens_about
from providers.sse import SseEvent
from providers.wires.answer import WholeAnswer
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
from providers.wires.anthropic_messages.usage import decode_usage, ending, merged
from providers.wires.facts import Facts
from providers.wires.openai_chat.tap import renamed
from providers.wires.seal import MARK
from providers.wires.tapping import Tapping

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
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


class MessagesStreamTap(Tapping):
    """Implements `providers.wires.port.StreamTap`."""

    def __init__(self) -> None:
        super().__init__()
        self._raw_usage = _NULL
        self._ending = False

    def _close(self) -> bytes:
        """Some on the way send no `message_stop`: with the reason why it ended the answer is whole."""
        if not self.finished:
            return super()._close()
        self.complete = True
        return STOP

    def _keep(self, event: SseEvent, data: bytes) -> bool:
        if event.name == b"error":
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
            case "content_block_stop":
                self.progressed = True
            case "message_start":
                if told.message is not None:
                    self.upstream_id = told.message.id or None
                    self._contained(told.message)
                    self._raw_usage = merged(self._raw_usage, told.message.usage)
                    self._counted()
            case "message_delta":
                self._message_delta(told)
            case "message_stop":
                self.complete = self.content_seen = self.progressed = True
            case "error":
                self.error = in_band_error(data)
                return False
        return True

    def _delta(self, raw: msgspec.Raw) -> None:
        delta = delta_decoder.decode(raw)
        if delta.signature:
            self.bound.append(delta.signature)
        if delta.text or delta.partial_json or delta.thinking or delta.signature or bytes(delta.citation) != b"null":
            self.tokens_seen += tokens_about(len(delta.text or delta.partial_json or delta.thinking or ""))
            self.content_seen = self.progressed = True

    def _message_delta(self, told: StreamEvent) -> None:
        self._raw_usage, self._ending = (merged if self._ending else ending)(self._raw_usage, told.usage), True
        self._counted()
        if bytes(told.delta) == b"null":
            return
        delta = message_delta_decoder.decode(told.delta)
        self._contained(delta)
        if delta.stop_reason:
            self.content_seen = self.progressed = self.finished = True
            self.finish = decode_finish(delta.stop_reason, delta.stop_sequence)

    def _contained(self, told: Message | MessageDelta) -> None:
        """A container is kept at the provider: who asks for it again must come there."""
        if told.container is not None and told.container.id and told.container.id not in self.bound:
            self.bound.append(told.container.id)

    def _block(self, block: Block) -> None:
        """Most blocks begin empty; one that does not is output."""
        self.progressed = True
        if token := _token(block):
            self.bound.append(token)
        if block.type not in ("text", "thinking") or block.text or block.thinking:
            self.tokens_seen += 1
            self.content_seen = self.progressed = True

    def _counted(self) -> None:
        if bytes(self._raw_usage)[:1] == b"{":
            self.usage = decode_usage(self._raw_usage)

    def in_band(self, body: bytes) -> bytes:
        return b"event: error\ndata: %b\n\n" % body


def read_unary(body: bytes) -> WholeAnswer:
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
    return WholeAnswer(body, usage, message.id or None, finish, bound=bound)


def _token(block: Block) -> str | None:
    return block.data if block.type == "redacted_thinking" else block.signature
