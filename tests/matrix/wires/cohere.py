"""Cohere v2 chat: its request read, its answers written."""

import json

from tests.matrix import said
from tests.matrix.said import Asked, Json, Script, sse
from tests.matrix.wires.openai_chat import read_message

NAME, MODEL = "cohere", "command-a-reasoning-08-2025"
PROVIDER = 'kind: cohere, base_url: "{url}", api_key: k'
STREAM_TYPE = "text/event-stream"
ABSENT = {"refusal": "the provider's answers have no refusal", "signature": "the provider signs nothing"}
COUNTS = {"input": 100, "cached": None, "output": 30, "reasoning": None}
_FINISHES = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL", "content_filter": "ERROR_TOXIC"}
_SAMPLING = {"temperature": "temperature", "p": "top_p", "k": "top_k", "seed": "seed", "frequency_penalty": "frequency_penalty"}


def read(body: Json) -> Asked:
    asked = Asked(stop=body.get("stop_sequences") or [], max_tokens=body.get("max_tokens"))
    names = {call["id"]: call["function"]["name"] for message in body["messages"] for call in message.get("tool_calls") or ()}
    for message in body["messages"]:
        read_message(asked, message, names)
    asked.tools = [(f["name"], f.get("description", ""), f["parameters"]) for f in (tool["function"] for tool in body.get("tools", ()))]
    asked.choice = {"REQUIRED": "required", "NONE": "none"}.get(body.get("tool_choice", ""))
    asked.reasoning = (body.get("thinking") or {}).get("type") == "enabled"
    form = body.get("response_format") or {}
    asked.json, asked.schema = form.get("type") == "json_object", form.get("json_schema")
    asked.sampling = {ours: body[theirs] for theirs, ours in _SAMPLING.items() if theirs in body}
    asked.logprobs = body.get("logprobs") is True
    asked.unknown = said.UNKNOWN in body
    return asked


def _usage() -> Json:
    return {"billed_units": {"input_tokens": 100, "output_tokens": 30}, "tokens": {"input_tokens": 900, "output_tokens": 35}}


def _citation(script: Script) -> Json:
    url, title = script.citation or ("", "")
    source = {"type": "document", "id": "doc:0", "document": {"url": url, "title": title}}
    return {"start": 0, "end": 5, "text": "Hello", "type": "TEXT_CONTENT", "content_index": 0, "sources": [source]}


def _call(call: said.Call, arguments: str) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def unary(script: Script) -> bytes:
    content: list[Json] = []
    if script.reasoning:
        content.append({"type": "thinking", "thinking": "".join(script.reasoning)})
    if script.text:
        content.append({"type": "text", "text": "".join(script.text)})
    message: Json = {"role": "assistant", "content": content}
    if script.calls:
        message["tool_calls"] = [_call(call, call.arguments) for call in script.calls]
    if script.citation:
        message["citations"] = [_citation(script)]
    answer: Json = {"id": "c-1", "message": message, "finish_reason": _FINISHES[script.finish], "usage": _usage()}
    if script.logprobs:
        answer["logprobs"] = [{"text": text, "token_ids": [1], "logprobs": [-0.1]} for text in script.text]
    return json.dumps(answer).encode()


def stream(script: Script) -> bytes:
    events: list[Json] = [{"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant", "content": []}}}]
    index = 0
    for kind, pieces in (("thinking", script.reasoning), ("text", script.text)):
        if not pieces:
            continue
        events.append(_piece("content-start", index, {"type": kind, kind: ""}))
        for piece in pieces:
            logprobs = {"logprobs": {"text": piece, "token_ids": [1], "logprobs": [-0.1]}} if script.logprobs else {}
            events.append({**_piece("content-delta", index, {kind: piece}), **logprobs})
        events.append({"type": "content-end", "index": index})
        index += 1
    if script.citation:
        events.append({"type": "citation-start", "index": 0, "delta": {"message": {"citations": _citation(script)}}})
        events.append({"type": "citation-end", "index": 0})
    for at, call in enumerate(script.calls):
        events.append({"type": "tool-call-start", "index": at, "delta": {"message": {"tool_calls": _call(call, "")}}})
        for piece in call.pieces:
            function = {"function": {"arguments": piece}}
            events.append({"type": "tool-call-delta", "index": at, "delta": {"message": {"tool_calls": function}}})
        events.append({"type": "tool-call-end", "index": at})
    events.append({"type": "message-end", "delta": {"finish_reason": _FINISHES[script.finish], "usage": _usage()}})
    return sse(events, named=True)


def _piece(kind: str, index: int, content: Json) -> Json:
    return {"type": kind, "index": index, "delta": {"message": {"content": content}}}
