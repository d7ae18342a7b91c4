"""A provider of OpenAI's chat completions: its request read, its answers written."""

import json

from tests.matrix import said
from tests.matrix.said import USAGE, Asked, Json, Script, sse

NAME, MODEL = "openai_chat", "gpt-5.5"
PROVIDER = 'kind: openai, base_url: "{url}/v1", api_key: k, dialects: [openai_chat]'
STREAM_TYPE = "text/event-stream"
ABSENT: dict[str, str] = {}
COUNTS = USAGE
_SAMPLING = ("temperature", "top_p", "top_k", "seed", "n", "frequency_penalty", "presence_penalty")
DATA = ";base64,"


def read(body: Json) -> Asked:
    asked = Asked(stop=body.get("stop") or [], user=body.get("user"), metadata=body.get("metadata") or {})
    names = {call["id"]: call["function"]["name"] for message in body["messages"] for call in message.get("tool_calls") or ()}
    for message in body["messages"]:
        read_message(asked, message, names)
    asked.tools = [(f["name"], f.get("description", ""), f["parameters"]) for f in (tool["function"] for tool in body.get("tools", ()))]
    choice = body.get("tool_choice")
    asked.choice = f"named:{choice['function']['name']}" if isinstance(choice, dict) else choice
    asked.parallel = body.get("parallel_tool_calls")
    asked.reasoning = body.get("reasoning_effort") in ("low", "medium", "high")
    form = body.get("response_format") or {}
    asked.json, asked.schema = form.get("type") == "json_object", form.get("json_schema", {}).get("schema")
    asked.max_tokens = body.get("max_completion_tokens", body.get("max_tokens"))
    asked.sampling = {name: body[name] for name in _SAMPLING if name in body}
    asked.logprobs = body.get("logprobs") is True
    asked.unknown = said.UNKNOWN in body
    return asked


def read_message(asked: Asked, message: Json, names: dict[str, str]) -> None:
    content = message.get("content") or []
    parts: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "".join(part["text"] for part in parts if part["type"] == "text")
    match message["role"]:
        case "system" | "developer":
            asked.system.append(text)
        case "tool":
            asked.results.append((names[message["tool_call_id"]], text))
        case _ if text:
            asked.turns.append((message["role"], text))
    for part in parts:
        asked.cached += "cache_control" in part
        if part["type"] == "image_url":
            read_url(part["image_url"] if isinstance(part["image_url"], str) else part["image_url"]["url"], asked.images, asked.image_urls)
        if part["type"] == "input_audio":
            audio = part["input_audio"]
            asked.audio.append(audio if isinstance(audio, str) else audio["data"])
        if part["type"] == "file":
            asked.files.append(part["file"]["file_data"].partition(DATA)[2])
    for call in message.get("tool_calls") or ():
        asked.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
    asked.signatures += [detail["signature"] for detail in message.get("reasoning_details") or ()]


def read_url(url: str, inline: list[str], addresses: list[str]) -> None:
    inline.append(url.partition(DATA)[2]) if DATA in url else addresses.append(url)


def usage() -> Json:
    details = {"prompt_tokens_details": {"cached_tokens": 40}, "completion_tokens_details": {"reasoning_tokens": 10}}
    return {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130, **details}


def _annotations(script: Script) -> list[Json]:
    url, title = script.citation or ("", "")
    return [{"type": "url_citation", "url_citation": {"url": url, "title": title, "start_index": 0, "end_index": 5}}] if url else []


def _details(script: Script) -> list[Json]:
    return [{"type": "reasoning.text", "index": 0, "text": "".join(script.reasoning), "signature": script.signature}] if script.signature else []


def tokens(pieces: tuple[str, ...]) -> Json:
    return {"content": [{"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []} for text in pieces]}


def unary(script: Script) -> bytes:
    message: Json = {"role": "assistant", "content": "".join(script.text) or None, "refusal": script.refusal}
    if script.reasoning:
        message["reasoning_content"] = "".join(script.reasoning)
    if details := _details(script):
        message["reasoning_details"] = details
    if script.calls:
        function = [{"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}} for call in script.calls]
        message["tool_calls"] = function
    if notes := _annotations(script):
        message["annotations"] = notes
    logprobs = tokens(script.text) if script.logprobs else None
    choices: list[Json] = [{"index": 0, "message": message, "finish_reason": script.finish, "logprobs": logprobs}]
    if script.second:
        choices.append({"index": 1, "message": {"role": "assistant", "content": script.second}, "finish_reason": "stop"})
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": choices, "usage": usage()}
    return json.dumps(answer).encode()


def deltas(script: Script) -> list[Json]:
    """The choice's deltas, one a chunk."""
    made: list[Json] = [{"role": "assistant", "content": ""}]
    made += [{"reasoning_content": text} for text in script.reasoning]
    made += [{"reasoning_details": details}] if (details := _details(script)) else []
    made += [{"content": text} for text in script.text]
    made += [{"refusal": script.refusal}] if script.refusal else []
    made += [{"annotations": notes}] if (notes := _annotations(script)) else []
    return made + call_deltas(script)


def call_deltas(script: Script) -> list[Json]:
    made: list[Json] = []
    for index, call in enumerate(script.calls):
        made.append({"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}]})
        made += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in call.pieces]
    return made


def stream(script: Script) -> bytes:
    return sse([*chunks(deltas(script), script), chunk([], usage=usage())], done=True)


def chunks(made: list[Json], script: Script) -> list[Json]:
    told = [chunk([{"index": 0, "delta": delta, "finish_reason": None, **_logprobs(delta, script)}]) for delta in made]
    if script.second:
        told.append(chunk([{"index": 1, "delta": {"content": script.second}, "finish_reason": None}]))
        told.append(chunk([{"index": 1, "delta": {}, "finish_reason": "stop"}]))
    return [*told, chunk([{"index": 0, "delta": {}, "finish_reason": script.finish}])]


def _logprobs(delta: Json, script: Script) -> Json:
    return {"logprobs": tokens((delta["content"],))} if script.logprobs and delta.get("content") else {}


def chunk(choices: list[Json], **more: Json) -> Json:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices, **more}
