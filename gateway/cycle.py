"""One request and its answer on a client's connection: what an ASGI app is given, and a shorter way for the inference route.

The head of an answer waits for the first of its body, so that both leave in one write; that of a stream, or of an app's answer, leaves alone when
nothing follows in the same turn of the loop. A client's leaving is told at once, without a task that waits for it.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from contract.head import HeaderList, lines_of

if TYPE_CHECKING:
    from gateway.connection import ClientConnection

Message = MutableMapping[str, Any]
EXTENSION = "turnout.cycle"  # where in an ASGI scope's extensions the inference route finds it
NO_BODY = (204, 304)

CHUNKED = b"transfer-encoding: chunked\r\n"
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
log = logging.getLogger("uvicorn.error")


class Cycle:
    """`disconnected`: the client is gone. `on_leaving`: called when it goes before its answer is whole."""

    __slots__ = (
        "_chunked", "_connection", "_head", "_left_bytes", "_more", "_news", "_parts", "_size", "_started", "_waiter", "_waits_to_continue",
        "bodiless", "disconnected", "keep_alive", "on_leaving", "response_complete", "scope", "task",
    )  # fmt: skip

    def __init__(self, connection: "ClientConnection", scope: dict[str, Any], keep_alive: bool, expects_continue: bool) -> None:
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self._waits_to_continue = expects_continue
        self.disconnected = False
        self.on_leaving: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._more = True
        self._news = False  # something came that `receive` has not told yet
        self._waiter: asyncio.Future[None] | None = None
        self._started = False
        self.response_complete = False
        self._head = b""  # of the answer, while it waits for what follows
        self._chunked = False
        self._left_bytes = 0  # of the declared length
        self.bodiless = scope["method"] == "HEAD"

    # --- the connection's side -------------------------------------------------------------------------------------------
    async def run(self, app: Callable[..., Any]) -> None:
        connection = self._connection
        try:
            await app(self.scope, self.receive, self.send)
        except BaseException as exc:
            log.error("Exception in ASGI application\n", exc_info=exc)
            await self._fail()
        else:
            if not self.response_complete and not self.disconnected:
                log.error("ASGI callable returned without completing response.")
                await self._fail()
        finally:
            if self.task is not None:
                connection.tasks.discard(self.task)
                self.task = None

    async def _fail(self) -> None:
        if self._started:
            self._connection.transport.close()
            return
        self.keep_alive = False
        self.start(500, [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")])
        await self.end(b"Internal Server Error")

    def take(self, part: bytes) -> None:
        """Some of the request's body."""
        self._parts.append(part)
        self._size += len(part)
        self.wake()

    def overfull(self) -> bool:
        """As much of a body waits to be taken as may, and more is to come."""
        return self._more and self._size > HIGH_WATER_LIMIT

    def took_all(self) -> None:
        self._more = False
        self.wake()

    def wake(self) -> None:
        self._news = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def lost(self) -> None:
        """The connection is gone."""
        if not self.response_complete:
            self.disconnected = True
            if self.on_leaving is not None:
                self.on_leaving()
        self.wake()

    # --- the inference route's side --------------------------------------------------------------------------------------
    def whole_body(self) -> bytes | None:
        """The request's body where all of it is here; None: more must be waited for."""
        if self._more or self.disconnected:
            return None
        parts, self._parts, self._size, self._news = self._parts, [], 0, False
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def watch(self, on_leaving: Callable[[], None]) -> None:
        self._connection.flow.resume_reading()  # else the end of the connection is not read
        self.on_leaving = on_leaving
        if self.disconnected:
            on_leaving()

    def start(self, status: int, headers: HeaderList) -> None:
        """The answer's head; names in lower case. Raises RuntimeError for one that would break out of its line."""
        if self.disconnected:
            return
        self._started = True
        length: int | None = None
        chunked, closing = True, False
        for name, value in headers:
            if name in _FRAMING:
                if name == b"content-length":
                    length, chunked = int(value), False
                elif name == b"connection":
                    closing = closing or b"close" in [token.strip() for token in value.lower().split(b",")]
        if closing:
            self.keep_alive = False
        lines = lines_of(headers)
        if not self.keep_alive and not closing:
            lines += b"connection: close\r\n"
        if chunked and (self.bodiless or status in NO_BODY):
            chunked = False
        elif chunked and (b"transfer-encoding", b"chunked") not in headers:
            lines += CHUNKED
        self._head_is(status, lines, length)
        self._chunked = chunked
        if chunked:
            self._connection.loop.call_soon(self._flush)

    def begin(self, status: int, lines: bytes, length: int | None) -> None:
        """The same where the headers are lines already, none of them of the framing but `content-length`; None: the body comes in chunks."""
        if self.disconnected:
            return
        self._started = True
        if not self.keep_alive:
            lines += b"connection: close\r\n"
        if length is None and not self.bodiless:
            lines += CHUNKED
            self._chunked = True
            self._connection.loop.call_soon(self._flush)
        self._head_is(status, lines, length)

    def _head_is(self, status: int, lines: bytes, length: int | None) -> None:
        self._waits_to_continue = False
        self._left_bytes = length if length and not self.bodiless else 0
        self._head = b"".join((STATUS_LINE[status], self._connection.default_lines(), lines, b"\r\n"))

    async def write(self, data: bytes) -> None:
        if self._connection.flow.write_paused and not self.disconnected:
            await self._connection.flow.drain()
        if self.disconnected or (not data and not self._head) or self.bodiless:
            return
        head, self._head = self._head, b""
        if self._chunked:
            self._connection.transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head)
            return
        self._count(len(data))
        self._connection.transport.write(head + data)

    async def end(self, data: bytes = b"") -> None:
        connection = self._connection
        if connection.flow.write_paused and not self.disconnected:
            await connection.flow.drain()
        if self.disconnected:
            return
        head, self._head = self._head, b""
        if self.bodiless:
            data = b""
        if self._chunked and not self.bodiless:
            connection.transport.write(b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(data), data) if data else head + b"0\r\n\r\n")
        else:
            self._count(len(data))
            if self._left_bytes:
                raise RuntimeError("Response content shorter than Content-Length")
            if head or data:
                connection.transport.write(head + data)
        self.response_complete = True
        self.on_leaving = None
        self.wake()
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()

    def _count(self, size: int) -> None:
        self._left_bytes -= size
        if self._left_bytes < 0:
            raise RuntimeError("Response content longer than Content-Length")

    def _flush(self) -> None:
        if self._head and not self.disconnected:
            head, self._head = self._head, b""
            self._connection.transport.write(head)

    # --- ASGI ------------------------------------------------------------------------------------------------------------
    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self.response_complete or (kind == "http.response.start") == self._started:
            if self.disconnected:
                return
            raise RuntimeError(f"Unexpected ASGI message {kind!r}.")
        if kind == "http.response.start":
            self.start(message["status"], [(name.lower(), value) for name, value in message.get("headers", ())])
            self._connection.loop.call_soon(self._flush)
        elif message.get("more_body", False):
            await self.write(message.get("body", b""))
        else:
            await self.end(message.get("body", b""))

    async def receive(self) -> Message:
        connection = self._connection
        if self._waits_to_continue and not connection.transport.is_closing():
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waits_to_continue = False
        if not self.disconnected and not self.response_complete:
            connection.flow.resume_reading()
            if not self._news:
                self._waiter = connection.loop.create_future()
                await self._waiter
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        parts, self._parts, self._size = self._parts, [], 0
        return {"type": "http.request", "body": b"".join(parts), "more_body": self._more}
