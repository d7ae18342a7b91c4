"""Google's embeddings: batchEmbedContents of the Gemini API, embedContent and predict of Vertex AI."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from contract.embeddings import EmbeddingAnswer, EmbeddingRequest
from contract.errors import AttemptError, MalformedResponse
from contract.usage import Usage
from providers.wires.gemini import errors
from providers.wires.gemini.path import model_path
from providers.wires.losses import Losses
from providers.wires.openai_embeddings.texts import texts_of

MOST = 100  # requests in one batch
MOST_PREDICTED = 250  # instances in one prediction


class _Values(msgspec.Struct):
    values: list[float] = []


class _Statistics(msgspec.Struct):
    token_count: float | None = None


class _Predicted(msgspec.Struct):
    values: list[float] = []
    statistics: _Statistics | None = None


class _Prediction(msgspec.Struct):
    embeddings: _Predicted


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None


class _Answer(msgspec.Struct, rename="camel"):
    embeddings: list[_Values] | None = None
    embedding: _Values | None = None
    predictions: list[_Prediction] | None = None
    usage_metadata: Raw = Raw(b"null")


_answer = msgspec.json.Decoder(_Answer)
_counts = msgspec.json.Decoder(_Counts)


def decode_response(body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
    """Any of the three forms. Raises MalformedResponse."""
    try:
        answer = _answer.decode(body)
        counted = _counts.decode(answer.usage_metadata).prompt_token_count if bytes(answer.usage_metadata)[:1] == b"{" else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the upstream's answer holds no embeddings") from exc
    found = answer.embeddings or ([answer.embedding] if answer.embedding is not None else [])
    vectors = [each.values for each in found] or [each.embeddings.values for each in answer.predictions or ()]
    if len(vectors) != len(request.inputs):
        raise MalformedResponse("the upstream's answer does not hold one embedding for each input")
    raw = Raw(bytes(answer.usage_metadata)) if counted is not None else Raw()
    if counted is None and answer.predictions:
        counts = [each.embeddings.statistics.token_count for each in answer.predictions if each.embeddings.statistics is not None]
        counted = int(sum(count or 0 for count in counts)) if counts else None
    usage = Usage(input_uncached=counted, raw=raw) if counted is not None else None
    return EmbeddingAnswer(vectors=tuple(tuple(vector) for vector in vectors), usage=usage)


class GeminiEmbeddings:
    """Implements `providers.wires.port.Embedder` for the Gemini API."""

    def path(self, model: str) -> str:
        return f"{model_path(model)}:batchEmbedContents"

    def encode_request(self, request: EmbeddingRequest, model: str, losses: Losses) -> bytes:
        shared: dict[str, Any] = {"model": model_path(model).lstrip("/")}
        if request.dimensions is not None:
            shared["outputDimensionality"] = request.dimensions
        if request.input_type is not None:
            shared["taskType"] = request.input_type
        return msgspec.json.encode({"requests": [{**shared, "content": {"parts": [{"text": text}]}} for text in texts_of(request, MOST, losses)]})

    def decode_response(self, body: bytes, request: EmbeddingRequest) -> EmbeddingAnswer:
        return decode_response(body, request)

    def decode_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> AttemptError:
        return errors.decode_error(status, headers, body)


class VertexEmbeddings(GeminiEmbeddings):
    """Implements `providers.wires.port.Embedder` for Vertex AI: gemini-embedding-2 takes one text a request, the models before it several."""

    def path(self, model: str) -> str:
        return f"{model_path(model)}:{'embedContent' if self._is_new(model) else 'predict'}"

    def _is_new(self, model: str) -> bool:
        return model.startswith("gemini-embedding-") and model != "gemini-embedding-001"

    def encode_request(self, request: EmbeddingRequest, model: str, losses: Losses) -> bytes:
        """A text that is too long is refused, as by OpenAI, and not cut."""
        settings: dict[str, Any] = {"autoTruncate": False}
        if request.dimensions is not None:
            settings["outputDimensionality"] = request.dimensions
        if not self._is_new(model):
            task = {"task_type": request.input_type} if request.input_type is not None else {}
            instances = [{"content": text, **task} for text in texts_of(request, MOST_PREDICTED, losses)]
            return msgspec.json.encode({"instances": instances, "parameters": settings})
        if request.input_type is not None:
            settings["taskType"] = request.input_type
        parts = [{"text": text} for text in texts_of(request, 1, losses)]
        return msgspec.json.encode({"content": {"parts": parts}, "embedContentConfig": settings})


GEMINI_EMBEDDINGS = GeminiEmbeddings()
VERTEX_EMBEDDINGS = VertexEmbeddings()
