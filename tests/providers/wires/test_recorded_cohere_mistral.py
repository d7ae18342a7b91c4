"""Exchanges that others recorded with Cohere, with Mistral, and with those who embed: asked as they were, read as they are."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract import events as ev
from contract.call import Call
from contract.embeddings import EmbeddingRequest
from contract.errors import UnsupportedField, UpstreamModelNotFound
from contract.usage import Usage
from providers.address import Chosen
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS
from providers.wires.cohere import COHERE
from providers.wires.losses import Losses
from providers.wires.mistral import MISTRAL
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_embeddings import OPENAI_EMBEDDINGS
from providers.wires.table import EMBEDDERS
from tests.providers.wires.answering import answering

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
MISTRALS = PROVIDER_KINDS["mistral"]
Json = dict[str, Any]


def recorded() -> list[Json]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["host"] == "api.mistral.ai" or row["op"].startswith("cohere") or "embed" in row["op"]]


ROWS = recorded()
COHERES = [row for row in ROWS if row["op"] == "cohere.chat"]
MISTRAL_CHATS = [row for row in ROWS if row["host"] == "api.mistral.ai" and row["op"] == "openai.chat"]
EMBEDDED = [row for row in ROWS if row["op"] in ("cohere.embed", "gemini.embed")]
PASSED = [row for row in ROWS if row["op"] == "embeddings"]


def each(rows: list[Json]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[f"{row['host']} {row['id']}" for row in rows])


def bytes_of(row: Json) -> bytes:
    return json.dumps(row["response"]["body"]).encode()


def said(events: list[ev.Event]) -> Json:
    """What the events say."""
    found: Json = {"text": "", "reasoning": "", "calls": [], "finish": None}
    for event in events:
        match event:
            case ev.TextDelta():
                found["text"] += event.text
            case ev.ReasoningDelta():
                found["reasoning"] += event.text
            case ev.ToolCallStarted():
                found["calls"].append([event.id, event.name, ""])
            case ev.ToolCallDelta():
                found["calls"][-1][2] += event.arguments
            case ev.Finished():
                found["finish"] = event.finish.native
    return found


def usage_of(events: list[ev.Event]) -> Usage:
    return next(event.usage for event in events if isinstance(event, ev.UsageReported))


def calls_of(message: Json) -> list[list[str]]:
    return [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in message.get("tool_calls") or ()]


def test_there_are_exchanges() -> None:
    assert len(COHERES) >= 5 and len(MISTRAL_CHATS) >= 20 and len(EMBEDDED) >= 10 and len(PASSED) >= 5


@each(COHERES)
def test_coheres_answer_is_decoded_right(row: Json) -> None:
    body = row["response"]["body"]
    events, message = COHERE.decode_response(bytes_of(row)), body["message"]
    content = message.get("content") or []
    assert said(events) == {
        "text": "".join(piece.get("text", "") for piece in content),
        "reasoning": message.get("tool_plan", "") + "".join(piece.get("thinking", "") for piece in content),
        "calls": calls_of(message),
        "finish": body["finish_reason"],
    }
    usage, billed = usage_of(events), body["usage"]["billed_units"]
    assert (usage.input_uncached, usage.output_visible) == (billed["input_tokens"], billed["output_tokens"])
    assert json.loads(bytes(usage.raw)) == body["usage"]
    annotations = [json.loads(bytes(event.annotation)) for event in events if isinstance(event, ev.Annotated)]
    assert annotations == (message.get("citations") or [])
    whole = json.loads(OPENAI_CHAT.encode_response(events, answering()))["choices"][0]
    assert (whole["message"]["content"] or "") == said(events)["text"] and len(whole["message"].get("annotations", ())) == len(annotations)


def in_openais_words(body: Json) -> Json:
    """Cohere's request as a client of ours would have asked it."""
    asked = {name: value for name, value in body.items() if name != "thinking"}
    if "tool_choice" in asked:
        asked["tool_choice"] = asked["tool_choice"].lower()
    asked["messages"] = [dict(message) for message in body["messages"]]
    for message in asked["messages"]:
        if isinstance(message.get("content"), list):
            message["reasoning_content"] = "".join(piece.get("thinking", "") for piece in message["content"])
            message["content"] = "".join(piece.get("text", "") for piece in message["content"])
    return asked


@each(COHERES)
def test_coheres_request_is_asked_as_it_was(row: Json) -> None:
    body, losses = row["request"]["body"], Losses()
    chat = OPENAI_CHAT.decode_request(json.dumps(in_openais_words(body)).encode())
    again = json.loads(COHERE.encode_request(chat, body["model"], PROVIDER_KINDS["cohere"].facts, losses))
    for message in body["messages"]:
        for piece in message["content"] if isinstance(message.get("content"), list) else ():
            piece.setdefault("type", "thinking" if "thinking" in piece else "text")
    assert again == {name: value for name, value in body.items() if name != "thinking"}
    assert losses.fatal == losses.hints == []


