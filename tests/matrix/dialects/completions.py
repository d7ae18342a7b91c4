"""The matrix's client of OpenAI's legacy completions: text features only."""

import json

from tests.matrix import said
from tests.matrix.dialects.chat import usage_of
from tests.matrix.said import Got, Json

NAME, PATH = "completions", "/v1/completions"
_REQUESTS: dict[str, Json] = {
    "stop": {"stop": ["END"]},
    "max_tokens": {"max_tokens": 77},
    "n": {"n": 2},
    "seed": {"seed": 7},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.75},
    "penalty": {"frequency_penalty": 0.5},
    "user": {"user": "u-1"},
    "unknown": {said.UNKNOWN: {"a": 1}},
    **{name: {} for name in ("text", "filtered", "usage")},
}


def request(feature: str, model: str, stream: bool) -> Json | None:
    if feature not in _REQUESTS:
        return None
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return {"model": model, "prompt": "Hi", **_REQUESTS[feature], **streamed}


def read(body: Json) -> Got:
    texts = {choice["index"]: choice for choice in body["choices"]}
    got = Got(text=texts[0]["text"], finish=texts[0]["finish_reason"], usage=usage_of(body.get("usage") or {}))
    got.second = texts[1]["text"] if 1 in texts else None
    return got


def read_stream(text: str) -> Got:
    lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    choices: dict[int, Json] = {}
    usage: Json = {}
    for chunk in map(json.loads, lines[:-1]):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            made = choices.setdefault(choice["index"], {"index": choice["index"], "text": "", "finish_reason": None})
            made["text"] += choice["text"]
            made["finish_reason"] = choice["finish_reason"] or made["finish_reason"]
    return read({"choices": list(choices.values()), "usage": usage})
