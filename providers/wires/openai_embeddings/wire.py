"""OpenAI's embeddings: the byte path, and the client's side of a provider that has another form.

https://platform.openai.com/docs/api-reference/embeddings; `encoding_format` base64 is little-endian 32-bit floats.
"""

from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from struct import pack
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from contract.call import Call
from contract.embeddings import EmbeddingAnswer, EmbeddingRequest
from contract.errors import AttemptError, InvalidRequest, MalformedResponse
from contract.usage import Usage
from providers.wires.answer import WholeAnswer
from providers.wires.facts import Facts
from providers.wires.fields import Fields
from providers.wires.openai_chat.errors import decode_error, in_band_error
from providers.wires.openai_chat.tap import renamed
from providers.wires.openai_chat.usage import decode_usage
from providers.wires.port import StreamTap

MAX_INPUTS = 2048


class _Answer(msgspec.Struct):
    id: str | None = None
    object: str | None = None
    data: list[Raw] | None = None
    usage: Raw = Raw(b"null")
    error: Raw = Raw(b"null")


_answer = msgspec.json.Decoder(_Answer)


class OpenAIEmbeddings:
    """Implements `providers.wires.port.Native`, and reads and words requests and answers for any embedder."""

    field_names: Mapping[str, str] = {}

    def rewrite_request(self, call: Call, model: str, facts: Facts, *, stream: bool, ask_usage: bool) -> bytes:
        fields = renamed(call.fields, facts) if facts.renames else dict(call.fields)
        fields["model"] = Raw(msgspec.json.encode(model))
        return msgspec.json.encode(fields)

    def stream_tap(self, call: Call, strip_usage: bool) -> StreamTap:
        raise InvalidRequest("embeddings cannot be streamed", param="stream")

    def read_unary(self, body: bytes) -> WholeAnswer:
        """Checks a whole answer. Raises MalformedResponse, or what an error object in it means."""
        try:
            answer = _answer.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer holds no embeddings") from exc
        if bytes(answer.error) != b"null" or answer.object == "error":
            raise in_band_error(body)
        if answer.data is None:
            raise MalformedResponse("the upstream's answer holds no embeddings")
        usage = _usage(answer.usage) if bytes(answer.usage)[:1] == b"{" else None
        return WholeAnswer(body, usage, answer.id)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return decode_error(status, headers, body)

    def decode_request(self, body: bytes) -> EmbeddingRequest:
        """Raises InvalidRequest with the path of the field at fault."""
        fields = Fields(Raw(body), "")
        model, given = fields.need("model", str), fields.need("input", Raw)
        form = fields.take("encoding_format", str)
        if form not in (None, "float", "base64"):
            raise InvalidRequest("`encoding_format` must be float or base64", param="encoding_format")
        return EmbeddingRequest(
            model=model,
            inputs=_inputs(given),
            dimensions=fields.take("dimensions", int),
            base64=form == "base64",
            user=fields.take("user", str),
            input_type=fields.take("input_type", str),
            extra=fields.rest(),
        )

    def encode_response(self, answer: EmbeddingAnswer, request: EmbeddingRequest, usage: Usage) -> bytes:
        """The answer in OpenAI's form, floats or base64 as asked. Raises MalformedResponse for a number that no 32-bit float can be."""
        data = [{"object": "embedding", "index": at, "embedding": _shown(v, request.base64)} for at, v in enumerate(answer.vectors)]
        body: dict[str, Any] = {"object": "list", "data": data, "model": answer.model or request.model}
        tokens = usage.input_total or 0
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode(body)


class _Total(msgspec.Struct):
    total_tokens: int | None = None


_total = msgspec.json.Decoder(_Total)


def _usage(raw: Raw) -> Usage:
    """All tokens are of the input, and some providers (Voyage) tell no more than that. Nothing is thought, said or drawn for an embedding."""
    usage = decode_usage(raw)
    if usage.reasoning or usage.audio_output or usage.image_output:
        usage = replace(usage, reasoning=None, audio_output=None, image_output=None, source="estimated")
    if usage.input_total is None:
        with suppress(msgspec.ValidationError):
            return replace(usage, input_uncached=_total.decode(raw).total_tokens)
    return usage


def _inputs(raw: Raw) -> tuple[str | tuple[int, ...], ...]:
    try:
        given: str | list[Any] = msgspec.json.decode(raw, type=str | list[Any])
    except msgspec.DecodeError as exc:
        raise InvalidRequest("`input` must be a string or an array", param="input") from exc
    if isinstance(given, str):
        return (given,)
    if not given or len(given) > MAX_INPUTS:
        raise InvalidRequest(f"`input` must hold 1 to {MAX_INPUTS} entries", param="input")
    if all(isinstance(each, str) for each in given):
        return tuple(given)
    if all(isinstance(each, int) for each in given):
        return (tuple(given),)
    if all(isinstance(each, list) and all(isinstance(token, int) for token in each) for each in given):
        return tuple(tuple(each) for each in given)
    raise InvalidRequest("`input` must be a string, an array of strings, or token ids", param="input")


def _shown(vector: tuple[float, ...], base64: bool) -> Any:
    if not base64:
        return vector
    try:
        return b64encode(pack(f"<{len(vector)}f", *vector)).decode()
    except OverflowError as exc:
        raise MalformedResponse("the upstream's answer holds a number beyond all embeddings") from exc


OPENAI_EMBEDDINGS = OpenAIEmbeddings()
