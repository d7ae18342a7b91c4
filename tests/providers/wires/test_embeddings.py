"""Embeddings: OpenAI's bytes and the other providers' forms."""

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from contract.call import Call, Drop
from contract.embeddings import EmbeddingRequest
from contract.errors import AttemptError, InvalidRequest, MalformedResponse, TargetCannot, UpstreamError
from providers.address import Chosen
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS
from providers.routes import EmbeddingRoute, Prepared
from providers.wires.openai_embeddings import OPENAI_EMBEDDINGS
from providers.wires.port import Embedder
from providers.wires.table import EMBEDDERS

TEXT = {"model": "m", "input": "Hello"}
TWO = {"model": "m", "input": ["a", "b"]}
COHERE_ANSWER = {"id": "e1", "embeddings": {"float": [[0.5, -1], [2, 0]]}, "meta": {"billed_units": {"input_tokens": 2.0}}}
GEMINI_ANSWER = {"embeddings": [{"values": [0.5, -1]}, {"values": [2, 0]}], "usageMetadata": {"promptTokenCount": 7}}


def call_of(body: dict[str, Any]) -> Call:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    shape: dict[str, Any] = {"model": "m", "stream": False, "include_usage": False, "choices": 1, "path": "/embeddings"}
    return Call(request_id="r", dialect="openai_embeddings", body=json.dumps(body).encode(), fields=fields, **shape)


def prepared(embedder: str, body: dict[str, Any], model: str = "m", drop: Drop = "hints") -> Prepared:
    return EmbeddingRoute(EMBEDDERS[embedder]).prepare(call_of(body), model, drop)


def sent(embedder: str, body: dict[str, Any], model: str = "m") -> tuple[str, Any]:
    ready = prepared(embedder, body, model)
    return ready.path, json.loads(ready.body)


def answered(embedder: str, body: dict[str, Any], answer: Any, model: str = "m") -> Any:
    read = prepared(embedder, body, model).read
    assert read is not None
    found = read(json.dumps(answer).encode())
    return json.loads(found.body), found.usage


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_each_form_of_input_is_read(given: Any, inputs: tuple[Any, ...]) -> None:
    assert OPENAI_EMBEDDINGS.decode_request(json.dumps({"model": "m", "input": given}).encode()).inputs == inputs


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": ["a", 1]}, "input"),
        ({"model": "m", "input": {"a": 1}}, "input"),
        ({"model": "m", "input": ["a"] * 2049}, "input"),
        ({**TEXT, "encoding_format": "int8"}, "encoding_format"),
        ({**TEXT, "dimensions": "many"}, "dimensions"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        OPENAI_EMBEDDINGS.decode_request(json.dumps(body).encode())
    assert caught.value.param == param


def test_cohere_is_asked_for_floats_of_documents_uncut() -> None:
    body = {"model": "m", "texts": ["a", "b"], "truncate": "NONE", "input_type": "search_document", "embedding_types": ["float"]}
    assert sent("cohere", TWO) == ("/v2/embed", body)
    assert sent("cohere", {**TWO, "dimensions": 256, "input_type": "search_query"})[1] == {
        **body,
        "output_dimension": 256,
        "input_type": "search_query",
    }


def test_gemini_is_asked_for_a_batch() -> None:
    path, body = sent("gemini", {**TWO, "dimensions": 64, "input_type": "RETRIEVAL_QUERY"}, "gemini-embedding-001")
    each = {"model": "models/gemini-embedding-001", "outputDimensionality": 64, "taskType": "RETRIEVAL_QUERY"}
    assert path == "/models/gemini-embedding-001:batchEmbedContents"
    assert body == {"requests": [{**each, "content": {"parts": [{"text": text}]}} for text in ("a", "b")]}


def test_vertex_predicts_with_its_older_models_and_embeds_one_text_with_its_newer() -> None:
    path, body = sent("vertex", {**TWO, "dimensions": 64}, "text-embedding-005")
    assert path == "/models/text-embedding-005:predict"
    assert body == {"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"autoTruncate": False, "outputDimensionality": 64}}
    path, body = sent("vertex", TEXT, "gemini-embedding-2")
    assert path == "/models/gemini-embedding-2:embedContent"
    assert body == {"content": {"parts": [{"text": "Hello"}]}, "embedContentConfig": {"autoTruncate": False}}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("amazon.titan-embed-text-v2:0", {"inputText": "Hello", "dimensions": 256}),
        (
            "us.amazon.nova-2-multimodal-embeddings-v1:0",
            {
                "taskType": "SINGLE_EMBEDDING",
                "singleEmbeddingParams": {
                    "embeddingPurpose": "GENERIC_INDEX",
                    "text": {"value": "Hello", "truncationMode": "NONE"},
                    "embeddingDimension": 256,
                },
            },
        ),
        ("cohere.embed-v4:0", {"texts": ["Hello"], "truncate": "NONE", "input_type": "search_document", "output_dimension": 256}),
    ],
)
def test_bedrock_is_asked_in_each_familys_form(model: str, body: dict[str, Any]) -> None:
    path, got = sent("bedrock", {**TEXT, "dimensions": 256}, model)
    assert got == body and path == f"/model/{model.replace(':', '%3A')}/invoke"


