"""An answer that comes once and is heard by many: each hears it from its beginning, in its own time."""

import asyncio
from collections.abc import AsyncGenerator
from time import monotonic

from cache.port import MAX_ANSWER
from contract.head import HeaderList, pairs_of

BEHIND = 64 << 10  # bytes that the slowest may be behind, once there is more than is kept


class Tape:
    """Stands where a client would: takes an answer as it comes. What is longer than MAX_ANSWER waits for its slowest listener.

    `left`: nobody listens any more. `whole`: it was ended, and not merely left off. `kept`: nothing of it was dropped.
    """

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.left = False
        self.status = 0
        self.bytes_sent = 0
        self.headers: HeaderList = []
        self.pieces: list[tuple[float, bytes]] = []  # when each came, in monotonic seconds
        self.ended = False
        self.kept = True
        self.closed = False  # nothing more will come
        self._heard: dict[object, int] = {}  # bytes that each listener has taken
        self._dropped = self._dropped_bytes = 0
        self._news = asyncio.Event()

    async def start(self, status: int, headers: HeaderList) -> None:
        self.status, self.headers = status, headers
        self._tell()

    def begin(self, status: int, lines: bytes, length: int | None) -> None:
        self.status, self.headers = status, pairs_of(lines)
        self._tell()

    async def write(self, data: bytes) -> None:
        self._take(data)
        while not self.kept and self._heard and self.bytes_sent - min(self._heard.values()) > BEHIND:
            await self._news.wait()

    async def end(self, data: bytes = b"") -> None:
        if data:
            self._take(data)
        self.ended = True
        self._tell()

    def close(self) -> None:
        """Whoever spoke is gone."""
        self.closed = True
        self._tell()

    def _take(self, data: bytes) -> None:
        self.bytes_sent += len(data)
        self.pieces.append((monotonic(), data))
        self.kept = self.kept and self.bytes_sent <= MAX_ANSWER
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def begun(self) -> bool:
        """Waits for the status line; False: it will never come."""
        while not self.status and not self.closed:
            await self._news.wait()
        return bool(self.status)

    async def heard(self) -> AsyncGenerator[tuple[bytes, bool], None]:
        """Every piece from the beginning, and whether it is the answer's last. Whoever gives up closes the iterator."""
        me, at = object(), 0
        self._heard[me] = 0
        try:
            while True:
                while at < len(self.pieces):
                    piece = self.pieces[at][1]
                    at += 1
                    yield piece, self.ended and at == len(self.pieces)
                    self._heard[me] += len(piece)
                    if not self.kept:
                        self._drop()
                if self.ended or self.closed:
                    return
                await self._news.wait()
        finally:
            self._heard.pop(me, None)
            self._tell()

    def _drop(self) -> None:
        """Lets go of what everybody has heard. Who would join now finds `kept` false."""
        slowest = min(self._heard.values())
        while self._dropped < len(self.pieces):
            came, piece = self.pieces[self._dropped]
            if self._dropped_bytes + len(piece) > slowest:
                break
            self._dropped_bytes += len(piece)
            self.pieces[self._dropped] = came, b""
            self._dropped += 1
        self._tell()
