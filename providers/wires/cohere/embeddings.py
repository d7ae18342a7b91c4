"""Cohere's v2 embeddings (docs.cohere.com/v2/reference/embed)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from contract.embeddings import EmbeddingAnswer, EmbeddingRequest
from contract.errors import AttemptError, MalformedResponse
from contract.usage import Usage
from providers.wires.cohere.errors import decode_error
from providers.wires.losses import Losses
from providers.wires.openai_embeddings.texts import texts_of

MOST = 96  # inputs in one request


class _Embeddings(msgspec.Struct):
    floats: list[list[float]] | None = msgspec.field(default=None, name="float")


class _Billed(msgspec.Struct):
    input_tokens: float | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    embeddings: _Embeddings | None = None
    meta: Raw = Raw(b"null")


_answer = msgspec.json.Decoder(_Answer)


class CohereEmbeddings:
    """Implements `providers.wires.port.Embedder`. Texts are documents unless `input_type` says otherwise."""

    def path(self, model: str) -> str:
        return "/v2/embed"

    def encode_request(self, request: EmbeddingRequest, model: str, losses: Losses) -> bytes:
        """A text that is too long is refused, as by OpenAI, and not cut."""
        body: dict[str, Any] = {"model": model, "texts": texts_of(request, MOST, losses), "truncate": "NONE"}
        body |= {"input_type": request.input_type or "search_document", "embedding_types": ["float"]}
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        return msgspec.json.encode(body)

    def decode_response(self, body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
        """Raises MalformedResponse."""
        try:
            answer = _answer.decode(body)
            billed = msgspec.json.decode(answer.meta, type=_Meta).billed_units if bytes(answer.meta)[:1] == b"{" else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer holds no embeddings") from exc
        vectors = (answer.embeddings.floats if answer.embeddings is not None else None) or []
        if len(vectors) != len(request.inputs):
            raise MalformedResponse("the upstream's answer does not hold one embedding for each input")
        tokens = billed.input_tokens if billed is not None else None
        usage = Usage(input_uncached=int(tokens), raw=Raw(bytes(answer.meta))) if tokens is not None else None
        return EmbeddingAnswer(vectors=tuple(tuple(vector) for vector in vectors), id=answer.id, usage=usage)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return decode_error(status, headers, body)


COHERE_EMBEDDINGS = CohereEmbeddings()
