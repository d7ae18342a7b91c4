"""The Gemini wire as one object: `providers.wires.port.Upstream`, and the counting of tokens."""

from collections.abc import Mapping

import msgspec

from contract.errors import AttemptError, MalformedResponse
from contract.events import Event
from contract.requests import ChatRequest
from providers.wires.facts import Facts
from providers.wires.gemini import errors, request, response
from providers.wires.gemini.path import model_path
from providers.wires.losses import Losses


class _Counted(msgspec.Struct, rename="camel"):
    total_tokens: int


class Gemini:
    """Stateless; one instance serves everybody."""

    name = "gemini"
    stream_type = b"text/event-stream"

    def path(self, model: str, stream: bool) -> str:
        return f"{model_path(model)}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    def encode_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        return request.encode_request(request_, model, losses)

    def decode_response(self, body: bytes) -> list[Event]:
        return response.decode_response(body)

    def stream_decoder(self, choices: int) -> response.GeminiStreamDecoder:
        return response.GeminiStreamDecoder(choices)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)

    # countTokens
    def count_path(self, model: str) -> str:
        return f"{model_path(model)}:countTokens"

    def encode_count_request(self, request_: ChatRequest, model: str, facts: Facts, losses: Losses) -> bytes:
        prompt = request.prompt(request_, model, losses)
        if prompt.keys() == {"contents"}:
            return msgspec.json.encode(prompt)
        return msgspec.json.encode({"generateContentRequest": {"model": model_path(model).lstrip("/"), **prompt}})

    def decode_count(self, body: bytes) -> int:
        try:
            return msgspec.json.decode(body, type=_Counted).total_tokens
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer is not a count of tokens") from exc


GEMINI = Gemini()
