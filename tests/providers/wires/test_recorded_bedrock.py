"""Exchanges that others recorded with Amazon Bedrock: answers are read as they are, however they are cut; what we send is what clients sent."""

import copy
import gzip
import json
import os
import random
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from msgspec import Raw
from msgspec.structs import replace

from contract import errors as e
from contract import events as ev
from contract import requests as r
from contract.usage import Usage
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.bedrock import BEDROCK, BEDROCK_EMBEDDINGS
from providers.wires.facts import Facts
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_embeddings import OPENAI_EMBEDDINGS
from tests.providers.wires.answering import answering
from tests.providers.wires.bedrock_oracle import faults

FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="needs TURNOUT_ACCEPTANCE")
MAKER = "bedrock"
Json = dict[str, Any]


def recorded() -> list[Json]:
    if FOLDER is None:
        return []
    with gzip.open(Path(FOLDER) / "visible.jsonl.gz", "rt") as lines:
        return [row for row in map(json.loads, lines) if row["op"].startswith("bedrock.")]


ROWS = recorded()
CONVERSE = [row for row in ROWS if row["op"] in ("bedrock.converse", "bedrock.converse_stream")]
WHOLE = [row for row in CONVERSE if row["response"]["status"] == 200 and "body" in row["response"]]
STREAMS = [row for row in CONVERSE if "b64" in row["response"]]
REFUSED = [row for row in ROWS if row["response"]["status"] >= 400]
COUNTS = [row for row in ROWS if row["op"] == "bedrock.count" and "converse" in row["request"]["body"]["input"]]
EMBEDDED = [row for row in ROWS if row["op"] == "bedrock.invoke" and "embed" in row["request"]["path"]]


def each(rows: list[Json]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row["id"] for row in rows])


def model_of(row: Json) -> str:
    return str(row["request"]["path"].split("/")[2]).replace("%3A", ":")


def test_there_are_exchanges() -> None:
    assert (len(WHOLE), len(STREAMS), len(REFUSED), len(COUNTS), len(EMBEDDED)) == (107, 2, 8, 5, 16)


def native_of(block: Json) -> bool:
    return "toolResult" in block or block.get("toolUse", {}).get("type") == "server_tool_use"


def read(message: Json, reason: str) -> Json:
    """What an answer says, read plainly."""
    content = message["content"]
    reasoning = [block["reasoningContent"].get("reasoningText", {}) for block in content if "reasoningContent" in block]
    uses = [block["toolUse"] for block in content if "toolUse" in block and not native_of(block)]
    return {
        "text": "".join(block.get("text", "") for block in content),
        "reasoning": "".join(each["text"] for each in reasoning),
        "signatures": [each.get("signature", "") for each in reasoning],
        "calls": [(use["toolUseId"], use["name"], use["input"]) for use in uses],
        "native": [block for block in content if native_of(block)],
        "finish": reason,
    }


def found(events: list[ev.Event]) -> Json:
    """The same, of our events."""
    says: Json = {"text": "", "reasoning": "", "signatures": [], "calls": {}, "native": [], "finish": None}
    for event in events:
        match event:
            case ev.TextDelta():
                says["text"] += event.text
            case ev.ReasoningDelta():
                says["reasoning"] += event.text
            case ev.ReasoningSignature():
                assert event.maker == MAKER and not event.redacted
                says["signatures"].append(event.signature)
            case ev.ToolCallStarted():
                says["calls"][event.part] = [event.id, event.name, ""]
            case ev.ToolCallDelta():
                says["calls"][event.part][2] += event.arguments
            case ev.NativeOutput():
                says["native"].append(json.loads(bytes(event.raw)))
            case ev.Finished():
                says["finish"] = event.finish.native
    return {**says, "calls": [(call, name, json.loads(text or "{}")) for call, name, text in says["calls"].values()]}


def assert_usage(events: list[ev.Event], given: Json) -> None:
    usage: Usage = next(event.usage for event in events if isinstance(event, ev.UsageReported))
    assert json.loads(bytes(usage.raw)) == given
    assert usage.input_uncached == given["inputTokens"] and usage.output_total == given["outputTokens"]
    assert (usage.input_total or 0) + (usage.output_total or 0) == given["totalTokens"]
    assert usage.cache_read == given.get("cacheReadInputTokens")


def assert_grammar(events: list[ev.Event]) -> None:
    kinds = [type(event) for event in events]
    assert kinds[0] is ev.Started and kinds[-3:] == [ev.Finished, ev.UsageReported, ev.Ended]
    parts = [event.part for event in events if isinstance(event, ev.ContentEvent)]
    assert parts == sorted(parts)


