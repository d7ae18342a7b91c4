"""Exchanges that others recorded with Anthropic: requests mean the same after us, answers are read as they are, however they are cut."""

import copy
import gzip
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from anthropic.types.beta import BetaMessage, BetaRawMessageStreamEvent
from pydantic import TypeAdapter

from contract import errors as e
from contract import events as ev
from contract.call import Call
from contract.usage import Usage
from providers.wires.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.port import Answering
from tests.providers.wires import anthropic_machine

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
EDGE = 1024  # of a long stream, every byte of its first and last so many is a place to cut
LONG = 20_000
FACTS = Facts(files=True, prefill=True)
Json = dict[str, Any]


def recorded(op: str) -> list[Json]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"] == op]


ROWS = recorded("anthropic.messages")
COUNTS = recorded("anthropic.count_tokens")
STREAMS = [row for row in ROWS if "text" in row["response"]]
WHOLE = [row for row in ROWS if "body" in row["response"]]
COUNTED = [row for row in COUNTS if row["response"]["status"] == 200]
REFUSED = [row for row in COUNTS if row["response"]["status"] >= 400]


def each(rows: list[Json]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row["id"] for row in rows])


def body_of(row: Json) -> bytes:
    return msgspec.json.encode(row["request"]["body"])


def answering(row: Json) -> Answering:
    model = row["request"]["body"]["model"]
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in row["request"]["body"].items()}
    stream = bool(row["stream"])
    call = Call(
        request_id="r1", dialect="anthropic_messages", model=model, stream=stream, include_usage=True, choices=1, body=body_of(row), fields=fields
    )
    return Answering(call=call, target="t", now_s=1_760_000_000)


def test_there_are_exchanges() -> None:
    assert (len(STREAMS), len(WHOLE), len(COUNTED), len(REFUSED)) == (17, 177, 5, 1)


