"""What an upstream does wrong, one play for each fault, in any dialect, streamed and unary, on raw sockets.

A fault that is a stream's by nature has its nearest kin where the request is unary: half a body for half a stream.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from tests.faults.dialects import PROMPT_TOKENS, TOKENS, Json, Problem, Speech, event
from tests.gateway.upstream import Exchange, Seen

BEAT_S = 0.05  # between two comments, or two drops
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream"

SERVER = Problem(500, "api_error")
OVERLOADED = Problem(503, "overloaded_error")
LIMITED = Problem(429, "rate_limit_error", "rate_limit_exceeded")
QUOTA = Problem(429, "rate_limit_error", "insufficient_quota", "enforced_spend_limit_reached")
REJECTED = Problem(400, "invalid_request_error")
KEY = Problem(401, "authentication_error", "invalid_api_key")
FORBIDDEN = Problem(403, "permission_error")
NO_MODEL = Problem(404, "not_found_error", "model_not_found")
CONTEXT = Problem(400, "invalid_request_error", "context_length_exceeded", words="prompt is too long: 209353 tokens > 200000 maximum")
FILTERED = Problem(400, "invalid_request_error", "content_policy_violation", words="Output blocked by content filtering policy")


class Turn:
    """One request on its way to be answered: the exchange, in which dialect, and as whom."""

    def __init__(self, x: Exchange, speech: Speech, owner: str) -> None:
        self.x = x
        self.speech = speech
        self.owner = owner
        self.usage: Json | None = speech.usage(PROMPT_TOKENS, TOKENS)

    @property
    def streamed(self) -> bool:
        return bool(self.x.seen.body.get("stream"))

    async def begin(self, count: int) -> None:
        """The head, what precedes the first token, and `count` tokens."""
        await self.x.start_stream()
        await self.events(self.speech.head(self.usage))
        await self.events(self.speech.piece(self.owner, index) for index in range(count))

    async def events(self, events: Any) -> None:
        for each in events:
            await self.x.raw_chunk(each)

    def ending(self, finish: str | None = None) -> list[bytes]:
        return [*self.speech.tail(self.owner, finish, self.usage), *self.speech.last(self.owner, finish, self.usage)]

    def whole(self, finish: str | None = None) -> bytes:
        return self.speech.unary(self.owner, finish, self.usage)

    async def half_a_body(self) -> None:
        body = self.whole()
        await self.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {JSON_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])

    async def complain(self, problem: Problem, **headers: str) -> None:
        await self.x.respond(problem.status, self.speech.error(problem), **headers)


Fault = Callable[[Turn], Awaitable[None]]


class Script:
    """A play for one model of one upstream: its faults in turn, the last for ever. `calls`: when each request came, and it."""

    def __init__(self, speech: Speech, owner: str, faults: tuple[Fault, ...]) -> None:
        self._speech = speech
        self._owner = owner
        self._faults = faults
        self.calls: list[tuple[float, Seen]] = []

    async def __call__(self, x: Exchange) -> None:
        fault = self._faults[min(len(self.calls), len(self._faults) - 1)]
        self.calls.append((monotonic(), x.seen))
        await fault(Turn(x, self._speech, self._owner))


# --- whole answers ---------------------------------------------------------------------------------------------------
async def good(turn: Turn) -> None:
    await answer(turn)


async def answer(turn: Turn, finish: str | None = None) -> None:
    if not turn.streamed:
        await turn.x.respond(200, turn.whole(finish))
        return
    await turn.begin(TOKENS)
    await turn.events(turn.ending(finish))
    await turn.x.end_stream()


async def filtered_at_the_end(turn: Turn) -> None:
    await answer(turn, turn.speech.filtered)


def with_usage(usage: Callable[[Speech], Json | None]) -> Fault:
    async def fault(turn: Turn) -> None:
        turn.usage = usage(turn.speech)
        await answer(turn)

    return fault


async def odd_but_legal(turn: Turn) -> None:
    """CRLF and CR, a BOM, comments, `retry:`, blank lines, data on two lines; every byte a chunk of its own, characters cut in two."""
    if not turn.streamed:
        await turn.x.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await turn.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {JSON_TYPE}; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        await bytewise(turn, turn.whole())
        return
    events = [*turn.speech.head(turn.usage), *(turn.speech.piece(turn.owner, index) for index in range(TOKENS)), *turn.ending()]
    crlf = [each.replace(b"\n", b"\r\n") for each in events[:2]]
    cr = [each.replace(b"\n", b"\r") for each in events[2:4]]
    two_lines = [each.replace(b',"', b',\ndata: "', 1) for each in events[4:6]]
    stream = b"\xef\xbb\xbf: hello\n\nretry: 3000\n\n" + b"".join([*crlf, *cr, b"\n\n: \n\n", *two_lines, *events[6:]])
    await turn.x.start_stream()
    await bytewise(turn, stream)


async def bytewise(turn: Turn, data: bytes) -> None:
    await turn.x.send(b"".join(b"1\r\n%c\r\n" % byte for byte in data) + b"0\r\n\r\n")


async def without_farewell(turn: Turn) -> None:
    """Every token and why it ended, a clean end, and no `[DONE]`."""
    await all_but_the_last(turn)
    if turn.streamed:
        await turn.x.end_stream()


async def without_farewell_or_end(turn: Turn) -> None:
    await all_but_the_last(turn)
    if turn.streamed:
        await turn.x.wait_until_gone()


async def breaks_off_after_the_end(turn: Turn) -> None:
    await all_but_the_last(turn)
    if turn.streamed:
        await asyncio.sleep(BEAT_S)
        reset(turn)


async def all_but_the_last(turn: Turn) -> None:
    if not turn.streamed:
        await turn.x.respond(200, turn.whole())
        return
    await turn.begin(TOKENS)
    await turn.events(turn.speech.tail(turn.owner, None, turn.usage))
    if turn.speech.NAME == "responses":  # why it ended stands in its last event, and `[DONE]` it has none
        await turn.events(turn.speech.last(turn.owner, None, turn.usage))


# --- statuses --------------------------------------------------------------------------------------------------------
def fails(problem: Problem, status: int | None = None, **headers: str) -> Fault:
    async def fault(turn: Turn) -> None:
        await turn.x.respond(status or problem.status, turn.speech.error(problem), **headers)

    return fault


def no_words(status: int, **headers: str) -> Fault:
    """A status from something on the way, which speaks no dialect."""

    async def fault(turn: Turn) -> None:
        await turn.x.respond(status, b"<html>CANARY-upstream-text</html>", "text/html", **headers)

    return fault


async def rejects_prefill(turn: Turn) -> None:
    """Answers, but not a request whose last message is the assistant's."""
    if turn.speech.asks_prefill(turn.x.seen.body):
        await turn.complain(REJECTED)
    else:
        await answer(turn)


