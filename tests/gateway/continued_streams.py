"""Answers as providers stream them, in every dialect, event by event; and what the official SDKs make of a stream."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import RawMessageStreamEvent
from openai._types import omit
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types import Completion
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from contract.call import Call, Dialect
from gateway import peek
from tests.providers.sse_oracle import events_of
from tests.providers.wires.anthropic_machine import Machine as MessageMachine
from tests.providers.wires.responses_machine import Machine as ResponseMachine

READERS = {
    "openai_chat": peek.read_chat_call,
    "openai_completions": peek.Reader(peek.COMPLETIONS).read,
    "openai_responses": peek.Reader(peek.RESPONSES).read,
    "anthropic_messages": peek.Reader(peek.MESSAGES).read,
}
QUESTIONS: dict[Dialect, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 100, "stream_options": {"include_usage": True}},
    "openai_completions": {"prompt": "Once", "max_tokens": 100, "stream_options": {"include_usage": True}},
    "openai_responses": {"input": "Hi", "max_output_tokens": 100},
    "anthropic_messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
}


def asked(dialect: Dialect, **more: Any) -> Call:
    body = {"model": "m", "stream": True, **QUESTIONS[dialect], **more}
    return READERS[dialect]("r1", json.dumps({name: value for name, value in body.items() if value is not None}).encode(), [])


def data(event: dict[str, Any], *, named: bool = False) -> bytes:
    return (b"event: %b\n" % event["type"].encode() if named else b"") + b"data: %b\n\n" % json.dumps(event).encode()


def _chat(pieces: list[str], by: str) -> list[bytes]:
    head = {"id": f"chatcmpl-{by}", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": f"model-{by}"}
    head["system_fingerprint"] = f"fp-{by}"

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return data({**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *[chunk({"content": piece}) for piece in pieces],
        chunk({}, "stop"),
        data({**head, "choices": [], "usage": usage}),
        b"data: [DONE]\n\n",
    ]


def _completions(pieces: list[str], by: str) -> list[bytes]:
    head = {"id": f"cmpl-{by}", "object": "text_completion", "created": 1_760_000_000, "model": f"model-{by}"}

    def chunk(text: str, finish: str | None = None) -> bytes:
        return data({**head, "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]})

    usage = {"prompt_tokens": 10, "completion_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
    return [*map(chunk, pieces), chunk("", "stop"), data({**head, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def _messages(pieces: list[str], by: str) -> list[bytes]:
    message = {"id": f"msg-{by}", "type": "message", "role": "assistant", "model": f"model-{by}", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}} for piece in pieces],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": len(pieces)}},
        {"type": "message_stop"},
    ]
    return [data(event, named=True) for event in events]


def _responses(pieces: list[str], by: str) -> list[bytes]:
    response: dict[str, Any] = {"id": f"resp-{by}", "object": "response", "created_at": 1_760_000_000, "model": f"model-{by}", "output": []}
    response |= {"status": "in_progress", "error": None, "incomplete_details": None, "usage": None, "store": True, "tools": []}
    response |= {"parallel_tool_calls": True, "tool_choice": "auto"}
    text = "".join(pieces)
    item = {"id": f"msg-{by}", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    whole_part, place = {**part, "text": text}, {"item_id": f"msg-{by}", "output_index": 0, "content_index": 0}
    whole = {**item, "status": "completed", "content": [whole_part]}
    usage = {"input_tokens": 10, "output_tokens": len(pieces), "total_tokens": 10 + len(pieces)}
    usage |= {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
        *[{"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in pieces],
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": whole_part},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [whole], "usage": usage}},
    ]
    return [data({**event, "sequence_number": number}, named=True) for number, event in enumerate(events)]


_STREAMS: dict[Dialect, Callable[[list[str], str], list[bytes]]] = {
    "openai_chat": _chat,
    "openai_completions": _completions,
    "openai_responses": _responses,
    "anthropic_messages": _messages,
}


def answer(dialect: Dialect, pieces: list[str], by: str) -> list[bytes]:
    """A whole answer's events. `by`: who gives it, which is in all of its ids."""
    return _STREAMS[dialect](pieces, by)


# an Anthropic message in parts: its start, a thought, a text, a call
def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    events = [{"type": "content_block_start", "index": index, "content_block": begun}]
    events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [data(event, named=True) for event in [*events, {"type": "content_block_stop", "index": index}]]


THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "hm"},
    {"type": "signature_delta", "signature": "sig"},
)
TEXT = block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "The"}, {"type": "text_delta", "text": " quick"})
CALL = block(1, {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}, {"type": "input_json_delta", "partial_json": '{"a":1}'})
START = _messages(["x"], "one")[:1]


class Read(msgspec.Struct):
    """A whole stream as an SDK reads it."""

    id: str
    model: str
    text: str
    finish: str | None
    tokens: tuple[int, int] | None
    turnout: Any


def _read_chat(stream: bytes) -> Read:
    state: Any = ChatCompletionStreamState()
    told = [text for _, text in events_of(stream)]
    assert told.count("[DONE]") == 1 and told[-1] == "[DONE]"
    chunks = [json.loads(text) for text in told[:-1]]
    for chunk in chunks:
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    final = state.current_completion_snapshot
    assert sum("role" in choice["delta"] for chunk in chunks for choice in chunk["choices"]) == 1
    assert len({(chunk["id"], chunk["model"], chunk["system_fingerprint"]) for chunk in chunks}) == 1
    usage = final.usage and (final.usage.prompt_tokens, final.usage.completion_tokens)
    return Read(final.id, final.model, final.choices[0].message.content or "", final.choices[0].finish_reason, usage, chunks[-1].get("turnout"))


def _read_completions(stream: bytes) -> Read:
    told = [text for _, text in events_of(stream)]
    assert told.count("[DONE]") == 1 and told[-1] == "[DONE]"
    chunks: list[Any] = [Completion.construct(**json.loads(text)) for text in told[:-1]]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    finish = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert len(finish) == 1
    usage = chunks[-1].usage and (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens)
    return Read(chunks[0].id, chunks[0].model, text, finish[0], usage, (chunks[-1].model_extra or {}).get("turnout"))


_MESSAGE_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def _read_messages(stream: bytes) -> Read:
    machine, message, turnout, buffers = MessageMachine(), None, None, dict[int, bytes]()
    for name, text in events_of(stream):
        event = json.loads(text)
        machine.feed(name, event)
        turnout = event.get("turnout", turnout)
        if name != "ping":
            message = accumulate_event(event=_MESSAGE_EVENT.validate_python(event), current_snapshot=message, json_bufs=buffers)
    assert machine.ended and message is not None
    said = "".join(block.text for block in message.content if block.type == "text")
    usage = (message.usage.input_tokens, message.usage.output_tokens)
    return Read(message.id, message.model, said, message.stop_reason, usage, turnout)


_RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def _read_responses(stream: bytes) -> Read:
    machine, state = ResponseMachine(), ResponseStreamState(input_tools=[], text_format=omit)
    whole: Any = None
    for name, text in events_of(stream):
        event = json.loads(text)
        machine.take(name, event)
        for made in state.handle_event(_RESPONSE_EVENT.validate_python(event)):
            whole = made.response if made.type in ("response.completed", "response.incomplete") else whole
    assert machine.ended is not None and whole is not None
    final = Response.construct(**machine.final)
    assert whole.output_text == final.output_text
    usage = final.usage and (final.usage.input_tokens, final.usage.output_tokens)
    return Read(final.id, final.model, final.output_text, final.status, usage, machine.final.get("turnout"))


_READ: dict[Dialect, Callable[[bytes], Read]] = {
    "openai_chat": _read_chat,
    "openai_completions": _read_completions,
    "openai_responses": _read_responses,
    "anthropic_messages": _read_messages,
}


def read(dialect: Dialect, stream: bytes) -> Read:
    """Through the official SDK's accumulator, and the format's state machine where there is one."""
    return _READ[dialect](stream)


def text_so_far(dialect: Dialect, delivered: bytes) -> str:
    """The visible text in a part of a stream."""
    said = []
    for _, text in events_of(delivered):
        event = json.loads(text) if text.startswith("{") else {}
        if dialect == "openai_chat":
            said += [choice["delta"].get("content") or "" for choice in event.get("choices", [])]
        elif dialect == "openai_completions":
            said += [choice["text"] for choice in event.get("choices", [])]
        elif dialect == "anthropic_messages" and event["type"] == "content_block_delta":
            said.append(event["delta"].get("text", ""))
        elif dialect == "openai_responses" and event["type"] == "response.output_text.delta":
            said.append(event["delta"])
    return "".join(said)