def same_meaning(value: Any) -> Any:
    """One form for what means the same: null and absent, a text and an array of it, a default and its absence."""
    if isinstance(value, list):
        return [same_meaning(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: same_meaning(member) for name, member in value.items() if member is not None}
    for name in ("content", "system"):
        if isinstance(found.get(name), str) and ("role" in found or found.get("type") == "tool_result" or "messages" in found):
            found[name] = [{"type": "text", "text": found[name]}]
    defaults: list[tuple[str, Any]] = [("stream", False), ("is_error", False), ("tools", []), ("caller", {"type": "direct"})]
    for name, default in [*defaults, *([("type", "custom")] if "input_schema" in found else [])]:
        if name in found and found[name] == default:
            del found[name]
    return found


@each(ROWS)
def test_a_recorded_request_means_the_same_after_decoding_and_encoding(row: Json) -> None:
    losses = Losses()
    request = ANTHROPIC_MESSAGES.decode_request(body_of(row))
    again = ANTHROPIC_MESSAGES.encode_request(request, request.model, FACTS, losses)
    assert same_meaning(json.loads(again)) == same_meaning(row["request"]["body"])
    assert ANTHROPIC_MESSAGES.decode_request(again) == request
    assert not losses.fatal and not losses.hints


def plain(row: Json) -> bool:
    """Text and tools of the client's own: what every format has."""
    return not re.search(
        r'_2025|_2026|mcp_|container|document|"type": "image"|system"|tool_reference|advisor|compaction|server_tool',
        json.dumps(row["request"]["body"]),
    )


@each([row for row in ROWS if plain(row)])
def test_a_plain_recorded_request_goes_to_openai_and_says_the_same(row: Json) -> None:
    losses = Losses()
    request = ANTHROPIC_MESSAGES.decode_request(body_of(row))
    chat = json.loads(OPENAI_CHAT.encode_request(request, "gpt-5", Facts(), losses))
    assert set(losses.fatal) <= {"messages.reasoning", "extra.output_config", "top_k"}
    given = [block for message in row["request"]["body"]["messages"] for block in blocks_of(message)]
    calls = [call for message in chat["messages"] for call in message.get("tool_calls", ())]
    assert [call["id"] for call in calls] == [block["id"] for block in given if block["type"] == "tool_use"]
    answered = [message["tool_call_id"] for message in chat["messages"] if message["role"] == "tool"]
    assert answered == [block["tool_use_id"] for block in given if block["type"] == "tool_result"]


def blocks_of(message: Json) -> list[Json]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def chunks_of(row: Json) -> list[Json]:
    return [json.loads(line[6:]) for line in row["response"]["text"].splitlines() if line.startswith("data: ")]


def merged(row: Json) -> Json:
    """The message that a stream's events make up, put together plainly."""
    blocks: dict[int, Json] = {}
    message: Json = {}
    for chunk in chunks_of(row):
        match chunk:
            case {"type": "message_start", "message": start}:
                message = copy.deepcopy(start)
            case {"type": "content_block_start", "index": index, "content_block": block}:
                blocks[index] = {**block, "json": ""}
            case {"type": "content_block_delta", "index": index, "delta": {"type": "citations_delta", "citation": cited}}:
                blocks[index]["citations"] = [*(blocks[index].get("citations") or ()), cited]
            case {"type": "content_block_delta", "index": index, "delta": delta}:
                for name, piece in delta.items():
                    if name in ("text", "thinking", "signature"):
                        blocks[index][name] += piece
                    elif name == "partial_json":
                        blocks[index]["json"] += piece
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                message |= delta
                message["usage"] |= usage
    for block in blocks.values():
        if text := block.pop("json"):
            block["input"] = json.loads(text)
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return message


def message_of(row: Json) -> Json:
    body: Json = row["response"]["body"] if "body" in row["response"] else merged(row)
    return body


def read(message: Json) -> Json:
    """What a message says, by its JSON."""
    content = message["content"]
    return {
        "id": message["id"],
        "model": message["model"],
        "text": [block["text"] for block in content if block["type"] == "text" and block["text"]],
        "thinking": [block["thinking"] for block in content if block["type"] == "thinking" and block["thinking"]],
        "signatures": [block.get("signature") or block["data"] for block in content if block["type"] in ("thinking", "redacted_thinking")],
        "calls": [(block["id"], block["name"], block["input"]) for block in content if block["type"] == "tool_use"],
        "cited": [cited for block in content for cited in block.get("citations") or () if block["type"] == "text"],
        "native": [block for block in content if block["type"] not in ("text", "thinking", "redacted_thinking", "tool_use")],
        "stop": (message["stop_reason"], message["stop_sequence"]),
    }


def found(events: list[ev.Event]) -> Json:
    """What the events say."""
    pieces: dict[str, dict[int, str]] = {"text": {}, "thinking": {}, "calls": {}}
    names: dict[int, tuple[str, str]] = {}
    said: Json = {"signatures": [], "cited": [], "native": []}
    for event in events:
        match event:
            case ev.Started():
                said |= {"id": event.id, "model": event.model}
            case ev.TextDelta():
                pieces["text"][event.part] = pieces["text"].get(event.part, "") + event.text
            case ev.ReasoningDelta():
                pieces["thinking"][event.part] = pieces["thinking"].get(event.part, "") + event.text
            case ev.ReasoningSignature():
                said["signatures"].append(event.signature)
            case ev.ToolCallStarted():
                names[event.part] = (event.id, event.name)
            case ev.ToolCallDelta():
                pieces["calls"][event.part] = pieces["calls"].get(event.part, "") + event.arguments
            case ev.Annotated():
                said["cited"].append(json.loads(bytes(event.annotation)))
            case ev.NativeOutput():
                said["native"].append(json.loads(bytes(event.raw)))
            case ev.Finished():
                said["stop"] = (event.finish.native, event.finish.stop_sequence)
    calls = [(*names[part], json.loads(pieces["calls"][part])) for part in names]
    return said | {"text": list(pieces["text"].values()), "thinking": list(pieces["thinking"].values()), "calls": calls}


def assert_usage(usage: Usage | None, given: Json) -> None:
    assert usage is not None and usage.raw
    more = [each for each in given.get("iterations") or () if each["type"] == "compaction"]
    writes = [given, *more]
    total = sum(each["input_tokens"] + each["cache_read_input_tokens"] + each["cache_creation_input_tokens"] for each in writes)
    assert usage.input_total == total
    assert usage.output_total == sum(each["output_tokens"] for each in writes)
    assert usage.input_uncached == sum(each["input_tokens"] for each in writes)
    assert usage.cache_read == sum(each["cache_read_input_tokens"] for each in writes)


def usage_of(events: list[ev.Event]) -> Usage | None:
    reported = [event.usage for event in events if isinstance(event, ev.UsageReported)]
    assert len(reported) <= 1
    return reported[0] if reported else None


def assert_grammar(events: list[ev.Event]) -> None:
    kinds = [type(event) for event in events]
    assert kinds[0] is ev.Started and kinds[-3:] == [ev.Finished, ev.UsageReported, ev.Ended]
    parts = [event.part for event in events if isinstance(event, ev.ContentEvent)]
    assert parts == sorted(parts)
    assert all(event.id for event in events if isinstance(event, ev.ToolCallStarted))


def events_of(row: Json, size: int) -> list[ev.Event]:
    stream = row["response"]["text"].encode()
    decoder = ANTHROPIC_MESSAGES.stream_decoder(1)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.end()


@each(WHOLE)
def test_a_recorded_answer_is_read_and_decoded_right(row: Json) -> None:
    body = row["response"]["body"]
    answer = ANTHROPIC_MESSAGES.read_unary(json.dumps(body).encode())
    assert answer.upstream_id == body["id"] and answer.finish is not None and answer.finish.native == body["stop_reason"]
    assert_usage(answer.usage, body["usage"])
    assert set(read(body)["signatures"]) <= set(answer.bound)
    events = ANTHROPIC_MESSAGES.decode_response(json.dumps(body, indent=1).encode())
    assert found(events) == read(body)
    assert_usage(usage_of(events), body["usage"])
    assert_grammar(events)


@each(STREAMS)
def test_a_recorded_stream_is_decoded_right_however_it_is_sliced(row: Json) -> None:
    whole = merged(row)
    stream = row["response"]["text"].encode()
    for size in (len(stream), 1, *random.Random(row["id"]).sample(range(2, 500), 3)):
        events = events_of(row, size)
        assert found(events) == read(whole)
        assert_usage(usage_of(events), whole["usage"])
        assert_grammar(events)


@each(STREAMS)
def test_a_recorded_stream_goes_by_as_it_came_and_is_read_right(row: Json) -> None:
    stream, whole = row["response"]["text"].encode(), merged(row)
    for size in (len(stream), 61):
        tap = ANTHROPIC_MESSAGES.stream_tap(answering(row).call, False)
        out = b"".join(tap.feed(stream[at : at + size]) for at in range(0, len(stream), size)) + tap.end()
        assert out == stream
        assert tap.complete and tap.finished and tap.error is None
        assert tap.upstream_id == whole["id"] and tap.finish is not None and tap.finish.native == whole["stop_reason"]
        assert_usage(tap.usage, whole["usage"])
        assert set(read(whole)["signatures"]) <= set(tap.bound)


@each(STREAMS)
def test_the_machine_of_legal_streams_takes_a_recorded_one(row: Json) -> None:
    machine = anthropic_machine.run(row["response"]["text"].encode())
    assert machine.ended and len(machine.message["content"]) == len(merged(row)["content"])


def cuts(stream: bytes) -> list[int]:
    if len(stream) <= LONG:
        return list(range(len(stream)))
    ends = [match.end() for match in re.finditer(rb"\n\n", stream)]
    near = {at + off for at in ends for off in range(-3, 3)}
    return sorted({*range(EDGE), *range(len(stream) - EDGE, len(stream)), *(at for at in near if 0 <= at < len(stream))})


@each(STREAMS)
def test_a_recorded_stream_that_is_cut_anywhere_is_never_whole(row: Json) -> None:
    stream = row["response"]["text"].encode()
    last = stream.index(b'"message_delta"')
    decoder, at, seen = ANTHROPIC_MESSAGES.stream_decoder(1), 0, 0
    for cut in cuts(stream):
        seen += len(decoder.feed(stream[at:cut]))
        at = cut
        try:
            rest = copy.deepcopy(decoder).end()
        except e.AttemptError:
            continue
        assert cut > last and isinstance(rest[-1], ev.Ended)
    assert seen


@each(STREAMS)
def test_a_recorded_stream_that_is_cut_anywhere_lets_only_whole_events_through(row: Json) -> None:
    stream = row["response"]["text"].encode()
    tap, at, out = ANTHROPIC_MESSAGES.stream_tap(answering(row).call, False), 0, b""
    for cut in cuts(stream):
        out += tap.feed(stream[at:cut])
        at = cut
        ended = copy.deepcopy(tap)
        sent = out + ended.end()
        theirs = sent.removesuffix(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')  # ours, where the stream had told why it ends
        assert sent == b"" or (stream.startswith(theirs.rstrip()) and sent.endswith(b"\n\n"))
        assert ended.complete != isinstance(ended.error, e.StreamCut)


@each(ROWS)
def test_a_recorded_answer_encoded_for_the_same_dialect_says_the_same(row: Json) -> None:
    whole = message_of(row)
    events = events_of(row, 4096) if "text" in row["response"] else ANTHROPIC_MESSAGES.decode_response(json.dumps(whole).encode())
    encoded = json.loads(ANTHROPIC_MESSAGES.encode_response(events, answering(row)))
    assert read(encoded) == read({**whole, "content": [block for block in whole["content"] if block.get("text") != ""]})
    assert encoded["usage"]["input_tokens"] == events_input(events) and encoded["usage"]["output_tokens"] >= whole["usage"]["output_tokens"]
    BetaMessage.model_validate(encoded)
    encoder = ANTHROPIC_MESSAGES.stream_encoder(answering(row))
    stream = b"".join(map(encoder.feed, events)).decode()
    again = {"response": {"text": stream}}
    assert read(merged(again)) == read(encoded)
    assert anthropic_machine.run(stream.encode()).ended
    adapter: TypeAdapter[Any] = TypeAdapter(BetaRawMessageStreamEvent)
    for chunk in chunks_of(again):
        adapter.validate_python(chunk)


def events_input(events: list[ev.Event]) -> int | None:
    usage = usage_of(events)
    return usage.input_uncached if usage is not None else None


@each(COUNTED)
def test_a_recorded_count_goes_by_and_its_request_means_the_same(row: Json) -> None:
    body = row["request"]["body"]
    request = ANTHROPIC_MESSAGES.decode_count_request(body_of(row))
    again = ANTHROPIC_MESSAGES.encode_count_request(request, request.model, FACTS, Losses())
    assert same_meaning(json.loads(again)) == same_meaning(body)
    told = json.dumps(row["response"]["body"]).encode()
    assert ANTHROPIC_MESSAGES.decode_count(told) == row["response"]["body"]["input_tokens"]
    assert json.loads(ANTHROPIC_MESSAGES.encode_count(7)) == {"input_tokens": 7}
    assert ANTHROPIC_COUNT.read_unary(told).body == told


@each(REFUSED)
def test_a_recorded_refusal_is_classified(row: Json) -> None:
    error = ANTHROPIC_MESSAGES.decode_error(row["response"]["status"], {}, json.dumps(row["response"]["body"]).encode())
    assert isinstance(error, e.UpstreamModelNotFound)