# --- no answer -------------------------------------------------------------------------------------------------------
async def silent(turn: Turn) -> None:
    await turn.x.wait_until_gone(60)


async def resets(turn: Turn) -> None:
    reset(turn)


async def closes(turn: Turn) -> None:
    turn.x.writer.close()


def reset(turn: Turn) -> None:
    sock = turn.x.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    turn.x.writer.transport.abort()


def first_token_after(seconds: float) -> Fault:
    """The head at once, and then a long thought."""

    async def fault(turn: Turn) -> None:
        if turn.streamed:
            await turn.begin(0)
        else:
            await turn.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {JSON_TYPE}\r\ncontent-length: {len(turn.whole())}\r\n\r\n".encode())
        await turn.x.wait_until_gone(seconds)
        if turn.streamed:
            await turn.events(turn.speech.piece(turn.owner, index) for index in range(TOKENS))
            await turn.events(turn.ending())
            await turn.x.end_stream()
        else:
            await turn.x.send(turn.whole())

    return fault


# --- answers that end early -------------------------------------------------------------------------------------------
def at(count: int, then: Fault) -> Fault:
    """`count` tokens and a fault; half a body and the fault, where the request is unary."""

    async def fault(turn: Turn) -> None:
        if turn.streamed:
            await turn.begin(count)
        else:
            await turn.half_a_body()
        await asyncio.sleep(BEAT_S)  # what was written is on its way before a reset overtakes it
        await then(turn)

    return fault


async def ends_cleanly(turn: Turn) -> None:
    """The chunked body's proper end; a unary body with a declared length can only be cut."""
    if turn.streamed:
        await turn.x.end_stream()
    else:
        turn.x.writer.close()


