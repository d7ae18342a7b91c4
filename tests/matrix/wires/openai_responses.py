"""A provider of OpenAI's Responses: its request read, its answers written."""

import json
from typing import Any

from tests.matrix import said
from tests.matrix.said import USAGE, Asked, Json, Script, sse
from tests.matrix.wires.openai_chat import read_url, tokens

NAME, MODEL = "openai_responses", "gpt-5.5"
PROVIDER = 'kind: openai, base_url: "{url}/v1", api_key: k, wire: openai_responses, dialects: [openai_responses]'
STREAM_TYPE = "text/event-stream"
ABSENT: dict[str, str] = {}
COUNTS = USAGE


def read(body: Json) -> Asked:
    asked = Asked(stop=body.get("stop") or [], user=body.get("user"), metadata=body.get("metadata") or {})
    asked.system = [body["instructions"]] if body.get("instructions") else []
    names = {item["call_id"]: item["name"] for item in body["input"] if item.get("type") == "function_call"}
    for item in body["input"]:
        _item(asked, item, names)
    tools = body.get("tools") or ()
    asked.tools = [(tool["name"], tool.get("description", ""), tool["parameters"]) for tool in tools]
    choice = body.get("tool_choice")
    asked.choice = f"named:{choice['name']}" if isinstance(choice, dict) else choice
    asked.parallel = body.get("parallel_tool_calls")
    asked.reasoning = (body.get("reasoning") or {}).get("effort") in ("low", "medium", "high")
    form = (body.get("text") or {}).get("format") or {}
    asked.json, asked.schema = form.get("type") == "json_object", form.get("schema")
    asked.max_tokens = body.get("max_output_tokens")
    asked.sampling = {name: body[name] for name in ("temperature", "top_p") if name in body}
    asked.logprobs = "message.output_text.logprobs" in body.get("include", ())
    asked.unknown = said.UNKNOWN in body
    return asked


def _item(asked: Asked, item: Json, names: dict[str, str]) -> None:
    match item.get("type", "message"):
        case "function_call":
            asked.calls.append((item["name"], json.loads(item["arguments"])))
        case "function_call_output":
            given: Any = item["output"]
            inner = [{"type": "input_text", "text": given}] if isinstance(given, str) else given
            asked.results.append((names[item["call_id"]], "".join(part.get("text", "") for part in inner)))
            _media(asked, inner)
        case "reasoning":
            asked.signatures.append(item["encrypted_content"])
        case "message":
            content: Any = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            text = "".join(part.get("text", "") for part in parts)
            if item["role"] in ("system", "developer"):
                asked.system.append(text)
            elif text:
                asked.turns.append((item["role"], text))
            _media(asked, parts)


def _media(asked: Asked, parts: list[Json]) -> None:
    for part in parts:
        if part["type"] == "input_image":
            read_url(part["image_url"], asked.images, asked.image_urls)
        if part["type"] == "input_file":
            read_url(part.get("file_url") or part["file_data"], asked.files, asked.file_urls)


def _items(script: Script) -> list[Json]:
    items: list[Json] = []
    if script.reasoning:
        summary = [{"type": "summary_text", "text": "".join(script.reasoning)}]
        items.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": script.signature})
    content: list[Json] = []
    if script.text:
        url, title = script.citation or ("", "")
        notes = [{"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": 5}] if url else []
        logprobs = tokens(script.text)["content"] if script.logprobs else []
        content.append({"type": "output_text", "text": "".join(script.text), "annotations": notes, "logprobs": logprobs})
    if script.refusal:
        content.append({"type": "refusal", "refusal": script.refusal})
    if content:
        items.append({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content})
    for call in script.calls:
        told = {"call_id": call.id, "name": call.name, "arguments": call.arguments or "{}", "status": "completed"}
        items.append({"type": "function_call", "id": f"fc_{call.id}", **told})
    return items


def _answer(script: Script, status: str | None = None) -> Json:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(script.finish)
    counts = {"input_tokens": 100, "output_tokens": 30, "total_tokens": 130}
    details = {"input_tokens_details": {"cached_tokens": 40}, "output_tokens_details": {"reasoning_tokens": 10}}
    answer: Json = {"id": "resp_1", "object": "response", "created_at": 1, "model": MODEL, "output": [], "error": None, "usage": None}
    if status is not None:
        return {**answer, "status": status, "incomplete_details": None}
    ended = {"status": "incomplete" if reason else "completed", "incomplete_details": {"reason": reason} if reason else None}
    return {**answer, "output": _items(script), **ended, "usage": {**counts, **details}}


def unary(script: Script) -> bytes:
    return json.dumps(_answer(script)).encode()


def stream(script: Script) -> bytes:
    events: list[Json] = [{"type": "response.created", "response": _answer(script, "in_progress")}]
    for index, item in enumerate(_items(script)):
        place: Json = {"item_id": item["id"], "output_index": index}
        events.append({"type": "response.output_item.added", "output_index": index, "item": _begun(item)})
        events += _pieces(item, place, script)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    whole = _answer(script)
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return sse([{**event, "sequence_number": number} for number, event in enumerate(events)], named=True)


def _begun(item: Json) -> Json:
    emptied = {"message": {"content": []}, "reasoning": {"summary": []}, "function_call": {"arguments": ""}}[item["type"]]
    return {**item, **emptied, "status": "in_progress"}


def _pieces(item: Json, place: Json, script: Script) -> list[Json]:
    if item["type"] == "function_call":
        pieces = next(call.pieces for call in script.calls if call.id == item["call_id"]) or ("{}",)
        told = [{"type": "response.function_call_arguments.delta", **place, "delta": piece} for piece in pieces]
        return [*told, {"type": "response.function_call_arguments.done", **place, "name": item["name"], "arguments": item["arguments"]}]
    if item["type"] == "reasoning":
        at = {**place, "summary_index": 0}
        text = "".join(script.reasoning)
        return [
            {"type": "response.reasoning_summary_part.added", **at, "part": {"type": "summary_text", "text": ""}},
            *({"type": "response.reasoning_summary_text.delta", **at, "delta": piece} for piece in script.reasoning),
            {"type": "response.reasoning_summary_text.done", **at, "text": text},
            {"type": "response.reasoning_summary_part.done", **at, "part": {"type": "summary_text", "text": text}},
        ]
    return [event for index, part in enumerate(item["content"]) for event in _part(part, {**place, "content_index": index}, script)]


def _part(part: Json, at: Json, script: Script) -> list[Json]:
    if part["type"] == "refusal":
        return [
            {"type": "response.content_part.added", **at, "part": {"type": "refusal", "refusal": ""}},
            {"type": "response.refusal.delta", **at, "delta": part["refusal"]},
            {"type": "response.refusal.done", **at, "refusal": part["refusal"]},
            {"type": "response.content_part.done", **at, "part": part},
        ]
    deltas = [(piece, tokens((piece,))["content"] if script.logprobs else []) for piece in script.text]
    notes = [{"type": "response.output_text.annotation.added", **at, "annotation_index": 0, "annotation": note} for note in part["annotations"]]
    return [
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": "", "annotations": []}},
        *({"type": "response.output_text.delta", **at, "delta": piece, "logprobs": logprobs} for piece, logprobs in deltas),
        *notes,
        {"type": "response.output_text.done", **at, "text": part["text"], "logprobs": part["logprobs"]},
        {"type": "response.content_part.done", **at, "part": part},
    ]
