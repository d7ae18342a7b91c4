"""The client's side of one request: its body read within limits, its leaving noticed, the answer sent. Plain ASGI, or our own server's cycle.

A client that leaves cancels the task that serves it, wherever that task waits: in a queue, on a connection, for a token. Our own server tells it
at once; under another one a task waits for it, once a request has lasted a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from contract.errors import ClientClosed, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from contract.head import HeaderList, pairs_of
from gateway.cycle import Cycle

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WATCH_AFTER_S = 0.02
DISCARD_BYTES = 1 << 20  # of a request that is refused unread
DISCARD_S = 1.0
JSON_TYPE = b"application/json"
_OF_THE_BODY = frozenset({b"content-length", b"content-type", b"content-encoding"})


class Receiver(Protocol):
    """Whoever an answer is made for: a client, or what stands in its place."""

    left: bool
    started_at: float
    status: int
    bytes_sent: int

    async def start(self, status: int, headers: HeaderList) -> None: ...
    def begin(self, status: int, lines: bytes, length: int | None) -> Awaitable[None] | None:
        """The same where the headers are lines already (contract/head.py). `length`: the body's, as it stands there; None: it does not.

        Gives None where nothing is to be awaited.
        """

    def write(self, data: bytes) -> Awaitable[None]: ...
    def end(self, data: bytes = b"") -> Awaitable[None]: ...


class Client:
    """One request's client. `left` is set when it went away before its answer was whole."""

    __slots__ = (
        "_cycle",
        "_receive",
        "_send",
        "_task",
        "_timer",
        "_too_slow",
        "_watch",
        "_wrong",
        "bytes_sent",
        "left",
        "read",
        "started_at",
        "status",
    )

    def __init__(self, receive: Receive, send: Send, cycle: Cycle | None = None) -> None:
        self._cycle = cycle
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._too_slow = False
        self._wrong: UnsupportedMediaType | None = None
        self.left = False
        self.read = False  # the request's body was taken in whole
        self.started_at = monotonic()
        self.status = 0
        self.bytes_sent = 0

    def whole_body(self, headers: HeaderList, limit: int, media: bytes = JSON_TYPE) -> bytes | None:
        """The request's body where all of it is here; None: `rest_of_body` must be awaited, which gives it then.

        Both raise RequestTooLarge (unread, by its declared length) and UnsupportedMediaType. A body of another media type is taken in first: an
        answer that comes while one is on its way may be lost with the connection.
        """
        wrong = None
        for name, value in headers:
            if name not in _OF_THE_BODY:
                continue
            if name == b"content-length":
                if int(value) > limit:
                    raise too_large(limit)
            elif name == b"content-type" and value != media and value.split(b";", 1)[0].strip().lower() != media:
                what = "JSON" if media == JSON_TYPE else "a multipart form"
                wrong = UnsupportedMediaType(f"the body must be {what}; send `content-type: {media.decode()}`")
            elif name == b"content-encoding" and value.strip().lower() != b"identity":
                raise UnsupportedMediaType("compressed request bodies are not accepted; send the JSON as it is")
        self._task = asyncio.current_task() if self._cycle is None or self._cycle.task is None else self._cycle.task
        if self._cycle is None or (whole := self._cycle.whole_body()) is None:
            self._wrong = wrong
            return None
        self.read = True
        if len(whole) > limit:
            raise too_large(limit)
        if wrong is not None:
            raise wrong
        return whole

    async def rest_of_body(self, limit: int, idle_s: float) -> bytes:
        """Also raises RequestTimeout, ClientClosed."""
        task = self._task
        try:
            body = await self._parts(limit, idle_s)
        except asyncio.CancelledError:
            if not self._too_slow or task is None:
                raise
            task.uncancel()
            raise RequestTimeout(f"no byte of the request's body came for {idle_s:g} s") from None
        finally:
            self.unguard()
        if self._wrong is not None:
            raise self._wrong
        return body

    async def _parts(self, limit: int, idle_s: float) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            timer = self._timer = asyncio.get_running_loop().call_later(idle_s, self._give_up)
            message = await self._receive()
            timer.cancel()
            if message["type"] == "http.disconnect":
                self.left = True
                raise ClientClosed("the client left before its request was whole")
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise too_large(limit)
            if not message.get("more_body"):
                self.read = True
                return b"".join((*parts, part)) if parts else part
            parts.append(part)

    async def discard(self) -> None:
        """Takes in what is still on its way of a request that is refused, within bounds: an answer before it may be lost with the connection."""
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_S):
                while not self.read and size < DISCARD_BYTES:
                    message = await self._receive()
                    self.left = message["type"] == "http.disconnect"
                    if self.left:
                        return
                    size += len(message.get("body", b""))
                    self.read = not message.get("more_body")

    def _give_up(self) -> None:
        self._too_slow = True
        if self._task is not None:
            self._task.cancel()

    def guard(self) -> None:
        """From here on, the current task is cancelled when the client leaves. Ended by `unguard`."""
        if self._task is None:
            self._task = asyncio.current_task()
        if self._cycle is not None:
            self._cycle.watch(self._leaves)
            return
        self._timer = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start_watch)

    def unguard(self) -> None:
        if self._cycle is not None:
            self._cycle.on_leaving = None
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        self._task = None

    def _start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait_for_leaving())

    async def _wait_for_leaving(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leaves()

    def _leaves(self) -> None:
        if self._task is not None:
            self.left = True
            self._task.cancel()

    async def start(self, status: int, headers: HeaderList) -> None:
        self.status = status
        if self._cycle is not None:
            self._cycle.start(status, headers)
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    def begin(self, status: int, lines: bytes, length: int | None) -> Awaitable[None] | None:
        if self._cycle is None:
            return self.start(status, pairs_of(lines))
        self.status = status
        self._cycle.begin(status, lines, length)
        return None

    def write(self, data: bytes) -> Awaitable[None]:
        self.bytes_sent += len(data)
        return self._send({"type": "http.response.body", "body": data, "more_body": True}) if self._cycle is None else self._cycle.write(data)

    def end(self, data: bytes = b"") -> Awaitable[None]:
        self.bytes_sent += len(data)
        return self._send({"type": "http.response.body", "body": data, "more_body": False}) if self._cycle is None else self._cycle.end(data)


def too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"the request's body is larger than the {limit} bytes that this gateway takes")
