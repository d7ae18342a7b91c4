"""Anthropic's streams as they look on the wire, and what a reader must find in them."""

import json
from typing import Any

import msgspec

from contract.finish import Finish

Json = dict[str, Any]


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members}, ensure_ascii=False)}\n\n".encode()


def start(**usage: Any) -> bytes:
    message: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    return event("message_start", message={**message, "usage": {"input_tokens": 9, "output_tokens": 1, **usage}})


def block(index: int, kind: str, **members: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **members})


def delta(index: int, kind: str, **members: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **members})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def ended(reason: str = "end_turn", sequence: str | None = None, output: int = 4, **usage: Any) -> list[bytes]:
    told = {"stop_reason": reason, "stop_sequence": sequence}
    return [event("message_delta", delta=told, usage={"output_tokens": output, **usage}), event("message_stop")]


def text(index: int, *pieces: str) -> list[bytes]:
    return [block(index, "text", text=""), *(delta(index, "text_delta", text=piece) for piece in pieces), stop(index)]


def call(index: int, call_id: str, name: str, *pieces: str) -> list[bytes]:
    began = block(index, "tool_use", id=call_id, name=name, input={})
    return [began, *(delta(index, "input_json_delta", partial_json=piece) for piece in pieces), stop(index)]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """`held`: how many events come before the first output. `said`: kind and text of what the events say, part by part."""

    name: str
    events: list[bytes]
    held: int
    said: list[tuple[str, str]]
    finish: Finish = Finish("stop", "end_turn")
    tokens: tuple[int, int] = (9, 4)
    bound: list[str] = []

    @property
    def all(self) -> bytes:
        return b"".join(self.events)


PING = event("ping")
TEXT = Stream(name="text", events=[start(), *text(0, "Hel", "lo wörld 🦀"), *ended()], held=2, said=[("text", "Hello wörld 🦀")])
THOUGHT = [
    block(0, "thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="Hm"),
    delta(0, "signature_delta", signature="RXJ1"),
    stop(0),
]
CITATION = {"type": "char_location", "cited_text": "so", "document_title": "D", "document_index": 0, "start_char_index": 0, "end_char_index": 2}
SEARCH = [
    block(0, "server_tool_use", id="srvtoolu_1", name="web_search", input={}),
    delta(0, "input_json_delta", partial_json='{"query"'),
    delta(0, "input_json_delta", partial_json=': "x"}'),
    stop(0),
    block(1, "web_search_tool_result", tool_use_id="srvtoolu_1", content=[]),
    stop(1),
]
STREAMS = [
    TEXT,
    Stream(name="pings", events=[start(), PING, *text(0, "Hi"), PING, *ended()], held=3, said=[("text", "Hi")]),
    Stream(
        name="thinking and a call",
        events=[start(), *THOUGHT, *call(1, "toolu_a", "f", "", '{"a":', " 1}"), *ended("tool_use")],
        held=2,
        said=[("thinking", "Hm"), ("signature", "RXJ1"), ("call", 'toolu_a f {"a": 1}')],
        finish=Finish("tool_calls", "tool_use"),
        bound=["RXJ1"],
    ),
    Stream(
        name="parallel calls, one without input",
        events=[start(), *call(0, "toolu_a", "f", "", '{"a": 1}'), *call(1, "toolu_b", "g", ""), *ended("tool_use")],
        held=1,
        said=[("call", 'toolu_a f {"a": 1}'), ("call", "toolu_b g {}")],
        finish=Finish("tool_calls", "tool_use"),
    ),
    Stream(
        name="withheld thinking",
        events=[start(), block(0, "redacted_thinking", data="ZGF0YQ"), stop(0), *text(1, "Hi"), *ended("max_tokens")],
        held=1,
        said=[("redacted", "ZGF0YQ"), ("text", "Hi")],
        finish=Finish("length", "max_tokens"),
        bound=["ZGF0YQ"],
    ),
    Stream(
        name="citations",
        events=[
            start(),
            block(0, "text", text=""),
            delta(0, "text_delta", text="So."),
            delta(0, "citations_delta", citation=CITATION),
            stop(0),
            *ended(),
        ],
        held=2,
        said=[("text", "So."), ("cited", "so")],
    ),
    Stream(
        name="a server tool",
        events=[start(cache_read_input_tokens=2), *SEARCH, *text(2, "Hi"), *ended(input_tokens=50, server_tool_use={"web_search_requests": 1})],
        held=1,
        said=[("native", "server_tool_use"), ("native", "web_search_tool_result"), ("text", "Hi")],
        tokens=(52, 4),
    ),
    Stream(
        name="a stop sequence",
        events=[start(), *text(0, "Hi"), *ended("stop_sequence", "END")],
        held=2,
        said=[("text", "Hi")],
        finish=Finish("stop", "stop_sequence", "END"),
    ),
    Stream(name="nothing", events=[start(), *ended("refusal", output=1)], held=1, said=[], finish=Finish("content_filter", "refusal"), tokens=(9, 1)),
    Stream(name="a new reason", events=[start(), *text(0, "Hi"), *ended("tired")], held=2, said=[("text", "Hi")], finish=Finish("unknown", "tired")),
    Stream(
        name="CRLF",
        events=[each.replace(b"\n", b"\r\n") for each in [start(), *text(0, "Hi"), *ended("pause_turn")]],
        held=2,
        said=[("text", "Hi")],
        finish=Finish("paused", "pause_turn"),
    ),
]
