"""What is kept of an answer, and what a store of answers must do."""

import zlib
from collections.abc import Iterator
from typing import Protocol

import msgspec

MAX_ANSWER = 2 << 20  # bytes of an answer that is kept
SMALL = 1024  # bytes: nothing is gained by compressing less
OVERHEAD = 1024  # bytes of memory, about, that an entry takes beside its answer


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One whole answer as its client got it. `cuts`: where each piece of it ends in `body`, and when it came, in ms after the first one.

    `headers`: those that say something of the answer itself. `owner`: the team whose it is. `target`: who made it.
    `made_at`: Unix seconds. `cost_nusd` None: not known.
    """

    owner: str
    request_id: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    cuts: tuple[tuple[int, int], ...]
    made_at: float
    cost_nusd: int | None

    @property
    def size(self) -> int:
        return len(self.body) + 16 * len(self.cuts) + OVERHEAD

    def pieces(self) -> Iterator[tuple[float, bytes]]:
        """Each piece with when it is due, in seconds after the first one."""
        start = 0
        for end, at_ms in self.cuts:
            yield at_ms / 1000, self.body[start:end]
            start = end


class Kept(msgspec.Struct, frozen=True):
    """An entry that was found, and how long it may still be used, in seconds."""

    entry: Entry
    left_s: float


class Lease(Protocol):
    """The right to ask upstream for an answer that nobody has yet, among all processes."""

    async def release(self) -> None:
        """Never raises."""


class Store(Protocol):
    """Answers that several processes share. Nothing raises: what cannot be read is not there, what cannot be written is not kept."""

    async def get(self, key: bytes) -> Kept | None: ...
    async def put(self, key: bytes, entry: Entry, ttl_s: float) -> None: ...
    async def turn(self, key: bytes, wait_s: float) -> "Kept | Lease | None":
        """The answer that another process makes meanwhile, or the lease to make it; None: nobody can say, so it is made without one."""

    async def aclose(self) -> None: ...


_packed = msgspec.msgpack.Decoder(Entry)
_pack = msgspec.msgpack.Encoder().encode


def packed(entry: Entry) -> bytes:
    """The first byte tells whether the rest is compressed."""
    plain = _pack(entry)
    if len(plain) > SMALL:
        small = zlib.compress(plain, 1)
        if len(small) < len(plain):
            return b"z" + small
    return b"p" + plain


def unpacked(data: bytes) -> Entry | None:
    """None for what is not of `packed`, or would be larger than any entry."""
    try:
        if data[:1] == b"z":
            stream = zlib.decompressobj()
            plain = stream.decompress(data[1:], 2 * MAX_ANSWER)
            return None if not stream.eof else _packed.decode(plain)
        return _packed.decode(data[1:]) if data[:1] == b"p" else None
    except (zlib.error, msgspec.DecodeError):
        return None