# --- answers that are none --------------------------------------------------------------------------------------------
def breaks(count: int) -> Fault:
    """An event that is no JSON amid the others, which go on as if nothing were."""

    async def fault(turn: Turn) -> None:
        if not turn.streamed:
            await turn.x.respond(200, turn.whole()[:-20])
            return
        await turn.begin(count)
        await asyncio.sleep(BEAT_S)
        await turn.events([turn.speech.broken(), turn.speech.piece(turn.owner, count), *turn.ending()])
        await turn.x.end_stream()

    return fault


def in_band(count: int, problem: Problem) -> Fault:
    """An error object under a 200."""

    async def fault(turn: Turn) -> None:
        if not turn.streamed:
            await turn.x.respond(200, turn.speech.error(problem))
            return
        await turn.begin(count)
        await asyncio.sleep(BEAT_S)
        await turn.events([turn.speech.error_event(problem)])
        await turn.x.end_stream()

    return fault


def responds(body: bytes, content_type: str | None = None, status: int = 200, **headers: str) -> Fault:
    """A fixed body; with the content type that was asked for unless one is given."""

    async def fault(turn: Turn) -> None:
        await turn.x.respond(status, body, content_type or (STREAM_TYPE if turn.streamed else JSON_TYPE), **headers)

    return fault


def sends(data: bytes) -> Fault:
    """These bytes, whatever was asked, and then nothing."""

    async def fault(turn: Turn) -> None:
        await turn.x.send(data)
        await turn.x.wait_until_gone()

    return fault


async def error_object_for_a_stream(turn: Turn) -> None:
    """The error as one JSON body, also where a stream was asked for."""
    await turn.x.respond(200, turn.speech.error(SERVER), JSON_TYPE)


def floods(count: int, line: bytes, times: int) -> Fault:
    """After `count` tokens, `line` again and again, without the blank line that would end the event; a body beyond its limit, if unary."""

    async def fault(turn: Turn) -> None:
        if turn.streamed:
            await turn.begin(count)
            await asyncio.sleep(BEAT_S)
        else:
            await turn.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {JSON_TYPE}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        for _ in range(times):
            await turn.x.raw_chunk(line)
        await turn.x.end_stream()

    return fault


async def declares_too_much(turn: Turn) -> None:
    kind = STREAM_TYPE if turn.streamed else JSON_TYPE
    await turn.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {80 << 20}\r\n\r\n".encode())
    if turn.streamed:
        await turn.x.send(b"data: ")
        for _ in range(1200):  # beyond what an event may be
            await turn.x.send(b"x" * (1 << 16))
    await turn.x.wait_until_gone()


# --- answers without end ----------------------------------------------------------------------------------------------
async def only_comments(turn: Turn) -> None:
    """Alive, and nothing said: comments in a stream, blank lines before a unary body."""
    await drips(turn, b": keep-alive\n\n", b"\n")


async def drips(turn: Turn, streamed: bytes, unary: bytes) -> None:
    kind = STREAM_TYPE if turn.streamed else JSON_TYPE
    if not turn.x.seen.sent:
        await turn.x.send(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
    with_end = asyncio.create_task(turn.x.wait_until_gone(60))
    while not with_end.done():
        await turn.x.raw_chunk(streamed if turn.streamed else unary)
        await asyncio.wait([with_end], timeout=BEAT_S)


def signs_of_life(sign: Callable[[Speech], bytes]) -> Fault:
    """This again and again; blanks where the request is unary."""

    async def fault(turn: Turn) -> None:
        await drips(turn, sign(turn.speech), b" ")

    return fault


def comment(speech: Speech) -> bytes:
    return b": ping\n\n"


def ping(speech: Speech) -> bytes:
    return event({"type": "ping"}, "ping")


def empty_delta(speech: Speech) -> bytes:
    return speech.empty()


async def byte_by_byte(turn: Turn) -> None:
    """An event that never comes to its end."""
    if turn.streamed:
        await turn.x.raw_chunk(b"data: ")
    await drips(turn, b"x", b" ")


async def tokens_without_end(turn: Turn) -> None:
    """Token after token, past every limit; blanks where the request is unary."""
    if not turn.streamed:
        await drips(turn, b"", b" ")
        return
    await turn.begin(0)
    gone = asyncio.create_task(turn.x.wait_until_gone(60))
    index = 0
    while not gone.done():
        await turn.events([turn.speech.piece(turn.owner, index)])
        index += 1
        await asyncio.wait([gone], timeout=BEAT_S)