@pytest.mark.parametrize("drop", ["nothing", "hints", "everything"])
@pytest.mark.parametrize("embedder", sorted(EMBEDDERS))
def test_token_ids_are_refused_whatever_may_be_dropped(embedder: str, drop: Drop) -> None:
    with pytest.raises(TargetCannot) as caught:
        prepared(embedder, {"model": "m", "input": [[1, 2]]}, drop=drop)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("embedder", "model", "most"),
    [
        ("cohere", "embed-v4.0", 96),
        ("gemini", "gemini-embedding-001", 100),
        ("vertex", "text-embedding-005", 250),
        ("vertex", "gemini-embedding-2", 1),
        ("bedrock", "amazon.titan-embed-text-v2:0", 1),
        ("bedrock", "cohere.embed-v4:0", 96),
    ],
)
def test_more_inputs_than_a_model_takes_are_refused(embedder: str, model: str, most: int) -> None:
    prepared(embedder, {"model": "m", "input": ["a"] * most}, model)
    with pytest.raises(TargetCannot) as caught:
        prepared(embedder, {"model": "m", "input": ["a"] * (most + 1)}, model, "everything")
    assert caught.value.param == "input"


def test_what_an_embedder_has_no_place_for_is_named() -> None:
    assert prepared("cohere", {**TEXT, "user": "u"}).notes == ((b"x-turnout-dropped", b"user"),)
    with pytest.raises(TargetCannot) as caught:
        prepared("cohere", {**TEXT, "truncation": False})
    assert caught.value.param == "truncation"


ANSWERS: list[tuple[str, str, Any, int]] = [
    ("cohere", "embed-v4.0", COHERE_ANSWER, 2),
    ("gemini", "gemini-embedding-001", GEMINI_ANSWER, 7),
    (
        "vertex",
        "text-embedding-005",
        {"predictions": [{"embeddings": {"values": values, "statistics": {"token_count": 2}}} for values in ([0.5, -1], [2, 0])]},
        4,
    ),
    ("bedrock", "cohere.embed-v4:0", {"embeddings": {"float": [[0.5, -1], [2, 0]]}, "id": "x"}, 1),
    ("bedrock", "cohere.embed-english-v3", {"embeddings": [[0.5, -1], [2, 0]]}, 1),
]


@pytest.mark.parametrize(("embedder", "model", "answer", "tokens"), ANSWERS)
def test_an_answer_is_openais_in_the_order_of_the_inputs(embedder: str, model: str, answer: Any, tokens: int) -> None:
    body, usage = answered(embedder, TWO, answer, model)
    vectors = ([0.5, -1], [2, 0])
    assert body == {
        "object": "list",
        "data": [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)],
        "model": "m",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    assert usage.input_uncached == tokens and usage.source == ("estimated" if embedder == "bedrock" else "provider")


