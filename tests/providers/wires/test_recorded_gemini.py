"""Exchanges that others recorded with the Gemini API and Vertex AI: answers are read as they are, however they are cut; errors are classified."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import errors as e
from contract import events as ev
from providers.wires.gemini import GEMINI
from providers.wires.gemini.request import FOREIGN_CALL

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
Json = dict[str, Any]
FAILED = "UNEXPECTED_TOOL_CALL"  # the one failure among the recorded reasons


def recorded(*ops: str) -> list[Json]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"] in ops]


ROWS = recorded("gemini.generate", "gemini.stream")
COUNTS = recorded("gemini.count")
STREAMS = [row for row in ROWS if "text" in row["response"]]
ERRORS = [row for row in ROWS if row["response"]["status"] >= 400]
UNARY = [row for row in ROWS if "body" in row["response"] and row["response"]["status"] == 200]


def fails(row: Json) -> bool:
    body = row["response"]["body"]
    return "candidates" not in body or body["candidates"][0]["finishReason"] == FAILED


WHOLE = [row for row in UNARY if not fails(row)]
FAILING = [row for row in UNARY if fails(row)]


def each(rows: list[Json]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[f"{row['host']} {row['id']}" for row in rows])


def body_of(row: Json) -> bytes:
    return json.dumps(row["response"]["body"]).encode()


def chunks_of(row: Json) -> list[Json]:
    if "body" in row["response"]:
        return [row["response"]["body"]]
    return [json.loads(line[6:]) for line in row["response"]["text"].splitlines() if line.startswith("data: ")]


def told(row: Json) -> Json:
    """What the answer says, put together plainly of its JSON."""
    chunks = chunks_of(row)
    candidates = [candidate for chunk in chunks for candidate in chunk.get("candidates", ())]
    parts = [part for candidate in candidates for part in (candidate.get("content") or {}).get("parts", ())]
    counts = chunks[-1]["usageMetadata"]
    audio = sum(detail["tokenCount"] for detail in counts.get("promptTokensDetails", ()) if detail["modality"] == "AUDIO")
    cached = sum(detail["tokenCount"] for detail in counts.get("cacheTokensDetails", ()) if detail["modality"] == "AUDIO")
    finish = candidates[-1]["finishReason"]
    calls = [(part["functionCall"]["name"], part["functionCall"]["args"]) for part in parts if "functionCall" in part]
    return {
        "text": "".join(part.get("text", "") for part in parts if not part.get("thought")),
        "thoughts": "".join(part.get("text", "") for part in parts if part.get("thought")),
        "calls": calls,
        "ids": [part["functionCall"]["id"] for part in parts if "id" in part.get("functionCall", {})],
        "signatures": Counter(part["thoughtSignature"] for part in parts if "thoughtSignature" in part),
        "native": [part[kind] for part in parts for kind in ("executableCode", "codeExecutionResult", "toolCall", "toolResponse") if kind in part],
        "finish": finish,
        "input": counts["promptTokenCount"] + counts.get("toolUsePromptTokenCount", 0),
        "cached": counts.get("cachedContentTokenCount"),
        "audio": audio - cached,
        "reasoning": counts.get("thoughtsTokenCount"),
        "output": counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0),
        "logprobs": [token["token"] for c in candidates for token in c.get("logprobsResult", {}).get("chosenCandidates", ())],
        "cited": sum(len(s["groundingChunkIndices"]) for c in candidates for s in c.get("groundingMetadata", {}).get("groundingSupports", ())),
    }


def read(events: list[ev.Event], given_ids: list[str]) -> Json:
    """The same of the events."""
    calls: dict[int, list[str]] = {}
    ids: list[str] = []
    found: Json = {"text": "", "thoughts": "", "native": [], "logprobs": [], "cited": 0, "signatures": Counter()}
    for event in events:
        match event:
            case ev.TextDelta():
                found["text"] += event.text
                if event.logprobs:
                    found["logprobs"] += [token["token"] for token in json.loads(bytes(event.logprobs))["content"]]
            case ev.ReasoningDelta():
                found["thoughts"] += event.text
            case ev.ToolCallStarted():
                calls[event.part] = [event.name, ""]
                ids.append(event.id)
                if event.signature:
                    found["signatures"][event.signature] += 1
            case ev.ToolCallDelta():
                calls[event.part][1] += event.arguments
            case ev.ReasoningSignature():
                found["signatures"][event.signature] += 1
            case ev.NativeOutput():
                found["native"].append(json.loads(bytes(event.raw)))
            case ev.Annotated():
                found["cited"] += 1
            case ev.Finished():
                found["finish"] = event.finish.native
                assert event.finish.reason == reason_of(event.finish.native, bool(calls))
            case ev.UsageReported(usage=usage):
                found |= {"input": usage.input_total, "cached": usage.cache_read, "audio": usage.audio_input or 0}
                found |= {"reasoning": usage.reasoning, "output": usage.output_total or 0}
    assert len(set(ids)) == len(ids) and all(ids)
    found["calls"] = [(name, json.loads(arguments)) for name, arguments in calls.values()]
    return found | {"ids": [name for name in ids if name in given_ids]}


def reason_of(native: str | None, called: bool) -> str:
    if native == "STOP":
        return "tool_calls" if called else "stop"
    return {"MAX_TOKENS": "length", "SAFETY": "content_filter", "MODEL_ARMOR": "content_filter"}[native or ""]


def decoded(*pieces: bytes) -> list[ev.Event]:
    decoder = GEMINI.stream_decoder(1)
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()


def test_there_are_exchanges() -> None:
    assert (len(STREAMS), len(WHOLE), len(FAILING), len(ERRORS), len(COUNTS)) == (8, 205, 4, 2, 3)


@each(WHOLE)
def test_a_recorded_answer_is_read_right(row: Json) -> None:
    expected = told(row)
    events = GEMINI.decode_response(body_of(row))
    assert read(events, expected["ids"]) == expected
    assert isinstance(events[0], ev.Started) and events[0].id == row["response"]["body"]["responseId"]
    assert isinstance(events[-1], ev.Ended)


@each(FAILING)
def test_a_recorded_block_or_failed_call_is_an_error(row: Json) -> None:
    with pytest.raises(e.ContentPolicyRefused if "promptFeedback" in row["response"]["body"] else e.UpstreamError):
        GEMINI.decode_response(body_of(row))


@each(STREAMS)
def test_a_recorded_stream_is_read_right(row: Json) -> None:
    expected = told(row)
    assert read(decoded(row["response"]["text"].encode()), expected["ids"]) == expected


@each(STREAMS)
def test_a_recorded_stream_cut_anywhere_is_no_whole_answer(row: Json) -> None:
    stream = row["response"]["text"].encode()
    whole = decoded(stream)
    for at in range(len(stream)):
        decoder = GEMINI.stream_decoder(1)
        events = decoder.feed(stream[:at])
        try:
            events += decoder.end()
        except e.StreamCut:
            assert events == whole[: len(events)] and not any(isinstance(event, ev.Ended) for event in events)
        else:
            assert events == whole and not stream[at:].strip()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_recorded_stream_says_the_same_however_it_is_sliced(data: st.DataObject) -> None:
    stream = data.draw(st.sampled_from(STREAMS))["response"]["text"].encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=40)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decoded(*pieces) == decoded(stream)


@each(ERRORS)
def test_a_recorded_error_is_classified_and_its_text_stays_here(row: Json) -> None:
    error = GEMINI.decode_error(row["response"]["status"], {}, body_of(row))
    assert type(error) is e.UpstreamRejected
    assert row["response"]["body"]["error"]["message"] not in error.message


@each(COUNTS)
def test_a_recorded_count_is_read(row: Json) -> None:
    assert GEMINI.decode_count(body_of(row)) == row["response"]["body"]["totalTokens"]


def test_a_foreign_call_is_signed_as_googles_own_client_signs_it() -> None:
    signed = [row for row in ROWS if row["response"]["status"] == 200 and FOREIGN_CALL in json.dumps(row["request"]["body"])]
    assert signed
