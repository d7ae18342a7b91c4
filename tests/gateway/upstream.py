"""A provider on loopback that plays what a test wrote for each model name, and keeps a journal of what reached it.

Raw sockets, so that it can also misbehave: cut, stall, reset, talk nonsense.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """One request as it arrived, and what became of it. `gone`: set when the gateway closed the connection."""

    head: dict[str, str]
    raw: bytes
    body: Any
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0


class Exchange:
    """One request on one connection, for a play to answer."""

    def __init__(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen = seen
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        if self.writer.is_closing():  # uvloop's transport takes a write for a fault of ours
            raise ConnectionResetError
        self.seen.sent += len(data)
        self.writer.write(data)
        await self.writer.drain()

    async def respond(self, status: int, body: bytes, content_type: str = "application/json", **headers: str) -> None:
        extra = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        await self.send(head.encode() + body)

    async def start_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def event(self, data: object) -> None:
        text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
        await self.raw_chunk(f"data: {text}\n\n".encode())

    async def raw_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def wait_until_gone(self, limit_s: float = 30.0) -> None:
        """Reads until the gateway closes its side."""
        try:
            async with asyncio.timeout(limit_s):
                while await self.reader.read(65536):
                    pass
        except (TimeoutError, ConnectionError):
            return
        finally:
            self.seen.gone.set()

    def reset(self) -> None:
        self.writer.transport.abort()


Play = Callable[[Exchange], Awaitable[None]]


def chunk(delta: dict[str, Any] | None, *, finish: str | None = None, index: int = 0, **extra: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": finish}]
    return {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "up-model", "choices": choices, **extra}


USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "prompt_tokens_details": {"cached_tokens": 8}}


def completion(text: str = "Hello there", **extra: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {
        "id": "chatcmpl-up",
        "object": "chat.completion",
        "created": 1,
        "model": "up-model",
        "choices": choices,
        "usage": USAGE,
        **extra,
    }


async def good(x: Exchange) -> None:
    """What a provider does on a good day: streamed or unary as asked, usage in the stream when asked."""
    if not x.seen.body.get("stream"):
        await x.respond(200, json.dumps(completion()).encode())
        return
    asked = (x.seen.body.get("stream_options") or {}).get("include_usage")
    await x.start_stream()
    await x.event(chunk({"role": "assistant", "content": ""}))
    for word in ("Hello", " there"):
        await x.event(chunk({"content": word}))
    await x.event(chunk({}, finish="stop"))
    if asked:
        await x.event(chunk(None, usage=USAGE))
    await x.event("[DONE]")
    await x.end_stream()


def status(code: int, body: bytes = b'{"error":{"message":"CANARY-upstream-text","type":"t","code":null}}', **headers: str) -> Play:
    async def play(x: Exchange) -> None:
        await x.respond(code, body, **headers)

    return play


async def silent(x: Exchange) -> None:
    await x.wait_until_gone()


class Upstream:
    """The server. `plays[model]` answers requests for that model; a list is played one a request, the last for ever."""

    def __init__(self) -> None:
        self.plays: dict[str, Play | list[Play]] = {}
        self.default: Play = good
        self.journal: list[Seen] = []
        self.connections = 0  # that were ever opened to it
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self, port: int = 0) -> "Upstream":
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _play(self, model: str) -> Play:
        play = self.plays.get(model, self.default)
        if not isinstance(play, list):
            return play
        return play.pop(0) if len(play) > 1 else play[0]

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                is_json = headers.get("content-type", "application/json").partition(";")[0] == "application/json"
                seen = Seen(
                    {":method": head[0].split(" ")[0], ":path": head[0].split(" ")[1], **headers}, raw, json.loads(raw) if raw and is_json else None
                )
                self.journal.append(seen)
                await self._play((seen.body or {}).get("model", ""))(Exchange(seen, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if self.journal:
                self.journal[-1].gone.set()
            writer.transport.abort()
