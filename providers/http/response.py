"""One HTTP/1.1 response, as its owner reads it and its connection (providers/http/connection.py) fills it; and the clocks that it is under."""

import asyncio
from math import inf
from typing import TYPE_CHECKING

from contract.errors import AnswerTooLarge, AttemptError, Clock
from providers.http.port import Clocks, Headers

if TYPE_CHECKING:
    from providers.http.connection import Connection

BUFFER_LIMIT = 64 << 10  # unread body bytes at which reading pauses


class Response:
    """Implements `providers.http.port.HttpResponse`."""

    __slots__ = (
        "_connection", "_done", "_error", "_parts", "_progress_at", "_size", "_taken_at", "_token_seen", "_waiter", "clocks", "connected_at",
        "draining", "first_token_at", "headers", "headers_at", "last_read", "length", "paused", "received", "sent_at", "started", "status",
        "taken", "total_at", "until_eof",
    )  # fmt: skip

    def __init__(self, connection: "Connection", clocks: Clocks, total_at: float, now: float) -> None:
        self._connection: Connection | None = connection
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._done = self._token_seen = False
        self._error: AttemptError | None = None
        self.clocks = clocks
        self.status = 0
        self.headers: Headers = []
        self.connected_at = self.sent_at = now
        self.headers_at = 0.0
        self.last_read = self._taken_at = self._progress_at = now
        self.first_token_at = now + clocks.first_token_s
        self.total_at = total_at
        self.length: int | None = None  # the declared one
        self.received = False  # any byte of a response at all
        self.started = False  # any byte of its body
        self.until_eof = False
        self.paused = self.draining = False
        self.taken: list[bytes] = []

    # --- the owner's side --------------------------------------------------------------------------------------------
    async def head(self) -> None:
        """Waits for the response's head. Cancelled: the connection is closed."""
        try:
            while not self.headers_at:
                if self._error is not None:
                    raise self._error
                waiter = self._waiter = asyncio.get_running_loop().create_future()
                await waiter
        except asyncio.CancelledError:
            self.abort()
            raise

    async def chunk(self) -> bytes:
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._done:
                return b""
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []
        self._size = 0
        if self.paused and self._connection is not None:
            self._connection.resume()
            self._taken_at = self.last_read
        self._progress_at, self._taken_at = self._taken_at, self.last_read
        return data

    async def read(self, limit: int) -> bytes:
        if self.length is not None and self.length > limit:
            raise self._too_large(limit)
        if self._done and self._error is None and len(self._parts) == 1:  # it came with its head, as most do
            [data], self._parts, self._size = self._parts, [], 0
            if len(data) > limit:
                raise self._too_large(limit)
            return data
        parts = self.taken
        size = 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                raise self._too_large(limit)
            if self._done and not parts and not self._parts and self._error is None:
                return part
            parts.append(part)
        self.taken = []
        return b"".join(parts)

    def _too_large(self, limit: int) -> AnswerTooLarge:
        self.abort()
        return AnswerTooLarge.of("the upstream's answer", limit)

    def first_token(self) -> None:
        self._token_seen = True

    def no_progress(self) -> None:
        if self._parts:  # what came meanwhile may be some
            return
        self.last_read = self._taken_at = self._progress_at
        if self._connection is not None:
            self._connection.heed(self.last_read + self.clocks.idle_s)

    def release(self) -> None:
        self._parts = []
        if self._connection is not None:
            self._connection.drain()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    # --- the connection's side ---------------------------------------------------------------------------------------
    def take(self, parts: list[bytes]) -> None:
        self.started = self.started or bool(parts)
        if not self.draining:
            self._parts += parts
            self._size += len(parts[0]) if len(parts) == 1 else sum(map(len, parts))

    def full(self) -> bool:
        return self._size > BUFFER_LIMIT

    def finish(self, error: AttemptError | None = None) -> None:
        """The end, clean or not: the connection lets go of the response here."""
        self._done = True
        self._error = self._error or error
        self._connection = None
        self.wake()

    def wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def deadline(self) -> tuple[float, Clock, float]:
        """The clock that runs out next: when, which, and how long it was given."""
        clocks = self.clocks
        headers_at = idle_at = first_token_at = inf
        if not self.headers_at:
            headers_at = inf if clocks.headers_s is None else self.sent_at + clocks.headers_s
        elif not self.paused:
            idle_at = self.last_read + clocks.idle_s
        if not self._token_seen:
            first_token_at = self.first_token_at
        deadlines: list[tuple[float, Clock, float]] = [
            (headers_at, "headers", clocks.headers_s or inf),
            (idle_at, "idle", clocks.idle_s),
            (first_token_at, "first_token", clocks.first_token_s),
            (self.total_at, "total", clocks.total_s),
        ]
        return min(deadlines)