@each(WHOLE)
def test_a_recorded_answer_is_read_right(row: Json) -> None:
    body = row["response"]["body"]
    events = BEDROCK.decode_response(json.dumps(body).encode())
    assert found(events) == read(body["output"]["message"], body["stopReason"])
    assert_usage(events, body["usage"])
    assert_grammar(events)


def stream_of(row: Json) -> bytes:
    return b64decode(row["response"]["b64"])


def merged(row: Json) -> tuple[Json, str, Json]:
    """The message that a stream's events make up, put together plainly of what botocore reads; its stop reason, its usage."""
    buffer: Any = EventStreamBuffer()
    buffer.add_data(stream_of(row))
    blocks: dict[int, Json] = {}
    reason, usage = "", {}
    for told in buffer:
        match told.headers[":event-type"], json.loads(told.payload):
            case "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": start}}:
                blocks[index] = {"toolUse": {**start, "input": ""}}
            case "contentBlockStart", {"contentBlockIndex": index, "start": {"toolResult": start}}:
                blocks[index] = {"toolResult": {**start, "content": []}}
            case "contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": text}}:
                blocks.setdefault(index, {"text": ""})["text"] += text
            case "contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": piece}}}:
                blocks[index]["toolUse"]["input"] += piece
            case "contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolResult": pieces}}:
                blocks[index]["toolResult"]["content"] += pieces
            case "messageStop", {"stopReason": stopped}:
                reason = stopped
            case "metadata", {"usage": counted}:
                usage = counted
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"content": [blocks[index] for index in sorted(blocks)]}, reason, usage


def events_of(stream: bytes, size: int) -> list[ev.Event]:
    decoder = BEDROCK.stream_decoder(1)
    return [event for at in range(0, len(stream), size) for event in decoder.feed(stream[at : at + size])] + decoder.end()


@each(STREAMS)
def test_a_recorded_stream_is_decoded_right_however_it_is_sliced(row: Json) -> None:
    stream = stream_of(row)
    message, reason, usage = merged(row)
    for size in (len(stream), 1, *random.Random(row["id"]).sample(range(2, 500), 5)):
        events = events_of(stream, size)
        assert found(events) == read(message, reason)
        assert_usage(events, usage)
        assert_grammar(events)


@each(STREAMS)
def test_a_recorded_stream_that_is_cut_anywhere_is_whole_only_when_its_message_has_stopped(row: Json) -> None:
    stream, decoder = stream_of(row), BEDROCK.stream_decoder(1)
    whole = 0
    for cut in range(len(stream)):
        decoder.feed(stream[cut : cut + 1])
        try:
            copy.deepcopy(decoder).end()
        except e.StreamCut:
            continue
        whole += 1
        assert b"messageStop" in stream[: cut + 1]
    assert whole == 2  # between the stop and the metadata, and at the end


@each(STREAMS)
def test_a_flipped_byte_of_a_recorded_stream_never_goes_unseen(row: Json) -> None:
    stream = stream_of(row)
    for at in random.Random(row["id"]).sample(range(len(stream)), 200):
        broken = stream[:at] + bytes([stream[at] ^ 0x20]) + stream[at + 1 :]
        with pytest.raises(e.AttemptError):
            events_of(broken, 4096)


@each(REFUSED)
def test_a_recorded_refusal_is_classified_and_says_nothing_of_theirs(row: Json) -> None:
    headers = {name.lower().encode(): value.encode() for name, value in row["response"]["headers"].items()}
    error = BEDROCK.decode_error(row["response"]["status"], headers, json.dumps(row["response"]["body"]).encode())
    assert type(error) is e.UpstreamRejected
    assert row["response"]["body"]["message"] not in str(error)


@each(CONVERSE + COUNTS)
def test_a_recorded_path_is_ours(row: Json) -> None:
    ours = BEDROCK.count_path(model_of(row)) if row in COUNTS else BEDROCK.path(model_of(row), row["op"] == "bedrock.converse_stream")
    assert ours == row["request"]["path"]


