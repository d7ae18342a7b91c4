"""Mistral: OpenAI's chat but for its names, its chunks of content and its ids of nine (docs.mistral.ai/api)."""

import json
import re

from tests.matrix import said
from tests.matrix.said import Asked, Json, Script, sse
from tests.matrix.wires import openai_chat as chat

NAME, MODEL = "mistral", "magistral-medium-latest"
PROVIDER = 'kind: mistral, base_url: "{url}/v1", api_key: k'
STREAM_TYPE = "text/event-stream"
ABSENT = {"refusal": "the provider's answers have no refusal", "citations": "the provider's references name no page"}
COUNTS = {"input": 100, "cached": 40, "output": 30, "reasoning": None}
_ID = re.compile(r"[a-zA-Z0-9]{9}")


def read(body: Json) -> Asked:
    messages = [{**message, "content": _parts(message.get("content"))} for message in body["messages"]]
    for message in messages:
        assert all(_ID.fullmatch(call["id"]) for call in message.get("tool_calls") or ()), message
    named = {"seed": body.get("random_seed")} if "random_seed" in body else {}
    choice = "required" if body.get("tool_choice") == "any" else body.get("tool_choice")
    assert "max_completion_tokens" not in body and "seed" not in body
    asked = chat.read({**body, "messages": messages, "tool_choice": choice, **named})
    chunks = [part for message in body["messages"] if isinstance(message.get("content"), list) for part in message["content"]]
    assert all("file" not in part and "cache_control" not in part for part in chunks), "a chunk that the provider refuses"
    for part in chunks:
        if part["type"] == "document_url":
            chat.read_url(part["document_url"], asked.files, asked.file_urls)
    asked.signatures = [part["signature"] for part in chunks if part["type"] == "thinking" and "signature" in part]
    return asked


def _parts(content: str | list[Json] | None) -> list[Json]:
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    return [part for part in parts if part["type"] != "thinking"]


def _usage() -> Json:
    return {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130, "prompt_tokens_details": {"cached_tokens": 40}}


def _thinking(text: str, signature: str | None) -> Json:
    told = {"type": "thinking", "thinking": [{"type": "text", "text": text}] if text else []}
    return {**told, "signature": signature} if signature else told


def _calls(script: Script) -> tuple[said.Call, ...]:
    return tuple(said.Call(call.id[-9:], call.name, call.pieces) for call in script.calls)


def unary(script: Script) -> bytes:
    plain = Script(text=script.text, calls=_calls(script), finish=script.finish, logprobs=script.logprobs, second=script.second)
    answer = json.loads(chat.unary(plain))
    if script.reasoning:
        text = [{"type": "text", "text": "".join(script.text)}] if script.text else []
        answer["choices"][0]["message"]["content"] = [_thinking("".join(script.reasoning), script.signature), *text]
    return json.dumps({**answer, "usage": _usage()}).encode()


def stream(script: Script) -> bytes:
    made: list[Json] = [{"role": "assistant", "content": ""}]
    made += [{"content": [_thinking(text, None)]} for text in script.reasoning]
    made += [{"content": [_thinking("", script.signature)]}] if script.signature else []
    made += [{"content": text} for text in script.text]
    made += [{"tool_calls": [_whole(index, call)]} for index, call in enumerate(_calls(script))]
    told = chat.chunks(made, script)
    return sse([*told[:-1], {**told[-1], "usage": _usage()}], done=True)


def _whole(index: int, call: said.Call) -> Json:
    return {"index": index, "id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
