"""What llama.cpp tells of a prompt that it reads does not reach the client, wherever the stream is cut, and nothing else is lost."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from providers.local.progress import WithoutProgress, with_progress
from tests.providers.local.test_engine_backend import call_of

TOLD = b'data: {"choices":[{"delta":{"role":"assistant"}}],"prompt_progress":{"total":9,"processed":%d}}\n\n'
ANSWER = b'data: {"choices":[{"delta":{"content":"\\"prompt_progress\\": it\'s said"}}]}\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'


class Pieces:
    """A response whose body comes in such pieces."""

    status, headers, connected_at, headers_at = 200, [(b"content-type", b"text/event-stream")], 1.0, 2.0

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.taken: list[bytes] = []
        self.heard: list[str] = []

    async def chunk(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self, limit: int) -> bytes:
        return b"".join(self._pieces)[:limit]

    def first_token(self) -> None:
        self.heard.append("first_token")

    def no_progress(self) -> None:
        self.heard.append("no_progress")

    def release(self) -> None:
        self.heard.append("release")

    def abort(self) -> None:
        self.heard.append("abort")


def read(*pieces: bytes) -> list[bytes]:
    async def play() -> list[bytes]:
        found, response = [], WithoutProgress(Pieces(*pieces))
        while chunk := await response.chunk():
            found.append(chunk)
        return found

    return asyncio.run(play())


@pytest.mark.parametrize("told", [0, 1, 3])
def test_progress_is_left_out_wherever_the_stream_is_cut(told: int) -> None:
    stream = b"".join(TOLD % number for number in range(told)) + ANSWER
    assert b"".join(read(stream)) == ANSWER
    assert b"".join(read(*(bytes([byte]) for byte in stream))) == ANSWER
    for at in range(1, len(stream)):
        assert b"".join(read(stream[:at], stream[at:])) == ANSWER


def test_a_stream_that_ends_before_its_answer_gives_what_came_of_it() -> None:
    assert read(TOLD % 1) == [] and read() == []
    assert read(TOLD % 1, b"data: {") == [b"data: {"]


def test_the_rest_of_a_response_is_the_other_s() -> None:
    inner = Pieces(b"{}")
    response = WithoutProgress(inner)
    assert (response.status, response.headers, response.connected_at, response.headers_at) == (200, inner.headers, 1.0, 2.0)
    response.first_token()
    response.release()
    response.abort()
    assert inner.heard == ["first_token", "release", "abort"] and asyncio.run(response.read(9)) == b"{}"


@pytest.mark.parametrize(("given", "asked"), [({}, True), ({"return_progress": False}, False), ({"return_progress": True}, True)])
def test_a_client_who_says_something_of_it_has_what_he_asked_for(given: dict[str, Any], asked: bool) -> None:
    call, ours = with_progress(call_of({"model": "m", "messages": [], **given}))
    assert ours is not bool(given) and json.loads(call.body)["return_progress"] is asked
    assert msgspec.json.decode(call.fields["return_progress"]) is asked
