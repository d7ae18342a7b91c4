"""Sends a file as a request's body, a piece at a time, with what stands before and after it in the body."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from providers.http.httpx_client import HttpxClient
from providers.http.port import Clocks, Endpoint, HttpResponse

PIECE = 1 << 20


class FileBody(msgspec.Struct, frozen=True, kw_only=True):
    """`size`: of the file, in bytes."""

    file: Path
    size: int
    before: bytes = b""
    after: bytes = b""

    @property
    def length(self) -> int:
        return len(self.before) + self.size + len(self.after)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Raises OSError."""
        if self.before:
            yield self.before
        with self.file.open("rb") as file:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        if self.after:
            yield self.after


async def send_file(client: HttpxClient, endpoint: Endpoint, body: FileBody, clocks: Clocks) -> HttpResponse:
    """As `HttpClient.send`; the clocks but for `connect` and `total` do not run while the body goes out, so give `total_s` for all of it."""
    headers = ((b"content-length", str(body.length).encode()), *endpoint.headers)
    unhurried = Clocks(clocks.connect_s, None, clocks.total_s, clocks.idle_s, clocks.total_s)
    async with aclosing(body.pieces()) as pieces:
        return await client.send(msgspec.structs.replace(endpoint, headers=headers), pieces, unhurried)