def part_of(block: Json) -> r.Part:
    """One block of a recorded request in the contract's words."""
    match block:
        case {"text": text}:
            return r.TextPart(text=text)
        case {"image": {"format": form, "source": {"bytes": data}}}:
            return r.ImagePart(data=data, media_type=f"image/{form}")
        case {"document": {"format": form, "name": name, "source": {"bytes": data}}}:
            return r.FilePart(data=data, media_type={"pdf": "application/pdf", "txt": "text/plain"}[form], filename=name)
        case {"toolUse": {"toolUseId": call, "name": name, "input": given}}:
            return r.ToolCallPart(id=call, name=name, arguments=json.dumps(given))
        case {"toolResult": {"toolUseId": call, "content": content, **more}}:
            return r.ToolResultPart(tool_call_id=call, content=tuple(map(part_of, content)), is_error=more.get("status") == "error")  # type: ignore[arg-type]
        case {"reasoningContent": {"reasoningText": told}}:
            return r.ReasoningPart(text=told["text"], signature=told.get("signature"), maker=MAKER)
    raise AssertionError(block)


def parts_of(blocks: list[Json]) -> tuple[r.Part, ...]:
    parts: list[r.Part] = []
    for block in blocks:
        if "cachePoint" in block:
            parts[-1] = replace(parts[-1], cache_control=Raw(b'{"type":"ephemeral"}'))
        else:
            parts.append(part_of(block))
    return tuple(parts)


def tools_of(config: Json) -> tuple[r.Tool, ...]:
    tools: list[r.FunctionTool] = []
    for tool in config.get("tools", ()):
        if "cachePoint" in tool:
            tools[-1] = replace(tools[-1], cache_control=Raw(b"{}"))
            continue
        spec = tool["toolSpec"]
        schema = Raw(json.dumps(spec["inputSchema"]["json"]).encode())
        tools.append(r.FunctionTool(name=spec["name"], description=spec.get("description"), parameters=schema, strict=spec.get("strict")))
    return tuple(tools)


def choice_of(config: Json) -> r.ToolChoice | None:
    match config.get("toolChoice"):
        case {"auto": _}:
            return r.ToolChoice(mode="auto")
        case {"any": _}:
            return r.ToolChoice(mode="required")
        case {"tool": {"name": name}}:
            return r.ToolChoice(mode="named", name=name)
    return None


def reasoning_of(additional: Json) -> r.Reasoning | None:
    match additional:
        case {"thinking": {"type": "enabled", "budget_tokens": budget}}:
            return r.Reasoning(budget_tokens=budget)
        case {"thinking": {"type": "adaptive"}, "output_config": {"effort": effort}}:
            return r.Reasoning(effort=effort)
        case {"reasoning_effort": effort} | {"reasoning_config": effort}:
            return r.Reasoning(effort=effort)
    return None


def format_of(body: Json) -> r.ResponseFormat | None:
    told = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")
    return told and r.JsonSchemaFormat(name=told["name"], schema=Raw(told["schema"].encode()), description=told.get("description"))


def request_of(body: Json) -> r.ChatRequest:
    """A recorded request in the contract's words."""
    inference, config = body.get("inferenceConfig", {}), body.get("toolConfig", {})
    system = [r.Message(role="system", parts=parts_of(body["system"]))] if body.get("system") else []
    return r.ChatRequest(
        model="m",
        messages=(*system, *(r.Message(role=m["role"], parts=parts_of(m["content"])) for m in body["messages"])),
        tools=tools_of(config),
        tool_choice=choice_of(config),
        sampling=r.Sampling(temperature=inference.get("temperature"), top_p=inference.get("topP")),
        max_output_tokens=inference.get("maxTokens"),
        stop=tuple(inference.get("stopSequences", ())),
        reasoning=reasoning_of(body.get("additionalModelRequestFields", {})),
        response_format=format_of(body),
    )


NOT_OURS = re.compile(r"s3Location|\"video\": \{|systemTool|server_tool_use|serviceTier|anthropic_beta|\"json\": \{\"(?!prop|type|\$defs|addi)")
OURS = [row for row in CONVERSE if not NOT_OURS.search(json.dumps(row["request"]["body"]))]


