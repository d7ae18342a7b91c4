"""The matrix's client of OpenAI's chat completions."""

import json
from typing import Any

from tests.matrix import said
from tests.matrix.said import Got, Json

NAME, PATH = "chat", "/v1/chat/completions"
TOOL = {"type": "function", "function": dict(zip(("name", "description", "parameters"), said.TOOL, strict=True))}
OTHER = {"type": "function", "function": dict(zip(("name", "description", "parameters"), said.OTHER_TOOL, strict=True))}
CALL = {"id": "call_abc123", "type": "function", "function": {"name": "weather", "arguments": said.PARIS.arguments}}
RESULT = {"role": "tool", "tool_call_id": "call_abc123", "content": "Sunny"}
HI = {"role": "user", "content": "Hi"}
SCHEMA = {"name": "place", "schema": said.SCHEMA}
_TOOLS: Json = {"tools": [TOOL]}


def _content(*parts: Json) -> Json:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}]}


_REQUESTS: dict[str, Json] = {
    "system": {"messages": [{"role": "system", "content": "Be brief"}, HI]},
    "turns": {"messages": [HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go on"}]},
    "image": _content({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{said.PNG}"}}),
    "image_url": _content({"type": "image_url", "image_url": {"url": said.PICTURE_URL}}),
    "file": _content({"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{said.PDF}"}}),
    "audio": _content({"type": "input_audio", "input_audio": {"format": "wav", "data": said.WAV}}),
    "prefill": {"messages": [HI, {"role": "assistant", "content": "Yes"}]},
    "tool_call": _TOOLS,
    "parallel_calls": _TOOLS,
    "text_and_call": _TOOLS,
    "empty_arguments": {"tools": [TOOL, OTHER]},
    "tool_result": {"messages": [HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT], **_TOOLS},
    "choice_required": {**_TOOLS, "tool_choice": "required"},
    "choice_named": {"tools": [TOOL, OTHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "choice_none": {**_TOOLS, "tool_choice": "none"},
    "parallel_off": {**_TOOLS, "parallel_tool_calls": False},
    "reasoning": {"reasoning_effort": "high"},
    "signature": {**_TOOLS, "reasoning_effort": "high"},
    "json_schema": {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    "json_mode": {"response_format": {"type": "json_object"}},
    "stop": {"stop": ["END"]},
    "max_tokens": {"max_completion_tokens": 77},
    "logprobs": {"logprobs": True},
    "n": {"n": 2},
    "seed": {"seed": 7},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.75},
    "top_k": {"top_k": 20},
    "penalty": {"frequency_penalty": 0.5},
    "cache_control": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]},
    "user": {"user": "u-1"},
    "metadata": {"metadata": {"case": "42"}},
    "unknown": {said.UNKNOWN: {"a": 1}},
    **{name: {} for name in ("text", "filtered", "refusal", "citations", "usage")},
}


def request(feature: str, model: str, stream: bool) -> Json | None:
    if feature not in _REQUESTS:
        return None
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": model, "messages": [HI], **_REQUESTS[feature], **streamed}


def follow_up(body: Json, got: Got) -> Json:
    """The next request, with the answer and its calls' results in it."""
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "Sunny"} for call in got.native.get("tool_calls", ())]
    return {**body, "messages": [*body["messages"], got.native, *results]}


def read(body: Json) -> Got:
    first = body["choices"][0]
    message = first["message"]
    got = Got(text=message.get("content") or "", refusal=message.get("refusal") or "", finish=first["finish_reason"], native=message)
    got.reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
    got.calls = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
    cited = [each["url_citation"] for each in message.get("annotations") or ()]
    got.citations = [(each["url"], each["title"]) for each in cited]
    got.logprobs = [token["token"] for token in (first.get("logprobs") or {}).get("content") or ()]
    got.second = next((choice["message"]["content"] for choice in body["choices"] if choice["index"] == 1), None)
    got.usage = usage_of(body.get("usage") or {})
    return got


def usage_of(usage: Json) -> dict[str, int | None]:
    prompt, completion = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    told = {"input": usage.get("prompt_tokens"), "output": usage.get("completion_tokens")}
    return told | {"cached": prompt.get("cached_tokens"), "reasoning": completion.get("reasoning_tokens")}


def read_stream(text: str) -> Got:
    """A stream's chunks joined to the answer that they are of."""
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    whole: Json = {"choices": {}}
    for chunk in map(json.loads, lines[:-1]):
        whole["usage"] = chunk.get("usage") or whole.get("usage")
        for choice in chunk["choices"]:
            _join(whole["choices"].setdefault(choice["index"], {"index": choice["index"], "message": {"role": "assistant"}}), choice)
    for choice in whole["choices"].values():
        if calls := choice["message"].pop("calls", None):
            choice["message"]["tool_calls"] = [calls[index] for index in sorted(calls)]
    return read({**whole, "choices": [whole["choices"][index] for index in sorted(whole["choices"])]})


def _join(made: Json, choice: Json) -> None:
    made["finish_reason"] = choice.get("finish_reason") or made.get("finish_reason")
    if logprobs := choice.get("logprobs"):
        made.setdefault("logprobs", {"content": []})["content"] += logprobs["content"] or []
    message: dict[str, Any] = made["message"]
    for name, value in choice["delta"].items():
        if name == "tool_calls":
            for call in value:
                _join_call(message.setdefault("calls", {}), call)
        elif isinstance(value, str) and name != "role":
            message[name] = message.get(name, "") + value
        elif isinstance(value, list):
            message[name] = message.get(name, []) + value


def _join_call(calls: dict[int, Json], piece: Json) -> None:
    if piece["index"] not in calls:
        calls[piece["index"]] = {name: value for name, value in piece.items() if name != "index"} | {"function": dict(piece["function"])}
        calls[piece["index"]]["function"].setdefault("arguments", "")
        return
    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
