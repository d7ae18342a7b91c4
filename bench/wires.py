"""What the wires cost, in microseconds: a request or an event of the byte path, and of translation from one dialect to another format.

python bench/wires.py

Translation is measured as the gateway does it: a stream of 50 words through `TranslatingTap`, from the provider's bytes to the client's, a
tap for each stream and some events in each read; and a conversation of 100 KB with tools, calls and results through `translate`.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from compare import HERE

from contract.call import Call
from gateway import peek
from gateway.peek import Reader, read_chat_call
from providers.registry import PROVIDER_KINDS
from providers.translation import TranslatingTap, answering, translate
from providers.wires.facts import Facts
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.table import DIALECTS, UPSTREAMS

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"'
    + b"word " * 180
    + b'"},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":180,"prompt_tokens_details":{"cached_tokens":0}}}'
)
WORDS = 50
READERS = {"openai_chat": read_chat_call, "anthropic_messages": Reader(peek.MESSAGES).read, "openai_responses": Reader(peek.RESPONSES).read}
SHORT = {"openai_chat": "chat", "anthropic_messages": "messages", "openai_responses": "responses"}
PAIRS = (
    ("anthropic_messages", "openai_chat"),
    ("openai_chat", "anthropic_messages"),
    ("openai_responses", "openai_chat"),
    ("openai_responses", "anthropic_messages"),
    ("openai_chat", "openai_responses"),
    ("openai_chat", "gemini"),
    ("anthropic_messages", "gemini"),
)
FACTS = {"openai_chat": "openai", "openai_responses": "openai", "anthropic_messages": "anthropic", "gemini": "gemini"}  # whose


def us(work: Callable[[], object], rounds: int, per: int = 1) -> float:
    """The best of five, in microseconds for one of `per`."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(rounds):
            work()
        best = min(best, time.perf_counter() - began)
    return best / rounds / per * 1e6


# --- streams as the providers send them ----------------------------------------------------------------------------------
def sse(data: dict[str, Any], *, named: bool = True) -> bytes:
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def chat_stream() -> list[bytes]:
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return sse(head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}], "usage": None}, named=False)

    usage = {"prompt_tokens": 20, "completion_tokens": WORDS, "total_tokens": 20 + WORDS, "prompt_tokens_details": {"cached_tokens": 0}}
    words = [chunk({"content": f" word{n}"}) for n in range(WORDS)]
    last = sse({**head, "choices": [], "usage": usage}, named=False)
    return [chunk({"role": "assistant", "content": "", "refusal": None}), *words, chunk({}, "stop"), last, b"data: [DONE]\n\n"]


def messages_stream() -> list[bytes]:
    usage = {"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1, "service_tier": "standard"}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None, "stop_sequence": None}
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message | {"usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" word{n}"}} for n in range(WORDS)),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": usage | {"output_tokens": WORDS}},
        {"type": "message_stop"},
    ]
    return [sse(event) for event in events]


def responses_stream() -> list[bytes]:
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "in_progress",
        "output": [],
        "usage": None,
    }
    text = "".join(f" word{n}" for n in range(WORDS))
    item: dict[str, Any] = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    whole = {**item, "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    usage = {
        "input_tokens": 20,
        "output_tokens": WORDS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.in_progress", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": {"type": "output_text", "text": "", "annotations": []}},
        *({"type": "response.output_text.delta", **place, "delta": f" word{n}", "logprobs": []} for n in range(WORDS)),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": whole["content"]},
        {"type": "response.output_item.done", "output_index": 0, "item": whole},
        {"type": "response.completed", "response": response | {"status": "completed", "output": [whole], "usage": usage}},
    ]
    return [sse(event | {"sequence_number": number}) for number, event in enumerate(events)]


def gemini_stream() -> list[bytes]:
    def chunk(text: str, **more: str) -> bytes:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **more}
        usage = {"promptTokenCount": 20, "candidatesTokenCount": WORDS, "totalTokenCount": 20 + WORDS}
        return sse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r"}, named=False)

    return [*(chunk(f" word{n}") for n in range(WORDS - 1)), chunk(" end", finishReason="STOP")]


STREAMS = {"openai_chat": chat_stream, "anthropic_messages": messages_stream, "openai_responses": responses_stream, "gemini": gemini_stream}


def stream(call: Call, upstream: str, reads: list[bytes]) -> None:
    """One stream, from the provider's bytes to the client's."""
    context = answering(call, "p/m")
    tap = TranslatingTap(UPSTREAMS[upstream].stream_decoder(1), DIALECTS[call.dialect].stream_encoder(context), 1)
    for read in reads:
        tap.feed(read)
    tap.end()
    if not tap.complete or tap.error is not None:
        raise RuntimeError(f"{upstream} to {call.dialect}: {tap.error}")


def stream_rows() -> list[tuple[str, float]]:
    rows = []
    for dialect, upstream in PAIRS:
        events = STREAMS[upstream]()
        call = READERS[dialect]("r", json.dumps(small_body(dialect)).encode(), [])
        for size in (1, 4):
            reads = [b"".join(events[at : at + size]) for at in range(0, len(events), size)]
            cost = us(lambda: stream(call, upstream, reads), 60, len(events))  # noqa: B023 — called at once
            rows.append((f"stream, {SHORT[dialect]} from {SHORT.get(upstream, upstream)}, {size} in a read", cost))
    return rows