def same(body: Json) -> Json:
    """One form for what means the same: an absent and an empty member, a default and its absence, a call's kind, white space alone."""
    told = copy.deepcopy(body)
    for name in ("system", "inferenceConfig"):
        if not told.get(name):
            told.pop(name, None)
    if told.get("toolConfig", {}).get("toolChoice") == {"auto": {}}:
        del told["toolConfig"]["toolChoice"]
    for turn in told["messages"]:
        turn["content"] = [block for block in turn["content"] if block.get("text", "x").strip()]
        for block in turn["content"]:
            block.get("toolUse", {}).pop("type", None)
            if block.get("toolResult", {}).get("status") == "success":
                del block["toolResult"]["status"]
    if (schema := told.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")) is not None:
        schema["schema"] = json.loads(schema["schema"])
    return told


def test_most_recorded_requests_can_be_asked_in_our_words() -> None:
    assert len(OURS) >= 100 and len(CONVERSE) - len(OURS) <= 15


@each(OURS)
def test_a_recorded_request_is_written_as_its_client_wrote_it(row: Json) -> None:
    losses = Losses()
    body = json.loads(BEDROCK.encode_request(request_of(row["request"]["body"]), model_of(row), Facts(), losses))
    assert faults("Converse", body) == losses.fatal == losses.hints == []
    assert same(body) == same(row["request"]["body"])


@each([row for row in COUNTS if "anthropic_beta" not in json.dumps(row["request"]["body"])])
def test_a_recorded_count_is_asked_for_as_its_client_did_and_read(row: Json) -> None:
    asked = row["request"]["body"]["input"]["converse"]
    body = json.loads(BEDROCK.encode_count_request(request_of(asked), model_of(row), Facts(), Losses()))
    assert faults("CountTokens", body) == []
    assert same(body["input"]["converse"]) == same(asked)
    if row["response"]["status"] == 200:
        assert BEDROCK.decode_count(json.dumps(row["response"]["body"]).encode()) == row["response"]["body"]["inputTokens"]


@each(EMBEDDED)
def test_a_recorded_embedding_is_read_right(row: Json) -> None:
    asked, body = row["request"]["body"], row["response"]["body"]
    inputs = asked.get("texts") or [asked.get("inputText") or asked["singleEmbeddingParams"]["text"]["value"]]
    request = OPENAI_EMBEDDINGS.decode_request(json.dumps({"model": "m", "input": inputs}).encode())
    assert BEDROCK_EMBEDDINGS.path(model_of(row)) == row["request"]["path"]
    answer = BEDROCK_EMBEDDINGS.decode_response(json.dumps(body).encode(), request)
    told = body.get("embedding") or body["embeddings"]
    vectors = told["float"] if isinstance(told, dict) else [told] if isinstance(told[0], float) else told
    assert [list(vector) for vector in answer.vectors] == [vector["embedding"] if isinstance(vector, dict) else vector for vector in vectors]
    assert (answer.usage.input_total if answer.usage else None) == body.get("inputTextTokenCount")


OPTIONS = {"normalize", "truncate", "truncationMode", "max_tokens", "input_type", "embeddingPurpose"}  # which OpenAI's clients do not name


def without_options(body: Any) -> Any:
    return {name: without_options(value) for name, value in body.items() if name not in OPTIONS} if isinstance(body, dict) else body


@each(EMBEDDED)
def test_a_recorded_embedding_is_asked_for_as_its_client_did_but_for_options(row: Json) -> None:
    asked, losses = row["request"]["body"], Losses()
    single = asked.get("singleEmbeddingParams") or {}
    inputs = asked.get("texts") or [asked.get("inputText") or single["text"]["value"]]
    dimensions = asked.get("dimensions") or asked.get("output_dimension") or single.get("embeddingDimension")
    more = {} if dimensions is None else {"dimensions": dimensions}
    request = OPENAI_EMBEDDINGS.decode_request(json.dumps({"model": "m", "input": inputs, **more}).encode())
    body = json.loads(BEDROCK_EMBEDDINGS.encode_request(request, model_of(row), losses))
    assert losses.fatal == losses.hints == []
    assert without_options(body) == without_options(asked)


def messages_of(row: Json) -> list[ev.Event]:
    if "b64" in row["response"]:
        return events_of(stream_of(row), 4096)
    return BEDROCK.decode_response(json.dumps(row["response"]["body"]).encode())


@each(WHOLE + STREAMS)
def test_a_recorded_answer_says_the_same_to_clients_of_other_dialects(row: Json) -> None:
    events = messages_of(row)
    says = found(events)
    chat = json.loads(OPENAI_CHAT.encode_response(events, answering(target="t")))["choices"][0]["message"]
    assert (chat.get("content") or "") == says["text"]
    assert [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in chat.get("tool_calls") or ()] == says["calls"]
    blocks = json.loads(ANTHROPIC_MESSAGES.encode_response(events, answering("anthropic_messages", target="t")))["content"]
    assert "".join(block.get("text", "") for block in blocks if block["type"] == "text") == says["text"]
    assert [(block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"] == says["calls"]
    assert "".join(block["thinking"] for block in blocks if block["type"] == "thinking") == says["reasoning"]
