"""The Anthropic Messages wire as one object: provider side, client side and byte path (`providers.wires.port`)."""

from collections.abc import Iterable, Mapping

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.answer import WholeAnswer
from providers.wires.anthropic_messages import count, encoder, errors, request, request_encoder, response, resuming, tap
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.port import Answering


class AnthropicMessages:
    """Stateless; one instance serves everybody."""

    name = "anthropic_messages"
    stream_type = b"text/event-stream"
    ending = resuming.MESSAGE_STOP
    field_names: Mapping[str, str] = {
        "max_output_tokens": "max_tokens",
        "stop": "stop_sequences",
        "reasoning": "thinking",
        "response_format": "output_config.format",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "user": "metadata.user_id",
        "messages.file": "messages.document",
        "messages.signature": "messages.redacted_thinking",
        "messages.reasoning": "messages.thinking",
        "messages.reasoning_text": "messages.thinking",
    }

    def path(self, model: str, stream: bool) -> str:
        return "/messages"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request_encoder.encode_request(request_, model, facts, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.MessagesStreamDecoder:
        return response.MessagesStreamDecoder()

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)

    def decode_request(self, body: bytes) -> ChatRequest:
        return request.decode_request(body)

    def encode_response(self, events: Iterable[Event], answering: Answering) -> bytes:
        return encoder.encode_response(events, answering)

    def stream_encoder(self, answering: Answering) -> encoder.MessagesStreamEncoder:
        return encoder.MessagesStreamEncoder(answering)

    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
        return errors.encode_error(error, error_type, request_id, attempts)

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        return tap.rewrite_request(call, model, facts, stream=stream)

    def stream_tap(self, call: Call, strip_usage: bool) -> tap.MessagesStreamTap:
        return tap.MessagesStreamTap()

    def go_on(self, call: Call, text: str, spent: int) -> Call:
        return resuming.go_on(call, text, spent)

    def resumed(self, delivered: bytes, answering: Answering) -> encoder.MessagesStreamEncoder | None:
        return resuming.resumed(delivered, answering)

    def read_unary(self, body: bytes) -> WholeAnswer:
        return tap.read_unary(body)

    # count_tokens
    def decode_count_request(self, body: bytes) -> ChatRequest:
        return request.decode_count_request(body)

    def encode_count(self, tokens: int) -> bytes:
        return count.encode_count(tokens)

    def count_path(self, model: str) -> str:
        return "/messages/count_tokens"

    def encode_count_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request_encoder.encode_count(request_, model, losses)

    def decode_count(self, body: bytes) -> int:
        return count.decode_count(body)


ANTHROPIC_MESSAGES = AnthropicMessages()
