"""The Responses wire as one object: provider side, client side and byte path (`providers.wires.port`)."""

from collections.abc import Iterable, Mapping

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse, TurnoutError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.errors import decode_error
from providers.wires.openai_responses import encoder, request, request_encoder, response, resuming, tap
from providers.wires.port import Answering


class _Counted(msgspec.Struct):
    input_tokens: int


class OpenAIResponses:
    """Stateless; one instance serves everybody."""

    name = "openai_responses"
    stream_type = b"text/event-stream"
    ending = b""
    field_names: Mapping[str, str] = {
        "response_format": "text.format",
        "messages": "input",
        "messages.image": "input.input_image",
        "messages.file": "input.input_file",
        "messages.reasoning_text": "input.reasoning",
        "extra.verbosity": "text.verbosity",
    }

    def path(self, model: str, stream: bool) -> str:
        return "/responses"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request_encoder.encode_request(request_, model, facts, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.ResponsesStreamDecoder:
        return response.ResponsesStreamDecoder()

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return decode_error(status, headers, body)

    def decode_request(self, body: bytes) -> ChatRequest:
        return request.decode_request(body)

    def encode_response(self, events: Iterable[Event], answering: Answering) -> bytes:
        return encoder.encode_response(events, answering)

    def stream_encoder(self, answering: Answering) -> encoder.ResponsesStreamEncoder:
        return encoder.ResponsesStreamEncoder(answering)

    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
        return OPENAI_CHAT.encode_error(error, error_type, request_id, attempts)

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        return tap.rewrite_request(call, model, facts, stream=stream)

    def stream_tap(self, call: Call, strip_usage: bool) -> tap.ResponsesStreamTap:
        return tap.ResponsesStreamTap(tap.is_kept(call))

    def go_on(self, call: Call, text: str, spent: int) -> Call:
        return resuming.go_on(call, text, spent)

    def resumed(self, delivered: bytes, answering: Answering) -> encoder.ResponsesStreamEncoder | None:
        return resuming.resumed(delivered, answering)

    def read_unary(self, body: bytes) -> WholeAnswer:
        return tap.read_unary(body)

    # input_tokens
    def count_path(self, model: str) -> str:
        return "/responses/input_tokens"

    def encode_count_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request_encoder.encode_count(request_, model, losses)

    def decode_count(self, body: bytes) -> int:
        try:
            return msgspec.json.decode(body, type=_Counted).input_tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer is not a count of tokens") from exc


OPENAI_RESPONSES = OpenAIResponses()
