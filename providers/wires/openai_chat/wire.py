"""The OpenAI chat wire as one object: provider side, client side and byte path (`providers.wires.port`)."""

from collections.abc import Iterable, Mapping

import msgspec

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import encoder, errors, request, request_encoder, response, resuming, stream, tap
from providers.wires.port import Answering


class OpenAIChat:
    """Stateless; one instance serves everybody."""

    name = "openai_chat"
    stream_type = b"text/event-stream"
    ending = tap.DONE
    field_names: Mapping[str, str] = {
        "max_output_tokens": "max_completion_tokens",
        "reasoning": "reasoning_effort",
        "messages.image": "messages.content.image_url",
        "messages.audio": "messages.content.input_audio",
        "messages.file": "messages.content.file",
        "messages.signature": "messages.tool_calls.extra_content",
        "messages.reasoning": "messages.reasoning_signature",
        "messages.reasoning_text": "messages.reasoning_content",
    }

    def path(self, model: str, stream: bool) -> str:
        return "/chat/completions"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request_encoder.encode_request(request_, model, facts, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> stream.ChatStreamDecoder:
        return stream.ChatStreamDecoder(choices)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)

    def decode_request(self, body: bytes) -> ChatRequest:
        return request.decode_request(body)

    def encode_response(self, events: Iterable[Event], answering: Answering) -> bytes:
        return encoder.encode_response(events, answering)

    def stream_encoder(self, answering: Answering) -> encoder.ChatStreamEncoder:
        return encoder.ChatStreamEncoder(answering)

    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
        body = {"message": error.message, "type": error_type, "param": error.param, "code": error.reason}
        return msgspec.json.encode({"error": {**body, "request_id": request_id, "attempts": attempts}})

    rewrite_request = staticmethod(tap.rewrite_request)  # each request asks for both of these: no call between
    read_unary = staticmethod(tap.read_unary)

    def stream_tap(self, call: Call, strip_usage: bool) -> tap.ChatStreamTap:
        return tap.ChatStreamTap(call.choices, strip_usage)

    def go_on(self, call: Call, text: str, spent: int) -> Call:
        return resuming.go_on(call, text, spent)

    def resumed(self, delivered: bytes, answering: Answering) -> encoder.ChatStreamEncoder:
        return resuming.resumed(delivered, answering)


OPENAI_CHAT = OpenAIChat()
