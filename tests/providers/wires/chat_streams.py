"""Streams of OpenAI-compatible providers as they look on the wire, and what a reader must find in them."""

import json
from typing import Any

import msgspec

from contract.finish import Finish

DONE = b"data: [DONE]\n\n"
PLAIN_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1760000000, "model": "gpt-5-2026"}
    return b"data: %b\n\n" % json.dumps({**head, "choices": list(choices), **more}).encode()


def delta(index: int = 0, finish: str | None = None, **members: Any) -> dict[str, Any]:
    return {"index": index, "delta": members, "logprobs": None, "finish_reason": finish}


def call_delta(index: int, arguments: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": arguments}
    if call_id is None:
        return {"index": index, "function": function}
    return {"index": index, "id": call_id, "type": "function", "function": {"name": name, **function}}


ROLE = chunk(delta(role="assistant", content="", refusal=None))
FINISH = chunk(delta(finish="stop"))
USAGE = chunk(usage=PLAIN_USAGE)
FILTER = b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'


def texts(*pieces: str, index: int = 0) -> list[bytes]:
    return [chunk(delta(index, content=piece)) for piece in pieces]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """`events` go by as they are but for `stripped`, which goes only to a client that asked; `errors`: one of them ends the answer."""

    name: str
    events: list[bytes]
    choices: int = 1
    tokens_seen: int = 0
    held: int = 0  # how many events come before the first output
    finish: Finish | None = Finish("stop", "stop")
    id: str | None = "chatcmpl-1"
    tokens: tuple[int, int] | None = None
    stripped: bytes | None = None
    terminal: bool = True

    @property
    def all(self) -> bytes:
        return b"".join(self.events)


INTERLEAVED = [
    ROLE,
    chunk(delta(tool_calls=[call_delta(0, "", "call_a", "weather")])),
    chunk(delta(tool_calls=[call_delta(1, "", "call_b", "clock")])),
    chunk(delta(tool_calls=[call_delta(0, '{"city":')])),
    chunk(delta(tool_calls=[call_delta(1, '{"zone":"CE')])),
    chunk(delta(tool_calls=[call_delta(0, '"Bré\\"scia"}'), call_delta(1, 'T"}')])),
    chunk(delta(finish="tool_calls")),
    DONE,
]
THREE = [
    chunk(delta(0, role="assistant", content="")),
    chunk(delta(1, role="assistant", content="")),
    chunk(delta(2, role="assistant", content="")),
    *texts("one", index=0),
    *texts("three", index=2),
    chunk(delta(2, finish="length")),
    *texts("two", index=1),
    chunk(delta(0, finish="stop"), delta(1, finish="content_filter")),
    DONE,
]
REASONED = [
    ROLE,
    chunk(delta(reasoning_content="Let me ")),
    chunk(delta(reasoning_content="think\n\n")),
    chunk(delta(reasoning="…", content=None)),
    *texts("42"),
    FINISH,
    DONE,
]
COMMENTED = [b": OPENROUTER PROCESSING\n\n", b": ping\n\n", ROLE, b": again\n\n", *texts("Hi"), b": late\n\n", FINISH, b": end\n\n", DONE]
LAST = chunk(delta(finish="stop"), usage=PLAIN_USAGE)
STREAMS = [
    Stream(name="text", events=[ROLE, *texts("Hel", "lo ", "wörld 🦀"), FINISH, DONE], tokens_seen=7, held=1),
    Stream(name="tool calls", events=INTERLEAVED, tokens_seen=31, held=1, finish=Finish("tool_calls", "tool_calls")),
    Stream(name="three choices", events=THREE, choices=3, tokens_seen=3, held=3),
    Stream(name="reasoning", events=REASONED, tokens_seen=7, held=1),
    Stream(name="usage", events=[ROLE, *texts("Hi"), FINISH, USAGE, DONE], tokens_seen=1, held=1, tokens=(9, 4), stripped=USAGE),
    Stream(name="usage with the finish", events=[*texts("Hi"), chunk(delta(finish="stop"), usage=PLAIN_USAGE), DONE], tokens_seen=1, tokens=(9, 4)),
    Stream(name="prompt filter", events=[FILTER, ROLE, *texts("Hi"), FINISH, DONE], tokens_seen=1, held=2),
    Stream(name="comments", events=COMMENTED, tokens_seen=1, held=4),
    Stream(name="no terminal event", events=[ROLE, *texts("Hi"), FINISH], tokens_seen=1, held=1, terminal=False),
    Stream(name="no terminal event, usage", events=[*texts("Hi"), FINISH, USAGE], tokens_seen=1, tokens=(9, 4), stripped=USAGE, terminal=False),
    Stream(name="refusal", events=[ROLE, chunk(delta(refusal="No.")), FINISH, DONE], tokens_seen=1, held=1),
    Stream(name="finish only", events=[ROLE, chunk(delta(finish="content_filter")), DONE], held=1, finish=Finish("content_filter", "content_filter")),
    Stream(name="new reason", events=[*texts("Hi"), chunk(delta(finish="novel")), DONE], tokens_seen=1, finish=Finish("unknown", "novel")),
    Stream(name="empty reasons", events=[chunk(delta(finish="", content="Hi")), FINISH, DONE], tokens_seen=1),
    Stream(name="CRLF", events=[event.replace(b"\n", b"\r\n") for event in [ROLE, *texts("Hi"), FINISH, DONE]], tokens_seen=1, held=1),
    Stream(name="strange shapes", events=[b"data: 5\n\n", b'data: {"choices":"?"}\n\n', *texts("Hi"), FINISH, DONE], tokens_seen=1, held=2),
]
