"""Embeddings asked by OpenAI's SDK: at a provider of its own form as bytes, at others translated; what was used is in the ledger."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Exchange, Play, Upstream, status

CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  near: {{kind: openai-compatible, base_url: "{one}", api_key: sk-near}}
  cohere: {{kind: cohere, base_url: "{root}", api_key: co-key}}
  gemini: {{kind: gemini, base_url: "{one}", api_key: g-key}}
  vertex: {{kind: vertex, base_url: "{one}", api_key: v-token, region: eu, project: p}}
  bedrock: {{kind: bedrock, base_url: "{root}", api_key: b-key, region: eu-west-1}}
models:
  near: {{targets: [{{provider: near, model: embed-near}}]}}
  cohere: {{targets: [{{provider: cohere, model: embed-v4.0}}]}}
  gemini: {{targets: [{{provider: gemini, model: gemini-embedding-001}}]}}
  vertex: {{targets: [{{provider: vertex, model: gemini-embedding-2}}]}}
  titan: {{targets: [{{provider: bedrock, model: "amazon.titan-embed-text-v2:0"}}]}}
  pair: {{targets: [{{provider: cohere, model: embed-v4.0}}, {{provider: near, model: embed-near}}]}}
teams:
  search: {{keys: [{key}]}}
"""
VECTORS = [[0.5, -1.0, 0.25], [2.0, 0.0, -0.125]]


def packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def playing(answer: Any) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(200, json.dumps(answer).encode())

    return play


