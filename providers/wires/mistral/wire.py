"""The Mistral wire as one object: provider side, and the byte path of OpenAI's clients (`providers.wires.port`)."""

from collections.abc import Mapping

from msgspec.structs import replace

from contract.call import Call
from contract.errors import AttemptError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.mistral import request, response
from providers.wires.openai_chat import tap
from providers.wires.openai_chat.errors import decode_error


class Mistral:
    """Stateless; one instance serves everybody."""

    name = "mistral"
    stream_type = b"text/event-stream"

    def path(self, model: str, stream: bool) -> str:
        return "/chat/completions"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request.encode_request(request_, model, facts, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode(body)

    def stream_decoder(self, choices: int) -> response.MistralStreamDecoder:
        return response.MistralStreamDecoder(choices)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return decode_error(status, headers, body)

    def takes(self, call: Call) -> bool:
        return request.takes(call)

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        """As OpenAI's, without `stream_options`: Mistral refuses it, and tells the usage anyway."""
        if "stream_options" in call.fields:
            fields = {name: raw for name, raw in call.fields.items() if name != "stream_options"}
            call = replace(call, fields=fields)
        return tap.rewrite_request(call, model, facts, stream=stream, ask_usage=False)

    def stream_tap(self, call: Call, strip_usage: bool) -> response.MistralStreamTap:
        return response.MistralStreamTap(call.choices, strip_usage)

    def read_unary(self, body: bytes) -> WholeAnswer:
        return tap.read_unary(response.plain(body, for_client=True))


MISTRAL = Mistral()
