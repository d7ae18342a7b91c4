"""Which of llama.cpp's slots a request is given. It reads the prompt of its first slot to the end before that of the next, whichever came first."""

from collections.abc import Iterator
from zlib import crc32

from contract.usage import BYTES_PER_TOKEN

BLOCK_BYTES = 128
MOST_BLOCKS = 64  # of a prompt, that are compared


class Seats:
    """Slots by their number: the lower, the sooner it is read. Pure.

    Who is promised a first token is seated below who is not: batch work takes the highest that is free, and a prompt too slow for a promise the last
    alone, so that nobody is ever read after it. Others leave the last one free while they can. Among what is left to choose from it is the slot that
    read the same beginning before, and else the one unused the longest.
    """

    def __init__(self, count: int) -> None:
        self._last = count - 1
        self._free = dict.fromkeys(range(count))  # the one unused the longest first
        self._read: list[tuple[int, ...]] = [()] * count

    @property
    def last(self) -> int | None:
        """None: it is taken."""
        return self._last if self._last in self._free else None

    def choice(self, begins: tuple[int, ...], promised: bool) -> int | None:
        """None: none is free."""
        if not promised or not self._free:
            return max(self._free, default=None)
        open_to = [seat for seat in self._free if seat != self._last] or [self._last]
        alike = [(_shared(begins, self._read[seat]), seat) for seat in open_to]
        most, seat = max(alike, key=lambda each: each[0])
        return seat if 2 * most >= len(begins) and most else open_to[0]

    def unread(self, begins: tuple[int, ...], tokens: int, seat: int | None) -> int:
        """Of so many tokens, those that the slot did not read before; no `seat`: or any other slot."""
        seats = self._read if seat is None else [self._read[seat]]
        return max(1, tokens - max(_shared(begins, read) for read in seats) * BLOCK_BYTES // BYTES_PER_TOKEN)

    def take(self, seat: int, begins: tuple[int, ...]) -> None:
        del self._free[seat]
        self._read[seat] = begins

    def give_back(self, seat: int, read: bool) -> None:
        """`read`: the prompt was read to its end."""
        self._free[seat] = None
        if not read:
            self._read[seat] = ()

    def forget(self) -> None:
        """What was read is lost."""
        self._read = [()] * len(self._read)


def beginnings(*parts: bytes) -> tuple[int, ...]:
    """A number for the first block of a prompt, for the first two, and so on."""
    return tuple(_beginnings(b"".join(parts)))


def _beginnings(prompt: bytes) -> Iterator[int]:
    so_far = 0
    for at in range(0, min(len(prompt), BLOCK_BYTES * MOST_BLOCKS) - BLOCK_BYTES + 1, BLOCK_BYTES):
        so_far = crc32(prompt[at : at + BLOCK_BYTES], so_far)
        yield so_far


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Blocks."""
    shared = 0
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            break
        shared += 1
    return shared
