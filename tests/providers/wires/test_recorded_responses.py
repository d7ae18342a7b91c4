"""Responses exchanges that others recorded with OpenAI and with those that speak its format: requests mean the same, answers are read as they are."""

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from contract import events as ev
from contract.errors import AttemptError, StreamCut
from contract.usage import Usage
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.openai_responses.tap import ResponsesStreamTap, read_unary
from tests.providers.wires.answering import answering
from tests.providers.wires.responses_machine import run, told

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")


def recorded() -> list[dict[str, Any]]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"] == "openai.responses"]


ROWS = recorded()
ANSWERED = [row for row in ROWS if row["response"]["status"] == 200]
STREAMS = [row for row in ANSWERED if "text" in row["response"]]
WHOLE = [row for row in ANSWERED if "body" in row["response"]]
ENDED = [row for row in WHOLE if row["response"]["body"]["status"] in ("completed", "incomplete")]
REFUSALS = [row for row in ROWS if row["response"]["status"] >= 400]


def each(rows: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[f"{row['host']} {row['id']}" for row in rows])


def test_there_are_exchanges() -> None:
    assert len(STREAMS) > 50 and len(WHOLE) > 140 and len(REFUSALS) >= 3


# --- requests --------------------------------------------------------------------------------------------------------
ASIDE = {"message": {"id", "status"}, "function_call": {"id", "status"}, "function_call_output": {"id", "status"}, "reasoning": {"status"}}
TEXTS = {"input_text", "output_text", "text"}


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def same_part(part: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in part.items() if name not in ("annotations", "logprobs")}
    return {**({"detail": "auto"} if part["type"] == "input_image" else {}), **kept, "type": "text" if part["type"] in TEXTS else part["type"]}


def same_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what says nothing to the model; reasoning's pieces are one text."""
    kind = item.get("type", "message")
    kept = {"type": kind, **{name: value for name, value in item.items() if name not in ASIDE.get(kind, ())}}
    if kind == "message":
        content = kept["content"]
        kept["content"] = [same_part(part) for part in ([{"type": "text", "text": content}] if isinstance(content, str) else content)]
    elif kind == "reasoning":
        texts = [piece["text"] for piece in [*kept.pop("summary", []), *kept.pop("content", [])]]
        kept["text"] = "\n\n".join(texts)
    return kept


def same_meaning(body: dict[str, Any]) -> dict[str, Any]:
    """Instructions are a message, a text is a user's, what the model said in one go is one message, and a stream not asked for is not there."""
    told = {name: value for name, value in without_nulls(body).items() if (name, value) != ("stream", False)}
    instructions, given = told.pop("instructions", None), told.pop("input")
    items = [{"role": "system", "content": instructions}] if instructions else []
    items += [{"role": "user", "content": given}] if isinstance(given, str) else given
    joined: list[dict[str, Any]] = []
    for item in map(same_item, items):
        last = joined[-1] if joined else {}
        both = item["type"] == last.get("type") == "message" and item["role"] == last["role"] == "assistant"
        if both and item.get("phase") == last.get("phase"):
            last["content"] += item["content"]
        else:
            joined.append(item)
    return {**told, "input": joined}


@each(ROWS)
def test_a_recorded_request_means_the_same_after_decoding_and_encoding(row: dict[str, Any]) -> None:
    body = row["request"]["body"]
    request = OPENAI_RESPONSES.decode_request(json.dumps(body).encode())
    losses = Losses()
    again = OPENAI_RESPONSES.encode_request(request, request.model, Facts(), losses)
    assert losses.fatal == losses.hints == []
    assert same_meaning(json.loads(again)) == same_meaning(body)
    assert OPENAI_RESPONSES.encode_request(OPENAI_RESPONSES.decode_request(again), request.model, Facts(), losses) == again


# --- answers: an independent reading ---------------------------------------------------------------------------------
def spoken(body: dict[str, Any]) -> dict[str, Any]:
    """What a whole response says."""
    found: dict[str, Any] = {"text": "", "refusal": "", "reasoning": "", "calls": [], "natives": [], "annotations": []}
    for item in body["output"]:
        if item["type"] == "message":
            found["text"] += "".join(part.get("text") or "" for part in item["content"])
            found["refusal"] += "".join(part.get("refusal") or "" for part in item["content"])
            found["annotations"] += [note for part in item["content"] for note in part.get("annotations") or ()]
        elif item["type"] == "reasoning":
            found["reasoning"] += "\n\n".join(piece["text"] for piece in [*item["summary"], *(item.get("content") or ())] if piece["text"])
        elif item["type"] in ("function_call", "custom_tool_call"):
            found["calls"].append([item["call_id"], item["name"], item.get("arguments") or item.get("input") or ""])
        else:
            found["natives"].append(item)
    return found


def content(events: list[ev.Event]) -> dict[str, Any]:
    """The same, of events."""
    found: dict[str, Any] = {"text": "", "refusal": "", "reasoning": "", "calls": {}, "natives": [], "annotations": []}
    for event in events:
        match event:
            case ev.TextDelta():
                found["text"] += event.text
            case ev.RefusalDelta():
                found["refusal"] += event.text
            case ev.ReasoningDelta():
                found["reasoning"] += event.text
            case ev.ToolCallStarted():
                found["calls"][event.part] = [event.id, event.name, ""]
            case ev.ToolCallDelta():
                found["calls"][event.part][2] += event.arguments
            case ev.NativeOutput():
                found["natives"].append(json.loads(bytes(event.raw)))
            case ev.Annotated():
                found["annotations"].append(json.loads(bytes(event.annotation)))
    return found | {"calls": list(found["calls"].values())}


