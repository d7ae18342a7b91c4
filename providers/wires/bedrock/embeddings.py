"""Embeddings by InvokeModel, each model family in its own form: Titan and Nova take one text a request, Cohere several."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from contract.embeddings import EmbeddingAnswer, EmbeddingRequest
from contract.errors import AttemptError, MalformedResponse
from contract.usage import Usage
from providers.wires.bedrock import errors
from providers.wires.bedrock.models import REGION
from providers.wires.losses import Losses
from providers.wires.openai_embeddings.texts import texts_of

MOST = 96  # texts that Cohere's models take in one request


class _Embedding(msgspec.Struct):
    embedding: list[float] = []


class _ByType(msgspec.Struct):
    floats: list[list[float]] | None = msgspec.field(default=None, name="float")


class _Answer(msgspec.Struct, rename="camel"):
    embedding: list[float] | None = None
    embeddings: msgspec.Raw = msgspec.Raw(b"null")
    input_text_token_count: int | None = None
    id: str | None = None


_answer = msgspec.json.Decoder(_Answer)


class BedrockEmbeddings:
    """Implements `providers.wires.port.Embedder`."""

    def path(self, model: str) -> str:
        return f"/model/{quote(model, safe='')}/invoke"

    def encode_request(self, request: EmbeddingRequest, model: str, losses: Losses) -> bytes:
        family = REGION.sub("", model)
        texts = texts_of(request, MOST if family.startswith("cohere.") else 1, losses)
        text = texts[0]
        body: dict[str, Any]
        if family.startswith("cohere."):
            body = {"texts": texts, "truncate": "NONE", "input_type": request.input_type or "search_document"}
            if request.dimensions is not None:
                body["output_dimension"] = request.dimensions
        elif family.startswith("amazon.nova"):
            single: dict[str, Any] = {"embeddingPurpose": request.input_type or "GENERIC_INDEX", "text": {"value": text, "truncationMode": "NONE"}}
            if request.dimensions is not None:
                single["embeddingDimension"] = request.dimensions
            body = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": single}
        else:
            body = {"inputText": text}
            if request.dimensions is not None:
                body["dimensions"] = request.dimensions
        return msgspec.json.encode(body)

    def decode_response(self, body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
        """Raises MalformedResponse. Only Titan says in its body how many tokens it read."""
        try:
            answer = _answer.decode(body)
            vectors = [answer.embedding] if answer.embedding is not None else _vectors(answer.embeddings)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise MalformedResponse("the upstream's answer holds no embeddings") from exc
        if len(vectors) != len(request.inputs):
            raise MalformedResponse("the upstream's answer does not hold one embedding for each input")
        usage = Usage(input_uncached=answer.input_text_token_count) if answer.input_text_token_count is not None else None
        return EmbeddingAnswer(vectors=tuple(tuple(vector) for vector in vectors), id=answer.id, usage=usage)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)


def _vectors(raw: msgspec.Raw) -> list[list[float]]:
    text = bytes(raw)
    if text[:1] == b"{":
        return msgspec.json.decode(text, type=_ByType).floats or []
    if text[1:].lstrip()[:1] == b"{":
        return [each.embedding for each in msgspec.json.decode(text, type=list[_Embedding])]
    return msgspec.json.decode(text, type=list[list[float]])


BEDROCK_EMBEDDINGS = BedrockEmbeddings()
