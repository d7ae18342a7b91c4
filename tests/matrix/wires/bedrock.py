"""Bedrock's Converse: its request read, its answers written, streams in Amazon's binary event stream."""

import json
import struct
from zlib import crc32

from tests.matrix import said
from tests.matrix.said import Asked, Json, Script
from tests.matrix.wires.anthropic_messages import ABSENT as ABSENT

NAME, MODEL = "bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROVIDER = 'kind: bedrock, base_url: "{url}", region: eu-west-1, credentials: {{access_key_id: AKIDEXAMPLE, secret_access_key: s}}'
STREAM_TYPE = "application/vnd.amazon.eventstream"
COUNTS = {"input": 100, "cached": 40, "output": 30, "reasoning": None}
_FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}


def read(body: Json) -> Asked:
    inference = body.get("inferenceConfig") or {}
    asked = Asked(stop=inference.get("stopSequences") or [], max_tokens=inference.get("maxTokens"), metadata=body.get("requestMetadata") or {})
    asked.system = [block["text"] for block in body.get("system") or ()]
    names: dict[str, str] = {}
    for message in body["messages"]:
        for block in message["content"]:
            _block(asked, message["role"], block, names)
    config = body.get("toolConfig") or {}
    specs = [tool["toolSpec"] for tool in config.get("tools", ())]
    asked.tools = [(spec["name"], spec.get("description", ""), spec["inputSchema"]["json"]) for spec in specs]
    choice = config.get("toolChoice") or {}
    asked.choice = f"named:{choice['tool']['name']}" if "tool" in choice else "required" if "any" in choice else "auto" if choice else None
    more = body.get("additionalModelRequestFields") or {}
    asked.reasoning = (more.get("thinking") or {}).get("budget_tokens", 0) >= 1024
    if "outputConfig" in body:
        asked.schema = json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"])
    told = {"temperature": inference.get("temperature"), "top_p": inference.get("topP"), "top_k": more.get("top_k")}
    asked.sampling = {name: value for name, value in told.items() if value is not None}
    asked.unknown = said.UNKNOWN in body
    return asked


def _block(asked: Asked, role: str, block: Json, names: dict[str, str]) -> None:
    match next(iter(block)):
        case "text":
            asked.turns.append((role, block["text"]))
        case "image":
            asked.images.append(block["image"]["source"]["bytes"])
        case "document":
            asked.files.append(block["document"]["source"]["bytes"])
        case "cachePoint":
            asked.cached += 1
        case "reasoningContent":
            asked.signatures.append(block["reasoningContent"]["reasoningText"]["signature"])
        case "toolUse":
            names[block["toolUse"]["toolUseId"]] = block["toolUse"]["name"]
            asked.calls.append((block["toolUse"]["name"], block["toolUse"]["input"]))
        case "toolResult":
            result = block["toolResult"]
            asked.results.append((names[result["toolUseId"]], "".join(inner.get("text", "") for inner in result["content"])))
            asked.images += [inner["image"]["source"]["bytes"] for inner in result["content"] if "image" in inner]
            asked.errors += result.get("status") == "error"


def _usage() -> Json:
    return {"inputTokens": 60, "outputTokens": 30, "totalTokens": 130, "cacheReadInputTokens": 40, "cacheWriteInputTokens": 0}


def _citation(script: Script) -> Json:
    url, title = script.citation or ("", "")
    return {"title": title, "location": {"web": {"url": url}}, "sourceContent": [{"text": "Hello"}]}


def unary(script: Script) -> bytes:
    content: list[Json] = []
    if script.reasoning:
        thought = {"text": "".join(script.reasoning), "signature": script.signature or said.SIGNATURE}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if script.citation:
        content.append({"citationsContent": {"content": [{"text": "".join(script.text)}], "citations": [_citation(script)]}})
    elif script.text:
        content.append({"text": "".join(script.text)})
    for call in script.calls:
        content.append({"toolUse": {"toolUseId": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")}})
    message = {"role": "assistant", "content": content}
    return json.dumps({"output": {"message": message}, "stopReason": _FINISHES[script.finish], "usage": _usage()}).encode()


def _blocks(script: Script) -> list[tuple[Json | None, list[Json]]]:
    """Each block's start, which only a tool's has, and its deltas."""
    blocks: list[tuple[Json | None, list[Json]]] = []
    if script.reasoning:
        deltas: list[Json] = [{"reasoningContent": {"text": text}} for text in script.reasoning]
        blocks.append((None, [*deltas, {"reasoningContent": {"signature": script.signature or said.SIGNATURE}}]))
    if script.text:
        deltas = [{"text": text} for text in script.text]
        blocks.append((None, [*deltas, {"citation": _citation(script)}] if script.citation else deltas))
    for call in script.calls:
        start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
        blocks.append((start, [{"toolUse": {"input": piece}} for piece in call.pieces]))
    return blocks


def stream(script: Script) -> bytes:
    events: list[tuple[str, Json]] = [("messageStart", {"role": "assistant"})]
    for index, (start, deltas) in enumerate(_blocks(script)):
        at = {"contentBlockIndex": index}
        events += [("contentBlockStart", {**at, "start": start})] if start else []
        events += [("contentBlockDelta", {**at, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", at))
    events.append(("messageStop", {"stopReason": _FINISHES[script.finish]}))
    events.append(("metadata", {"usage": _usage(), "metrics": {"latencyMs": 5}}))
    return b"".join(_framed(kind, json.dumps(payload).encode()) for kind, payload in events)


def _framed(kind: str, payload: bytes) -> bytes:
    headers = b""
    for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))
