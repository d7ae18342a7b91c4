"""The Cohere wire as one object: `providers.wires.port.Upstream`."""

from collections.abc import Mapping

from contract.errors import AttemptError
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.cohere import errors, request, response
from providers.wires.facts import Facts
from providers.wires.losses import Losses


class Cohere:
    """Stateless; one instance serves everybody."""

    name = "cohere"
    stream_type = b"text/event-stream"

    def path(self, model: str, stream: bool) -> str:
        return "/v2/chat"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request.encode_request(request_, model, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.CohereStreamDecoder:
        return response.CohereStreamDecoder()

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)


COHERE = Cohere()
