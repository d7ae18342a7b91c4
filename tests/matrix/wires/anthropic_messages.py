"""A provider of Anthropic's Messages: its request read, its answers written."""

import json

from tests.matrix import said
from tests.matrix.said import Asked, Json, Script, sse

NAME, MODEL = "anthropic_messages", "claude-sonnet-4-5"
PROVIDER = 'kind: anthropic, base_url: "{url}/v1", api_key: k'
STREAM_TYPE = "text/event-stream"
ABSENT = {"refusal": "the provider's refusal is a reason to stop, with no text of its own"}
COUNTS = {"input": 100, "cached": 40, "output": 30, "reasoning": None}
_FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read(body: Json) -> Asked:
    asked = Asked(stop=body.get("stop_sequences") or [], user=(body.get("metadata") or {}).get("user_id"))
    asked.system = [block["text"] for block in _blocks(body.get("system") or [])]
    names: dict[str, str] = {}
    for message in body["messages"]:
        for block in _blocks(message["content"]):
            _block(asked, message["role"], block, names)
    asked.tools = [(tool["name"], tool.get("description", ""), tool["input_schema"]) for tool in body.get("tools") or ()]
    choice = body.get("tool_choice") or {}
    asked.choice = f"named:{choice['name']}" if "name" in choice else _CHOICES.get(choice.get("type"))
    if "disable_parallel_tool_use" in choice:
        asked.parallel = not choice["disable_parallel_tool_use"]
    asked.reasoning = (body.get("thinking") or {}).get("budget_tokens", 0) >= 1024
    asked.schema = (body.get("output_config") or {}).get("format", {}).get("schema")
    asked.max_tokens = body["max_tokens"]
    asked.sampling = {name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}
    asked.unknown = said.UNKNOWN in body
    return asked


def _blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _block(asked: Asked, role: str, block: Json, names: dict[str, str]) -> None:
    asked.cached += "cache_control" in block
    match block["type"]:
        case "text":
            asked.turns.append((role, block["text"]))
        case "image" if block["source"]["type"] == "url":
            asked.image_urls.append(block["source"]["url"])
        case "image":
            asked.images.append(block["source"]["data"])
        case "document" if block["source"]["type"] == "url":
            asked.file_urls.append(block["source"]["url"])
        case "document":
            asked.files.append(block["source"]["data"])
        case "thinking":
            asked.signatures.append(block["signature"])
        case "tool_use":
            names[block["id"]] = block["name"]
            asked.calls.append((block["name"], block["input"]))
        case "tool_result":
            asked.results.append((names[block["tool_use_id"]], "".join(inner.get("text", "") for inner in _blocks(block["content"]))))
            asked.images += [inner["source"]["data"] for inner in _blocks(block["content"]) if inner["type"] == "image"]
            asked.errors += block.get("is_error", False)


def _citation(script: Script) -> Json | None:
    if script.citation is None:
        return None
    url, title = script.citation
    return {"type": "web_search_result_location", "url": url, "title": title, "cited_text": "Hello", "encrypted_index": "abc"}


def _content(script: Script) -> list[Json]:
    content: list[Json] = []
    if script.reasoning:
        content.append({"type": "thinking", "thinking": "".join(script.reasoning), "signature": script.signature or said.SIGNATURE})
    if script.text:
        content.append({"type": "text", "text": "".join(script.text), "citations": [cited] if (cited := _citation(script)) else None})
    for call in script.calls:
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments or "{}")})
    return content


def _message(script: Script, content: list[Json]) -> Json:
    usage = {"input_tokens": 60, "cache_read_input_tokens": 40, "cache_creation_input_tokens": 0, "output_tokens": 30}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": content}
    return {**head, "stop_reason": _FINISHES[script.finish], "stop_sequence": None, "usage": usage}


def unary(script: Script) -> bytes:
    return json.dumps(_message(script, _content(script))).encode()


def stream(script: Script) -> bytes:
    whole = _message(script, [])
    begun = {**whole, "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    calls = iter(script.calls)
    for index, block in enumerate(_content(script)):
        start, deltas = _pieces(block, script, next(calls).pieces if block["type"] == "tool_use" else ())
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    return sse([*events, {"type": "message_delta", "delta": delta, "usage": whole["usage"]}, {"type": "message_stop"}], named=True)


def _pieces(block: Json, script: Script, pieces: tuple[str, ...]) -> tuple[Json, list[Json]]:
    match block["type"]:
        case "thinking":
            deltas: list[Json] = [{"type": "thinking_delta", "thinking": text} for text in script.reasoning]
            return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, {"type": "signature_delta", "signature": block["signature"]}]
        case "text":
            deltas = [{"type": "text_delta", "text": text} for text in script.text]
            cited = [{"type": "citations_delta", "citation": citation} for citation in block["citations"] or ()]
            return {"type": "text", "text": ""}, [*deltas, *cited]
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)]