def native(dialect: Any, body: Json) -> Json:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in body.items()}
    shape: Json = {"model": body["model"], "stream": bool(body.get("stream")), "include_usage": False, "choices": 1}
    call = Call(request_id="r", dialect=dialect, body=json.dumps(body).encode(), fields=fields, **shape)
    sent: Json = json.loads(routes_of(MISTRALS, Chosen(name="m"))[dialect].prepare(call, body["model"], "nothing").body)
    return sent


@each(MISTRAL_CHATS)
def test_mistrals_request_passes_as_it_came(row: Json) -> None:
    assert native("openai_chat", row["request"]["body"]) == row["request"]["body"]


def plain(body: Json) -> Json:
    """Texts in one form, and nothing that is a default."""
    found = {**body, "messages": [dict(message) for message in body["messages"]]}
    for message in found["messages"]:
        if isinstance(message["content"], list) and all(piece["type"] == "text" for piece in message["content"]):
            message["content"] = "\n".join(piece["text"] for piece in message["content"])
        for call in message.get("tool_calls", ()):
            call.pop("index", None)
    found["tools"] = [{"type": "function", **tool} for tool in body.get("tools") or ()]
    return {name: value for name, value in found.items() if value not in (False, None)}


@each(MISTRAL_CHATS)
def test_mistrals_request_means_the_same_when_it_is_translated(row: Json) -> None:
    body, losses = row["request"]["body"], Losses()
    asked = {**body, "tool_choice": "required"} if body.get("tool_choice") == "any" else body
    try:
        chat = OPENAI_CHAT.decode_request(json.dumps(asked).encode())
    except UnsupportedField as error:
        assert "document_url" in json.dumps(body) and error.param
        return
    again = json.loads(MISTRAL.encode_request(chat, body["model"], MISTRALS.facts, losses))
    assert plain(again) == plain(body) and losses.fatal == [] and set(losses.hints) <= {"messages.index"}


@each(MISTRAL_CHATS)
def test_mistrals_answer_is_decoded_right_and_passes_as_it_came(row: Json) -> None:
    body = row["response"]["body"]
    events, choice = MISTRAL.decode_response(bytes_of(row)), body["choices"][0]
    message = choice["message"]
    assert said(events) == {"text": message["content"], "reasoning": "", "calls": calls_of(message), "finish": choice["finish_reason"]}
    usage, told = usage_of(events), body["usage"]
    assert (usage.input_total, usage.output_total) == (told["prompt_tokens"], told["completion_tokens"])
    assert (usage.cache_read or 0) == told.get("num_cached_tokens", 0)
    answer = MISTRAL.read_unary(bytes_of(row))
    assert answer.body == bytes_of(row) and answer.usage == usage and answer.upstream_id == body["id"]


def embedded(row: Json) -> tuple[str, EmbeddingRequest]:
    """The embedder, and what a client of ours would have asked of it."""
    body, path = row["request"]["body"], row["request"].get("path") or row["request"]["url"]
    if row["op"] == "cohere.embed":
        return "cohere", EmbeddingRequest(model=body["model"], inputs=tuple(body["texts"]), input_type=body["input_type"])
    model = path.rpartition("/models/")[2].partition(":")[0]
    if "requests" not in body:
        return "vertex", EmbeddingRequest(model=model, inputs=(body["content"]["parts"][0]["text"],))
    texts = tuple(one["content"]["parts"][0]["text"] for one in body["requests"])
    first = body["requests"][0]
    return "gemini", EmbeddingRequest(model=model, inputs=texts, dimensions=first.get("outputDimensionality"), input_type=first.get("taskType"))


@each(EMBEDDED)
def test_embeddings_are_asked_as_they_were(row: Json) -> None:
    name, request = embedded(row)
    path = row["request"].get("path") or row["request"]["url"]
    assert path.endswith(EMBEDDERS[name].path(request.model))
    again = json.loads(EMBEDDERS[name].encode_request(request, request.model, Losses()))
    again.pop("embedContentConfig", None)  # that a long text is not cut
    assert again == {name: value for name, value in row["request"]["body"].items() if value is not None}


@each(EMBEDDED)
def test_embeddings_are_read_right(row: Json) -> None:
    name, request = embedded(row)
    body = row["response"]["body"]
    answer = EMBEDDERS[name].decode_response(bytes_of(row), request)
    wanted = body["embeddings"]["float"] if name == "cohere" else [one["values"] for one in body.get("embeddings") or [body["embedding"]]]
    assert [list(vector) for vector in answer.vectors] == wanted
    told = body["meta"]["billed_units"]["input_tokens"] if name == "cohere" else (body.get("usageMetadata") or {}).get("promptTokenCount")
    assert (answer.usage.input_uncached if answer.usage else None) == told


@each(PASSED)
def test_embeddings_of_openais_form_pass_and_are_read_for_their_usage(row: Json) -> None:
    if row["response"]["status"] != 200:
        assert isinstance(OPENAI_EMBEDDINGS.decode_error(row["response"]["status"], {}, bytes_of(row)), UpstreamModelNotFound)
        return
    answer = OPENAI_EMBEDDINGS.read_unary(bytes_of(row))
    assert answer.body == bytes_of(row) and answer.usage is not None
    assert answer.usage.input_total == row["response"]["body"]["usage"]["total_tokens"]
