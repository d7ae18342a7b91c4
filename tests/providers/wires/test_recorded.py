"""Exchanges that others recorded with real providers: requests mean the same after us, answers are read as they are."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from contract import events as ev
from contract.errors import InvalidRequest, TurnoutError
from contract.usage import Usage
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_chat.tap import ChatStreamTap, read_unary
from tests.providers.sse_oracle import events_of
from tests.providers.wires.chat_requests import same_meaning, with_usage

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
REFUSED = {"messages[].content[].type", "tool_choice"}  # what OpenAI does not have: video_url, document_url, "any"
MOST_REFUSED = 6


def recorded() -> list[dict[str, Any]]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"] == "openai.chat"]


ROWS = recorded()
ANSWERED = [row for row in ROWS if row["response"]["status"] == 200]


def is_stream(row: dict[str, Any]) -> bool:
    return "\ndata: " in "\n" + row["response"].get("text", "")


STREAMS = [row for row in ANSWERED if is_stream(row)]
WHOLE = [row for row in ANSWERED if "body" in row["response"]]
REFUSALS = [row for row in ROWS if row["response"]["status"] >= 400]


def each(rows: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[f"{row['host']} {row['id']}" for row in rows])


def pathless(param: str | None) -> str:
    return "".join(char for char in param or "" if not char.isdigit())


def is_refused(row: dict[str, Any]) -> bool:
    try:
        OPENAI_CHAT.decode_request(json.dumps(row["request"]["body"]).encode())
    except InvalidRequest as error:
        assert pathless(error.param) in REFUSED and error.message
        return True
    return False


def test_there_are_exchanges() -> None:
    assert len(STREAMS) > 30 and len(WHOLE) > 150


def test_few_requests_are_refused_and_each_for_a_field() -> None:
    assert sum(map(is_refused, ROWS)) <= MOST_REFUSED


@each(ROWS)
def test_a_recorded_request_means_the_same_after_decoding_and_encoding(row: dict[str, Any]) -> None:
    if is_refused(row):
        return
    body = row["request"]["body"]
    chat = OPENAI_CHAT.decode_request(json.dumps(body).encode())
    losses = Losses()
    again = OPENAI_CHAT.encode_request(chat, chat.model, Facts(), losses)
    assert losses.fatal == losses.hints == []
    assert same_meaning(json.loads(again)) == same_meaning(body)
    assert OPENAI_CHAT.decode_request(again) == with_usage(chat)


def assert_usage(usage: Usage | None, given: dict[str, Any] | None) -> None:
    if given is None:
        assert usage is None
        return
    assert usage is not None and usage.raw is not None and json.loads(bytes(usage.raw)) == given
    into, out = given.get("prompt_tokens_details") or {}, given.get("completion_tokens_details") or {}
    parts = (into.get("cached_tokens") or 0) + (into.get("cache_write_tokens") or 0)  # OpenRouter: more than all, where both are billed
    assert usage.input_total == max(given["prompt_tokens"], parts)
    assert usage.output_total == max(given["completion_tokens"], out.get("reasoning_tokens") or 0)


def content(events: list[ev.Event]) -> dict[str, Any]:
    """What the answer to choice 0 says, of any number of pieces."""
    found: dict[str, Any] = {"text": "", "reasoning": "", "calls": {}, "finish": None}
    for event in events:
        match event:
            case ev.TextDelta(choice=0):
                found["text"] += event.text
            case ev.ReasoningDelta(choice=0):
                found["reasoning"] += event.text
            case ev.ToolCallStarted(choice=0):
                found["calls"][event.part] = [event.id, event.name, ""]
            case ev.ToolCallDelta(choice=0):
                found["calls"][event.part][2] += event.arguments
            case ev.Finished(choice=0):
                found["finish"] = event.finish.native
    return found | {"calls": list(found["calls"].values())}


def usage_of(events: list[ev.Event]) -> Usage | None:
    return next((event.usage for event in reversed(events) if isinstance(event, ev.UsageReported)), None)


def detailed(delta: dict[str, Any]) -> str:
    """The reasoning of a provider that tells it in details alone."""
    return "".join(detail.get("text") or detail.get("summary") or "" for detail in delta.get("reasoning_details") or ())


def without_made_ids(read: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """What was read, with no id for a call to which the provider gave none: it must have one, and what one is ours."""
    assert all(call[0] for call in read["calls"])
    pairs = zip(read["calls"], told["calls"], strict=True)
    return read | {"calls": [mine if theirs[0] else [theirs[0], *mine[1:]] for mine, theirs in pairs]}


def streamed(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The same, read of the chunks' JSON."""
    found: dict[str, Any] = {"text": "", "reasoning": "", "calls": {}, "finish": None}
    for choice in (choice for chunk in chunks for choice in chunk.get("choices") or () if choice.get("index", 0) == 0):
        delta = choice.get("delta") or {}
        found["text"] += delta.get("content") or ""
        found["reasoning"] += delta.get("reasoning_content") or delta.get("reasoning") or detailed(delta)
        for place, call in enumerate(delta.get("tool_calls") or ()):
            made = found["calls"].setdefault(call.get("index", place), [call.get("id"), call["function"].get("name"), ""])
            made[2] += call["function"].get("arguments") or ""
        found["finish"] = found["finish"] or choice.get("finish_reason") or None
    return found | {"calls": list(found["calls"].values())}


