"""The Bedrock wire as one object: `providers.wires.port.Upstream`, and the counting of tokens."""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from contract.errors import AttemptError, MalformedResponse
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.bedrock import errors, request, response
from providers.wires.bedrock.models import NAME, REGION
from providers.wires.facts import Facts
from providers.wires.losses import Losses


class _Counted(msgspec.Struct, rename="camel"):
    input_tokens: int


class Bedrock:
    """Stateless; one instance serves everybody."""

    name = NAME
    stream_type = b"application/vnd.amazon.eventstream"

    def path(self, model: str, stream: bool) -> str:
        return f"/model/{quote(model, safe='')}/{'converse-stream' if stream else 'converse'}"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request.encode_request(request_, model, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.BedrockStreamDecoder:
        return response.BedrockStreamDecoder()

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)

    # CountTokens
    def count_path(self, model: str) -> str:
        """Of the model itself: an inference profile counts nothing."""
        return f"/model/{quote(REGION.sub('', model), safe='')}/count-tokens"

    def encode_count_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request.encode_count(request_, model, losses)

    def decode_count(self, body: bytes) -> int:
        try:
            return msgspec.json.decode(body, type=_Counted).input_tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer is not a count of tokens") from exc


BEDROCK = Bedrock()