# --- requests ------------------------------------------------------------------------------------------------------------
def small_body(dialect: str) -> dict[str, Any]:
    told = {"role": "user", "content": "Say something."}
    if dialect == "openai_responses":
        return {"model": "m", "input": [told], "stream": True}
    return {"model": "m", "messages": [told], "stream": True, "max_tokens": 500}


SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string", "description": "where to look"}, "lines": {"type": "integer"}},
    "required": ["path"],
}
TEXT = "lorem ipsum dolor sit amet " * 30  # 810 bytes
ROUNDS = 28


def conversation(dialect: str) -> dict[str, Any]:
    """100 KB in a dialect: ten tools, and rounds of a question, a call, its result, and an answer."""
    tools = [{"name": f"read_{n}", "description": "Reads a part of a file.", "parameters": SCHEMA} for n in range(10)]
    arguments = json.dumps({"path": "/var/log/x", "lines": 40})
    messages: list[dict[str, Any]] = []
    for n in range(ROUNDS):
        asked, answered = {"role": "user", "content": TEXT}, {"role": "assistant", "content": TEXT}
        if dialect == "openai_chat":
            call = {"id": f"call_{n}", "type": "function", "function": {"name": "read_1", "arguments": arguments}}
            made = [{"role": "assistant", "content": TEXT, "tool_calls": [call]}, {"role": "tool", "tool_call_id": f"call_{n}", "content": TEXT}]
        elif dialect == "anthropic_messages":
            use = {"type": "tool_use", "id": f"call_{n}", "name": "read_1", "input": json.loads(arguments)}
            result = {"type": "tool_result", "tool_use_id": f"call_{n}", "content": TEXT}
            made = [{"role": "assistant", "content": [{"type": "text", "text": TEXT}, use]}, {"role": "user", "content": [result]}]
        else:
            call = {"type": "function_call", "call_id": f"call_{n}", "name": "read_1", "arguments": arguments}
            made = [answered, call, {"type": "function_call_output", "call_id": f"call_{n}", "output": TEXT}]
        messages += [asked, *made, answered]
    messages.append({"role": "user", "content": "And now?"})
    if dialect == "openai_chat":
        return {"model": "m", "messages": messages, "tools": [{"type": "function", "function": tool} for tool in tools], "max_tokens": 500}
    if dialect == "openai_responses":
        return {"model": "m", "input": messages, "tools": [{"type": "function", **tool} for tool in tools], "max_output_tokens": 500}
    own = [{"name": tool["name"], "description": tool["description"], "input_schema": SCHEMA} for tool in tools]
    return {"model": "m", "messages": messages, "tools": own, "max_tokens": 500}


def request_rows() -> list[tuple[str, float]]:
    rows = []
    for dialect, upstream in PAIRS:
        call = READERS[dialect]("r", json.dumps(conversation(dialect)).encode(), [])
        facts = PROVIDER_KINDS[FACTS[upstream]].facts
        cost = us(lambda: translate(call, DIALECTS[dialect], UPSTREAMS[upstream], "m", facts, "hints"), 20)  # noqa: B023 — called at once
        rows.append((f"request of {len(call.body) // 1000} KB, {SHORT[dialect]} to {SHORT.get(upstream, upstream)}", cost))
    return rows


# --- the byte path -------------------------------------------------------------------------------------------------------
def tap(call: Call, pieces: list[bytes]) -> None:
    watching = OPENAI_CHAT.stream_tap(call, True)
    for piece in pieces:
        watching.feed(piece)


def byte_rows() -> list[tuple[str, float]]:
    small, large = (HERE / "bodies/chat_d0.json").read_bytes(), (HERE / "bodies/chat_100k.json").read_bytes()
    call, big = read_chat_call("r", small, []), read_chat_call("r", large, [])
    facts = Facts()
    return [
        ("peek, small request", us(lambda: read_chat_call("r", small, []), 5000)),
        ("peek, 100 KB request", us(lambda: read_chat_call("r", large, []), 300)),
        ("rewrite, small request", us(lambda: OPENAI_CHAT.rewrite_request(call, "other", facts, stream=True, ask_usage=True), 5000)),
        ("rewrite, 100 KB request", us(lambda: OPENAI_CHAT.rewrite_request(big, "other", facts, stream=True, ask_usage=True), 300)),
        ("check a 1 KB unary answer", us(lambda: OPENAI_CHAT.read_unary(ANSWER), 5000)),
        ("tap an event, each in its own read", us(lambda: tap(call, [EVENT] * 100), 200, 100)),
        ("tap an event, 20 in a read", us(lambda: tap(call, [EVENT * 20] * 5), 200, 100)),
        ("decode an event to the contract", us(lambda: OPENAI_CHAT.stream_decoder(1).feed(EVENT * 100), 50, 100)),
        ("decode a small request in full", us(lambda: OPENAI_CHAT.decode_request(small), 2000)),
    ]


def main() -> None:
    for rows in (byte_rows, stream_rows, request_rows):
        for name, value in rows():
            rate = f"{1e6 / value:12,.0f} events/s" if name.startswith("stream") else ""
            print(f"{name:<52} {value:8.2f} us{rate}", flush=True)


if __name__ == "__main__":
    main()
