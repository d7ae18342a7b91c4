"""The OpenAI chat wire as one object: `providers.wires.port.Wire`."""

from collections.abc import Iterable, Mapping

import msgspec

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.openai_chat import errors, request, response, tap


class OpenAIChat:
    """Stateless; one instance serves everybody."""

    def encode_request(self, request_: ChatRequest, model: str) -> bytes:
        return request.encode_request(request_, model)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.ChatStreamDecoder:
        return response.ChatStreamDecoder(choices)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)

    def decode_request(self, body: bytes) -> ChatRequest:
        return request.decode_request(body)

    def encode_response(self, events: Iterable[Event]) -> bytes:
        return response.encode_response(events)

    def stream_encoder(self, include_usage: bool) -> response.ChatStreamEncoder:
        return response.ChatStreamEncoder(include_usage)

    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
        body = {"message": error.message, "type": error_type, "param": error.param, "code": error.reason}
        return msgspec.json.encode({"error": {**body, "request_id": request_id, "attempts": attempts}})

    def rewrite_request(self, call: Call, model: str, *, stream: bool, ask_usage: bool) -> bytes:
        return tap.rewrite_request(call, model, stream=stream, ask_usage=ask_usage)

    def stream_tap(self, call: Call, strip_usage: bool) -> tap.ChatStreamTap:
        return tap.ChatStreamTap(call.choices, strip_usage)

    def read_unary(self, body: bytes) -> tap.ChatUnaryAnswer:
        return tap.read_unary(body)


OPENAI_CHAT = OpenAIChat()
