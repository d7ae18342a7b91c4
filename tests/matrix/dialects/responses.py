"""The matrix's client of OpenAI's Responses."""

import json

from tests.matrix import said
from tests.matrix.said import Got, Json

NAME, PATH = "responses", "/v1/responses"
TOOL = {"type": "function", **dict(zip(("name", "description", "parameters"), said.TOOL, strict=True)), "strict": False}
OTHER = {"type": "function", **dict(zip(("name", "description", "parameters"), said.OTHER_TOOL, strict=True)), "strict": False}
CALL = {"type": "function_call", "call_id": "call_abc123", "name": "weather", "arguments": said.PARIS.arguments}
RESULT = {"type": "function_call_output", "call_id": "call_abc123", "output": "Sunny"}
PICTURE = {"type": "input_image", "image_url": f"data:image/png;base64,{said.PNG}"}
HI = {"role": "user", "content": "Hi"}
_TOOLS: Json = {"tools": [TOOL]}
_SIGNED = {"include": ["reasoning.encrypted_content"], "store": False}


def _content(*parts: Json) -> Json:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Look"}, *parts]}]}


_REQUESTS: dict[str, Json] = {
    "system": {"instructions": "Be brief"},
    "turns": {"input": [HI, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go on"}]},
    "image": _content({"type": "input_image", "image_url": f"data:image/png;base64,{said.PNG}"}),
    "image_url": _content({"type": "input_image", "image_url": said.PICTURE_URL}),
    "file": _content({"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{said.PDF}"}),
    "file_url": _content({"type": "input_file", "file_url": said.FILE_URL}),
    "prefill": {"input": [HI, {"role": "assistant", "content": "Yes"}]},
    "tool_call": _TOOLS,
    "parallel_calls": _TOOLS,
    "text_and_call": _TOOLS,
    "empty_arguments": {"tools": [TOOL, OTHER]},
    "tool_result": {"input": [HI, CALL, RESULT], **_TOOLS},
    "result_image": {"input": [HI, CALL, {**RESULT, "output": [PICTURE]}], **_TOOLS},
    "choice_required": {**_TOOLS, "tool_choice": "required"},
    "choice_named": {"tools": [TOOL, OTHER], "tool_choice": {"type": "function", "name": "weather"}},
    "choice_none": {**_TOOLS, "tool_choice": "none"},
    "parallel_off": {**_TOOLS, "parallel_tool_calls": False},
    "reasoning": {"reasoning": {"effort": "high", "summary": "auto"}},
    "signature": {**_TOOLS, "reasoning": {"effort": "high", "summary": "auto"}, **_SIGNED},
    "json_schema": {"text": {"format": {"type": "json_schema", "name": "place", "schema": said.SCHEMA}}},
    "json_mode": {"text": {"format": {"type": "json_object"}}},
    "max_tokens": {"max_output_tokens": 77},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 1},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.75},
    "user": {"user": "u-1"},
    "metadata": {"metadata": {"case": "42"}},
    "unknown": {said.UNKNOWN: {"a": 1}},
    **{name: {} for name in ("text", "filtered", "refusal", "citations", "usage")},
}


def request(feature: str, model: str, stream: bool) -> Json | None:
    if feature not in _REQUESTS:
        return None
    return {"model": model, "input": [HI], **_REQUESTS[feature], **({"stream": True} if stream else {})}


def follow_up(body: Json, got: Got) -> Json:
    """The next request, with the answer's items and its calls' results in it."""
    calls = [item for item in got.native if item["type"] == "function_call"]
    results = [{"type": "function_call_output", "call_id": call["call_id"], "output": "Sunny"} for call in calls]
    return {**body, "input": [*body["input"], *got.native, *results]}


def read(body: Json) -> Got:
    got = Got(native=body["output"])
    for item in body["output"]:
        match item["type"]:
            case "message":
                for part in item["content"]:
                    _part(got, part)
            case "reasoning":
                got.reasoning += "".join(piece["text"] for piece in [*item.get("summary", ()), *(item.get("content") or ())])
            case "function_call":
                got.calls.append((item["name"], item["arguments"]))
    reason = (body.get("incomplete_details") or {}).get("reason")
    got.finish = {"max_output_tokens": "length"}.get(reason, reason) if reason else "tool_calls" if got.calls else "stop"
    usage = body.get("usage") or {}
    got.usage = {
        "input": usage.get("input_tokens"),
        "output": usage.get("output_tokens"),
        "cached": (usage.get("input_tokens_details") or {}).get("cached_tokens"),
        "reasoning": (usage.get("output_tokens_details") or {}).get("reasoning_tokens"),
    }
    return got


def _part(got: Got, part: Json) -> None:
    if part["type"] == "refusal":
        got.refusal += part["refusal"]
        return
    got.text += part["text"]
    got.citations += [(each["url"], each["title"]) for each in part.get("annotations") or ()]
    got.logprobs += [token["token"] for token in part.get("logprobs") or ()]


def read_stream(text: str) -> Got:
    """The terminal event's answer; what the deltas told must be the same."""
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] in ("response.completed", "response.incomplete"), events[-1]
    got = read(events[-1]["response"])
    told = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert told == got.text, told
    arguments = "".join(event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta")
    assert arguments == "".join(call[1] for call in got.calls), arguments
    return got
