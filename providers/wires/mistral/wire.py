"""The Mistral wire as one object: `providers.wires.port.Upstream`."""

from collections.abc import Mapping

from contract.errors import AttemptError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.mistral import request, response
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


MISTRAL = Mistral()
