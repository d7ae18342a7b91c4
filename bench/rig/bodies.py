"""The requests that the benchmarks send. What the mock does with them is set for it beforehand, so that every gateway gets the same bytes."""

import json
from pathlib import Path

from rig.processes import HERE

MODEL = "mock-model"
WORDS = "The quick brown fox jumps over the lazy dog and then explains what a gateway does. "
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


def _chat(text: str, **more: object) -> dict[str, object]:
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}]
    return {"model": MODEL, "messages": messages, "max_tokens": 256, **more}


def _of_size(size: int) -> dict[str, object]:
    """A conversation whose turns have about 800 bytes each."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": f"{n}: " + WORDS * 9} for n in range(max(1, size // 800) | 1)]
    return {"model": MODEL, "messages": turns, "max_tokens": 256}


SMALL = _chat("Say hello in one short sentence, please: it is only a test of the gateway.")
BODIES: dict[str, dict[str, object]] = {
    "chat": SMALL,
    "chat_stream": {**SMALL, "stream": True, "stream_options": {"include_usage": True}},
    "chat_1k": _of_size(1_000),
    "chat_10k": _of_size(10_000),
    "chat_100k": _of_size(100_000),
    "messages": {"model": MODEL, "max_tokens": 256, "system": "You are a helpful assistant.", "messages": [{"role": "user", "content": WORDS}]},
    "responses": {"model": MODEL, "max_output_tokens": 256, "instructions": "You are a helpful assistant.", "input": WORDS, "store": False},
}
BODIES["messages_stream"] = {**BODIES["messages"], "stream": True}
BODIES["responses_stream"] = {**BODIES["responses"], "stream": True}


def body(name: str) -> Path:
    """The file with the body of this name, made where it is missing."""
    path = HERE / "bin" / f"{name}.json"
    text = json.dumps(BODIES[name])
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path
