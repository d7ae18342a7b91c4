"""The legacy completions format as one object: client side and byte path (`providers.wires.port`)."""

from collections.abc import Iterable, Mapping

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.tap import DONE, ChatStreamTap, rewrite_request
from providers.wires.openai_completions import encoder, request, response, resuming, tap
from providers.wires.port import Answering


class OpenAICompletions:
    """Stateless; one instance serves everybody."""

    name = "openai_completions"
    ending = DONE
    field_names: Mapping[str, str] = {"max_output_tokens": "max_tokens"}

    def decode_request(self, body: bytes) -> ChatRequest:
        return request.decode_request(body)

    def encode_response(self, events: Iterable[Event], answering: Answering) -> bytes:
        return encoder.encode_response(events, answering)

    def stream_encoder(self, answering: Answering) -> encoder.CompletionsStreamEncoder:
        return encoder.CompletionsStreamEncoder(answering)

    def encode_error(self, error: TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
        return OPENAI_CHAT.encode_error(error, error_type, request_id, attempts)

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        return rewrite_request(call, model, Facts(), stream=stream, ask_usage=ask_usage)

    def stream_tap(self, call: Call, strip_usage: bool) -> ChatStreamTap:
        return ChatStreamTap(tap.choices_of(call), strip_usage)

    def stream_decoder(self, choices: int) -> response.CompletionsStreamDecoder:
        return response.CompletionsStreamDecoder()

    def go_on(self, call: Call, text: str, spent: int) -> Call:
        return resuming.go_on(call, text, spent)

    def resumed(self, delivered: bytes, answering: Answering) -> encoder.CompletionsStreamEncoder:
        return resuming.resumed(delivered, answering)

    def read_unary(self, body: bytes) -> WholeAnswer:
        return tap.read_unary(body)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return OPENAI_CHAT.decode_error(status, headers, body)


OPENAI_COMPLETIONS = OpenAICompletions()
