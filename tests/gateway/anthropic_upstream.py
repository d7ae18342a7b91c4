"""Anthropic as a play: whole messages and their streams, written from the documented shapes."""

import json
from typing import Any

from tests.gateway.upstream import Exchange, Play

Json = dict[str, Any]
USAGE: Json = {"input_tokens": 20, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 4, "output_tokens": 5}
PING: Json = {"type": "ping"}
SIGNATURE = "RXJzaWduYXR1cmU="


def message(*content: Json, stop: str = "end_turn", sequence: str | None = None) -> Json:
    return {
        "id": "msg_up",
        "type": "message",
        "role": "assistant",
        "model": "claude-up",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": sequence,
        "usage": USAGE,
    }


def text(said: str) -> Json:
    return {"type": "text", "text": said}


def thinking(said: str) -> Json:
    return {"type": "thinking", "thinking": said, "signature": SIGNATURE}


def call(id_: str, name: str, input_: Json) -> Json:
    return {"type": "tool_use", "id": id_, "name": name, "input": input_}


def _deltas(block: Json) -> tuple[Json, list[Json]]:
    """A block as it starts, and its pieces."""
    match block["type"]:
        case "text":
            half = len(block["text"]) // 2
            return text(""), [{"type": "text_delta", "text": piece} for piece in (block["text"][:half], block["text"][half:])]
        case "thinking":
            pieces = [{"type": "thinking_delta", "thinking": block["thinking"]}, {"type": "signature_delta", "signature": block["signature"]}]
            return {"type": "thinking", "thinking": "", "signature": ""}, pieces
        case "tool_use":
            given = json.dumps(block["input"]) if block["input"] else ""
            return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in ("", given[:5], given[5:])]
    return block, []


def events_of(whole: Json) -> list[Json]:
    """The stream of a message, with a ping or two."""
    start = {**whole, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**USAGE, "output_tokens": 1}}
    events: list[Json] = [{"type": "message_start", "message": start}, PING]
    for index, block in enumerate(whole["content"]):
        began, pieces = _deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": began})
        events += [{"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces]
        events += [{"type": "content_block_stop", "index": index}, PING]
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    return [*events, {"type": "message_delta", "delta": end, "usage": whole["usage"]}, {"type": "message_stop"}]


def bytes_of(events: list[Json]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def says(*content: Json, stop: str = "end_turn", sequence: str | None = None) -> Play:
    """Streamed or whole, as asked; a count where that is asked."""
    whole = message(*content, stop=stop, sequence=sequence)

    async def play(x: Exchange) -> None:
        if x.seen.head[":path"].partition("?")[0].endswith("/count_tokens"):
            await x.respond(200, b'{"input_tokens": 2095}')
        elif not x.seen.body.get("stream"):
            await x.respond(200, json.dumps(whole).encode())
        else:
            await streams(*events_of(whole))(x)

    return play


def streams(*events: Json) -> Play:
    """These events, and the end of the connection."""

    async def play(x: Exchange) -> None:
        await x.start_stream()
        for event in events:
            await x.raw_chunk(bytes_of([event]))
        await x.end_stream()

    return play


def error(status: int, kind: str, **headers: str) -> Play:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "CANARY-upstream-text"}, "request_id": "req_up"}).encode()

    async def play(x: Exchange) -> None:
        await x.respond(status, body, **headers)

    return play