async def openais(x: Exchange) -> None:
    """As OpenAI: in the form that was asked for, one for each input."""
    asked = x.seen.body
    many = asked["input"] if isinstance(asked["input"], list) and not isinstance(asked["input"][0], int) else [asked["input"]]
    shown: Any = packed if asked.get("encoding_format") == "base64" else list
    data = [{"object": "embedding", "index": at, "embedding": shown(VECTORS[at])} for at in range(len(many))]
    body = {"object": "list", "data": data, "model": "embed-near-1", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    await x.respond(200, json.dumps(body).encode())


COHERES = playing({"id": "e1", "embeddings": {"float": VECTORS}, "meta": {"billed_units": {"input_tokens": 2}}})
GOOGLES = playing({"embeddings": [{"values": vector} for vector in VECTORS], "usageMetadata": {"promptTokenCount": 7}})


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    one.plays |= {"embed-near": openais, "embed-v4.0": COHERES, "": GOOGLES}
    places = {"folder": tmp_path, "one": one.base_url, "root": one.base_url.removesuffix("/v1"), "key": KEY}
    async with running(CONFIG.format(**places), tmp_path) as gateway:
        yield gateway


async def asked(gateway: Gateway, **body: Any) -> tuple[Any, Any, Any]:
    """The SDK's answer, the ledger's only row of it, and the response's headers."""
    raw = await gateway.sdk.embeddings.with_raw_response.create(**body)
    [row] = await gateway.rows(raw.headers["x-request-id"])
    return raw.parse(), row, raw.headers


@pytest.mark.parametrize("given", ["a", ["a"], ["a", "b"], [1, 2, 3], [[1, 2], [3]]])
@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
async def test_at_a_provider_of_openais_form_the_request_passes_as_it_came(gateway: Gateway, one: Upstream, given: Any, form: Any) -> None:
    answer, row, _ = await asked(gateway, model="near", input=given, dimensions=3, user="u", **form)
    many = 2 if given in (["a", "b"], [[1, 2], [3]]) else 1
    read = answer.data[0].embedding
    if isinstance(read, str):  # the SDK leaves what was asked for as base64 as it is
        read = list(struct.unpack("<3f", base64.b64decode(read)))
    assert (read, len(answer.data), answer.model, answer.usage.prompt_tokens) == (VECTORS[0], many, "embed-near-1", 5)
    sent = one.journal[-1]
    assert sent.body == {
        "model": "embed-near",
        "input": given,
        "dimensions": 3,
        "user": "u",
        "encoding_format": form.get("encoding_format", "base64"),
    }
    assert sent.head[":path"] == "/v1/embeddings" and sent.head["authorization"] == "Bearer sk-near"
    assert (row.endpoint, row.status, row.usage.input_uncached, row.usage.source) == ("embeddings", "ok", 5, "provider")


@pytest.mark.parametrize("form", [{}, {"encoding_format": "float"}])
@pytest.mark.parametrize(
    ("model", "path", "tokens"),
    [("cohere", "/v2/embed", 2), ("gemini", "/v1/models/gemini-embedding-001:batchEmbedContents", 7)],
)
async def test_elsewhere_a_batch_is_translated(gateway: Gateway, one: Upstream, model: str, path: str, tokens: int, form: Any) -> None:
    answer, row, headers = await asked(gateway, model=model, input=["a", "b"], dimensions=3, **form)
    assert [each.embedding for each in answer.data] == VECTORS and [each.index for each in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens and answer.model == model
    assert one.journal[-1].head[":path"] == path and "x-turnout-dropped" not in headers
    assert (row.status, row.usage.input_uncached, row.usage.source) == ("ok", tokens, "provider")


async def test_cohere_is_paid_for_what_it_bills(gateway: Gateway, one: Upstream) -> None:
    _, row, _ = await asked(gateway, model="cohere", input=["a", "b"])
    assert row.cost_nusd == 240 and row.upstream_id == "e1"  # 2 tokens at 0.12 USD a million
    assert one.journal[-1].head["authorization"] == "Bearer co-key"


@pytest.mark.parametrize(
    ("model", "answer", "tokens", "source"),
    [
        ("titan", {"embedding": VECTORS[0], "inputTextTokenCount": 3}, 3, "provider"),
        ("vertex", {"embedding": {"values": VECTORS[0]}, "usageMetadata": {"promptTokenCount": 4}}, 4, "provider"),
        ("vertex", {"embedding": {"values": VECTORS[0]}}, 2, "estimated"),
    ],
)
async def test_a_single_text_is_translated(gateway: Gateway, one: Upstream, model: str, answer: Any, tokens: int, source: str) -> None:
    one.plays[""] = playing(answer)
    found, row, _ = await asked(gateway, model=model, input="Good day")
    assert found.data[0].embedding == VECTORS[0] and found.usage.prompt_tokens == tokens
    assert (row.usage.input_uncached, row.usage.source) == (tokens, source)


async def test_base64_that_is_asked_for_is_given_as_it_is(gateway: Gateway) -> None:
    answer = await gateway.post({"model": "cohere", "input": ["a", "b"], "encoding_format": "base64"}, path="/v1/embeddings")
    assert [each["embedding"] for each in answer.json()["data"]] == [packed(vector) for vector in VECTORS]


@pytest.mark.parametrize(("model", "given"), [("cohere", [[1, 2]]), ("gemini", [1, 2]), ("titan", ["a", "b"]), ("cohere", ["a"] * 97)])
async def test_inputs_that_a_model_cannot_take_are_refused_and_nothing_is_sent(gateway: Gateway, one: Upstream, model: str, given: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.embeddings.create(model=model, input=given)
    assert caught.value.param == "input" and one.journal == []


async def test_inputs_that_a_model_cannot_take_go_to_the_next(gateway: Gateway, one: Upstream) -> None:
    answer = await gateway.sdk.embeddings.create(model="pair", input=[[1, 2], [3]])
    assert [each.embedding for each in answer.data] == VECTORS and [seen.body["model"] for seen in one.journal] == ["embed-near"]


async def test_a_hint_that_has_no_place_is_dropped_and_named(gateway: Gateway) -> None:
    _, _, headers = await asked(gateway, model="cohere", input=["a", "b"], user="u")
    assert headers["x-turnout-dropped"] == "user"


@pytest.mark.parametrize(
    ("upstream", "seen"),
    [(400, openai.BadRequestError), (404, openai.NotFoundError), (429, openai.RateLimitError), (401, openai.InternalServerError)],
)
@pytest.mark.parametrize(("model", "name"), [("near", "embed-near"), ("cohere", "embed-v4.0"), ("gemini", "")])
async def test_a_providers_refusal_is_ours_without_its_text(
    gateway: Gateway, one: Upstream, model: str, name: str, upstream: int, seen: type[openai.APIStatusError]
) -> None:
    one.plays[name] = status(upstream)
    with pytest.raises(seen) as caught:
        await gateway.sdk.embeddings.create(model=model, input=["a", "b"])
    assert "CANARY" not in str(caught.value.body)


@pytest.mark.parametrize("answer", [{"embeddings": {"float": VECTORS[:1]}}, {}, {"data": []}, 5])
@pytest.mark.parametrize(("model", "name"), [("cohere", "embed-v4.0"), ("gemini", "")])
async def test_an_answer_that_lacks_a_vector_is_none(gateway: Gateway, one: Upstream, model: str, name: str, answer: Any) -> None:
    one.plays[name] = playing(answer)
    with pytest.raises(openai.InternalServerError) as caught:
        await gateway.sdk.embeddings.create(model=model, input=["a", "b"])
    assert caught.value.status_code == 502


async def test_a_provider_that_fails_is_followed_by_the_next(gateway: Gateway, one: Upstream) -> None:
    one.plays["embed-v4.0"] = status(500)
    raw = await gateway.sdk.embeddings.with_raw_response.create(model="pair", input=["a", "b"])
    assert [each.embedding for each in raw.parse().data] == VECTORS
    assert [row.status for row in await gateway.rows(raw.headers["x-request-id"])][-1] == "ok"


async def test_a_stream_of_embeddings_is_refused_or_none(gateway: Gateway) -> None:
    answer = await gateway.post({"model": "cohere", "input": ["a", "b"], "stream": True}, path="/v1/embeddings")
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "stream"