@pytest.mark.parametrize(
    ("model", "answer", "tokens"),
    [
        ("amazon.titan-embed-text-v2:0", {"embedding": [0.5, -1], "inputTextTokenCount": 3}, 3),
        ("amazon.nova-2-multimodal-embeddings-v1:0", {"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5, -1]}]}, 1),
    ],
)
def test_a_single_answer_of_bedrocks_is_read(model: str, answer: Any, tokens: int) -> None:
    body, usage = answered("bedrock", TEXT, answer, model)
    assert body["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1]}] and usage.input_uncached == tokens


def test_base64_is_little_endian_floats() -> None:
    body, _ = answered("cohere", {**TWO, "encoding_format": "base64"}, COHERE_ANSWER)
    assert [struct.unpack("<2f", base64.b64decode(each["embedding"])) for each in body["data"]] == [(0.5, -1), (2, 0)]


def test_a_number_beyond_a_float_is_malformed() -> None:
    with pytest.raises(MalformedResponse):
        answered("cohere", {**TEXT, "encoding_format": "base64"}, {"embeddings": {"float": [[1e300]]}})


@pytest.mark.parametrize("embedder", sorted(EMBEDDERS))
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{}", b"[]", b'{"embeddings":5}', b'{"embeddings":{"float":[[1]]},"embedding":[1,"x"]}', b'{"predictions":[]}']
)
def test_what_is_no_answer_or_lacks_a_vector_is_malformed(embedder: str, body: bytes) -> None:
    asked: Embedder = EMBEDDERS[embedder]
    with pytest.raises(MalformedResponse):
        asked.decode_response(body, EmbeddingRequest(model="m", inputs=("a", "b")))


@pytest.mark.parametrize("embedder", sorted(EMBEDDERS))
def test_a_refusal_is_classified_and_its_text_stays_behind(embedder: str) -> None:
    for status, code in [(400, "upstream_rejected"), (401, "upstream_auth_failed"), (404, "upstream_model_not_found"), (429, "rate_limited")]:
        error: AttemptError = EMBEDDERS[embedder].decode_error(status, {}, b'{"message":"CANARY","error":{"message":"CANARY"}}')
        assert error.reason.endswith(code.removeprefix("upstream_")) and "CANARY" not in error.message


def native(body: dict[str, Any], kind: str = "openai") -> Prepared:
    return routes_of(PROVIDER_KINDS[kind], Chosen(name=kind))["openai_embeddings"].prepare(call_of(body), "real", "hints")


def test_at_a_provider_of_openais_form_all_but_the_model_passes_as_it_came() -> None:
    asked = {"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 5, "user": "u", "new": {"a": None}}
    ready = native(asked)
    assert ready.path == "/embeddings" and json.loads(ready.body) == {**asked, "model": "real"}


def test_mistral_has_its_own_name_for_dimensions() -> None:
    assert json.loads(native({**TEXT, "dimensions": 5}, "mistral").body) == {**TEXT, "model": "real", "output_dimension": 5}


@pytest.mark.parametrize(("usage", "tokens"), [({"prompt_tokens": 3, "total_tokens": 3}, 3), ({"total_tokens": 4}, 4), ({"total_tokens": "x"}, None)])
def test_an_answer_that_passes_is_read_for_its_usage(usage: Any, tokens: int | None) -> None:
    body = json.dumps({"object": "list", "data": [{"index": 0, "embedding": "AAAA"}], "usage": usage}).encode()
    answer = OPENAI_EMBEDDINGS.read_unary(body)
    assert answer.body == body and answer.usage is not None and answer.usage.input_total == tokens
    assert answer.usage.raw and json.loads(bytes(answer.usage.raw)) == usage


def test_an_answer_without_usage_has_none() -> None:
    assert OPENAI_EMBEDDINGS.read_unary(b'{"data":[]}').usage is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", MalformedResponse), (b"{}", MalformedResponse), (b'{"data":5}', MalformedResponse), (b'{"error":{"message":"CANARY"}}', UpstreamError)],
)
def test_what_passes_is_an_answer(body: bytes, kind: type[AttemptError]) -> None:
    with pytest.raises(kind) as caught:
        OPENAI_EMBEDDINGS.read_unary(body)
    assert "CANARY" not in caught.value.message
