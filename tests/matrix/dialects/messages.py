"""The matrix's client of Anthropic's Messages."""

import json

from tests.matrix import said
from tests.matrix.said import Got, Json

NAME, PATH = "messages", "/v1/messages"
TOOL = dict(zip(("name", "description", "input_schema"), said.TOOL, strict=True))
OTHER = dict(zip(("name", "description", "input_schema"), said.OTHER_TOOL, strict=True))
HI = {"role": "user", "content": "Hi"}
CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_abc123", "name": "weather", "input": {"city": "Paris"}}]}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_abc123", "content": "Sunny"}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 2048}}
_TOOLS: Json = {"tools": [TOOL]}


def _content(*parts: Json) -> Json:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}, *parts]}]}


def _base64(kind: str, media_type: str, data: str) -> Json:
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": data}}


PICTURE_RESULT = {**RESULT, "content": [_base64("image", "image/png", said.PNG)]}
_REQUESTS: dict[str, Json] = {
    "system": {"system": "Be brief"},
    "turns": {"messages": [HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go on"}]},
    "image": _content(_base64("image", "image/png", said.PNG)),
    "image_url": _content({"type": "image", "source": {"type": "url", "url": said.PICTURE_URL}}),
    "file": _content(_base64("document", "application/pdf", said.PDF)),
    "file_url": _content({"type": "document", "source": {"type": "url", "url": said.FILE_URL}}),
    "prefill": {"messages": [HI, {"role": "assistant", "content": "Yes"}]},
    "tool_call": _TOOLS,
    "parallel_calls": _TOOLS,
    "text_and_call": _TOOLS,
    "empty_arguments": {"tools": [TOOL, OTHER]},
    "tool_result": {"messages": [HI, CALL, {"role": "user", "content": [RESULT]}], **_TOOLS},
    "tool_error": {"messages": [HI, CALL, {"role": "user", "content": [{**RESULT, "is_error": True}]}], **_TOOLS},
    "result_image": {"messages": [HI, CALL, {"role": "user", "content": [PICTURE_RESULT]}], **_TOOLS},
    "choice_required": {**_TOOLS, "tool_choice": {"type": "any"}},
    "choice_named": {"tools": [TOOL, OTHER], "tool_choice": {"type": "tool", "name": "weather"}},
    "choice_none": {**_TOOLS, "tool_choice": {"type": "none"}},
    "parallel_off": {**_TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    "reasoning": THINKING,
    "signature": {**_TOOLS, **THINKING},
    "json_schema": {"output_config": {"format": {"type": "json_schema", "schema": said.SCHEMA}}},
    "stop": {"stop_sequences": ["END"]},
    "max_tokens": {"max_tokens": 77},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.75},
    "top_k": {"top_k": 20},
    "cache_control": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}]},
    "user": {"metadata": {"user_id": "u-1"}},
    "unknown": {said.UNKNOWN: {"a": 1}},
    **{name: {} for name in ("text", "filtered", "citations", "usage")},
}
_FINISHES = {"end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


def request(feature: str, model: str, stream: bool) -> Json | None:
    if feature not in _REQUESTS:
        return None
    return {"model": model, "max_tokens": 4096, "messages": [HI], **_REQUESTS[feature], **({"stream": True} if stream else {})}


def follow_up(body: Json, got: Got) -> Json:
    """The next request, with the answer and its calls' results in it."""
    calls = [block["id"] for block in got.native if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call, "content": "Sunny"} for call in calls]
    return {**body, "messages": [*body["messages"], {"role": "assistant", "content": got.native}, {"role": "user", "content": results}]}


def read(body: Json) -> Got:
    got = Got(native=body["content"], finish=_FINISHES.get(body["stop_reason"], body["stop_reason"]))
    for block in body["content"]:
        match block["type"]:
            case "text":
                got.text += block["text"]
                got.citations += [(each["url"], each["title"]) for each in block.get("citations") or ()]
            case "thinking":
                got.reasoning += block["thinking"]
            case "tool_use":
                got.calls.append((block["name"], json.dumps(block["input"])))
    usage, cached = body["usage"], body["usage"].get("cache_read_input_tokens")
    fresh = usage["input_tokens"] + (usage.get("cache_creation_input_tokens") or 0)
    got.usage = {"input": fresh + (cached or 0), "output": usage["output_tokens"], "cached": cached}
    return got


def read_stream(text: str) -> Got:
    """A stream's blocks joined to the message that they are of; each is begun, in order, and ended."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "message_stop", events[-1]
    message: Json = {}
    arguments = ""
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                arguments = ""
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                arguments += event["delta"].get("partial_json", "")
                _delta(message["content"][-1], event["delta"])
            case "content_block_stop" if arguments:
                message["content"][-1]["input"] = json.loads(arguments)
            case "message_delta":
                message |= event["delta"]
                message["usage"] = message["usage"] | {name: count for name, count in event["usage"].items() if count is not None}
    return read(message)


def _delta(block: Json, delta: Json) -> None:
    match delta["type"]:
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        case "text_delta" | "thinking_delta" | "signature_delta":
            name = delta["type"].partition("_")[0]
            block[name] = block.get(name, "") + delta[name]