def chunks_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    data = [data for _, data in events_of(row["response"]["text"].encode())]
    return [json.loads(piece) for piece in data if piece != "[DONE]"]


def last_usage(chunks: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)


@each(STREAMS)
def test_a_recorded_stream_goes_by_as_it_came_and_is_read_right(row: dict[str, Any]) -> None:
    stream = row["response"]["text"].encode()
    chunks = chunks_of(row)
    tap = ChatStreamTap(1, strip_usage=False)
    assert tap.feed(stream) + tap.end() == stream
    assert tap.complete and tap.error is None
    assert (tap.finish.native if tap.finish else None) == streamed(chunks)["finish"]
    assert (tap.upstream_id or "") == next((chunk["id"] for chunk in chunks if chunk["id"]), "")
    assert_usage(tap.usage, last_usage(chunks))


@each(STREAMS)
def test_a_recorded_stream_is_decoded_right_however_it_is_cut(row: dict[str, Any]) -> None:
    stream = row["response"]["text"].encode()
    chunks = chunks_of(row)
    for size in (len(stream), 7):
        decoder = OPENAI_CHAT.stream_decoder(1)
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()
        assert without_made_ids(content(events), streamed(chunks)) == streamed(chunks)
        assert all(event.text for event in events if isinstance(event, ev.TextDelta) and not event.logprobs)
        assert_usage(usage_of(events), last_usage(chunks))
        assert isinstance(events[0], ev.Started) and isinstance(events[-1], ev.Ended)


@each(WHOLE)
def test_a_recorded_answer_is_read_right(row: dict[str, Any]) -> None:
    body = row["response"]["body"]
    answer = read_unary(json.dumps(body).encode())
    assert answer.upstream_id == body["id"]
    assert (answer.finish.native if answer.finish else None) == (body["choices"][0]["finish_reason"] or None)
    assert_usage(answer.usage, body.get("usage"))


@each(WHOLE)
def test_a_recorded_answer_is_decoded_right(row: dict[str, Any]) -> None:
    body = row["response"]["body"]
    events = OPENAI_CHAT.decode_response(json.dumps(body).encode())
    choice = body["choices"][0]
    told = streamed([{"choices": [{**choice, "delta": choice["message"]}]}])
    assert without_made_ids(content(events), told) == told
    assert_usage(usage_of(events), body.get("usage"))


@each(REFUSALS)
def test_a_recorded_refusal_is_classified(row: dict[str, Any]) -> None:
    body = json.dumps(row["response"]["body"]).encode()
    error: TurnoutError = OPENAI_CHAT.decode_error(row["response"]["status"], {}, body)
    assert error.reason in {"upstream_rejected", "upstream_model_not_found", "context_length_exceeded"}