def assert_usage(usage: Usage | None, given: dict[str, Any]) -> None:
    assert usage is not None and json.loads(bytes(usage.raw)) == given
    assert (usage.input_total, usage.output_total) == (given["input_tokens"], given["output_tokens"])
    assert usage.cache_read == (given.get("input_tokens_details") or {}).get("cached_tokens")
    assert usage.reasoning == (given.get("output_tokens_details") or {}).get("reasoning_tokens")


def assert_read_right(events: list[ev.Event], body: dict[str, Any]) -> None:
    assert content(events) == spoken(body)
    started, finished = events[0], next(event for event in events if isinstance(event, ev.Finished))
    assert isinstance(started, ev.Started) and (started.id, started.model) == (body["id"], body["model"])
    calls = any(item["type"] in ("function_call", "custom_tool_call") for item in body["output"])
    assert finished.finish.reason == ("length" if body["status"] == "incomplete" else "tool_calls" if calls else "stop")
    assert_usage(next((event.usage for event in events if isinstance(event, ev.UsageReported)), None), body["usage"])
    assert isinstance(events[-1], ev.Ended)


def decoded(pieces: list[bytes]) -> list[ev.Event]:
    decoder = OPENAI_RESPONSES.stream_decoder(1)
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()


def stream_of(row: dict[str, Any]) -> bytes:
    text: str = row["response"]["text"]
    return text.encode()


def final_of(row: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = told(stream_of(row))[-1][1]["response"]
    return body


@each(STREAMS)
def test_a_recorded_stream_is_legal(row: dict[str, Any]) -> None:
    assert run(stream_of(row), encrypts_anew=True).ended


@each(STREAMS)
def test_a_recorded_stream_is_decoded_right_however_it_is_sliced(row: dict[str, Any]) -> None:
    stream, slices = stream_of(row), random.Random(row["id"])
    whole = decoded([stream])
    assert_read_right(whole, final_of(row))
    for most in (1, 40, 3000):
        at, pieces = 0, []
        while at < len(stream):
            size = slices.randint(1, most)
            pieces.append(stream[at : at + size])
            at += size
        assert decoded(pieces) == whole


@each(STREAMS)
def test_a_recorded_stream_goes_by_as_it_came_and_is_read_right(row: dict[str, Any]) -> None:
    stream, body = stream_of(row), final_of(row)
    tap = ResponsesStreamTap(kept=body.get("store") is not False)
    assert tap.feed(stream) + tap.end() == stream
    assert tap.complete and tap.error is None and tap.upstream_id == body["id"]
    assert json.loads(tap.whole) == body
    assert_usage(tap.usage, body["usage"])
    encrypted = [item["encrypted_content"] for item in body["output"] if item.get("encrypted_content")]
    assert {*encrypted, *([body["id"]] if body.get("store") is not False else [])} <= set(tap.bound)


@each(STREAMS)
def test_a_recorded_stream_cut_at_any_byte_never_looks_whole(row: dict[str, Any]) -> None:
    """Byte by byte, whatever went through is the stream so far and not its end, until the terminal event is there."""
    stream = stream_of(row)
    last = stream.rindex(b"data: ")
    end = last + stream[last:].index(b"\n") + 1  # at the last event's blank line, or where its line is whole
    tap, decoder = ResponsesStreamTap(kept=True), OPENAI_RESPONSES.stream_decoder(1)
    sent, events = b"", []
    for at in range(end - 1):
        sent += tap.feed(stream[at : at + 1])
        events += decoder.feed(stream[at : at + 1])
        assert not tap.complete and tap.error is None
    assert stream.startswith(sent) and b"response.completed" not in sent and not any(isinstance(event, ev.Ended) for event in events)
    for cut in range(last, last + 60):
        tap, decoder = ResponsesStreamTap(kept=True), OPENAI_RESPONSES.stream_decoder(1)
        tap.feed(stream[:cut])
        decoder.feed(stream[:cut])
        assert b"response.completed" not in tap.end() and isinstance(tap.error, StreamCut)
        with pytest.raises(StreamCut):
            decoder.end()


@each(ENDED)
def test_a_recorded_answer_is_decoded_right(row: dict[str, Any]) -> None:
    body = row["response"]["body"]
    assert_read_right(OPENAI_RESPONSES.decode_response(json.dumps(body).encode()), body)


@each(WHOLE)
def test_a_recorded_answer_passes_and_is_read_right(row: dict[str, Any]) -> None:
    body = row["response"]["body"]
    answer = read_unary(json.dumps(body).encode())
    assert answer.upstream_id == body["id"] and json.loads(answer.body) == body
    assert (answer.finish is None) == (body["status"] in ("queued", "in_progress"))
    if body.get("usage"):
        assert_usage(answer.usage, body["usage"])
    assert (body["id"] in answer.bound) == (body.get("store") is not False)


@each(ENDED)
def test_a_recorded_answer_said_again_says_the_same(row: dict[str, Any]) -> None:
    body = row["response"]["body"]
    events = OPENAI_RESPONSES.decode_response(json.dumps(body).encode())
    stream = OPENAI_RESPONSES.stream_encoder(answering("openai_responses"))
    again = run(b"".join([stream.feed(event) for event in events])).final
    first, second = spoken(body), spoken(again)
    assert {**second, "calls": [[*call[:2], call[2] or "{}"] for call in second["calls"]]} == first
    assert again["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"]
    assert again["status"] == body["status"]


@each(REFUSALS)
def test_a_recorded_refusal_is_classified(row: dict[str, Any]) -> None:
    body = json.dumps(row["response"]["body"]).encode()
    error: AttemptError = OPENAI_RESPONSES.decode_error(row["response"]["status"], {}, body)
    assert error.reason in {400: ("upstream_rejected", "upstream_model_not_found"), 401: ("upstream_auth_failed",)}[row["response"]["status"]]
