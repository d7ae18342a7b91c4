"""Request ids: time-ordered, unguessable enough, cheap."""

import time
from os import urandom

AHEAD = 256  # ids whose random digits are drawn at once
_pool: list[str] = []


class _Told:
    """A millisecond, and what the ids of it begin with: many requests come in one."""

    __slots__ = ("ms", "prefix")

    def __init__(self) -> None:
        self.ms = 0
        self.prefix = ""


_told = _Told()  # an object, for a class whose attributes change is looked up anew by whoever uses it


def new_request_id() -> str:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, 80 random bits (the layout of a ULID)."""
    if not _pool:
        digits = urandom(10 * AHEAD).hex()
        _pool.extend([digits[start : start + 20] for start in range(0, 20 * AHEAD, 20)])
    if (ms := time.time_ns() // 1_000_000) != _told.ms:
        _told.prefix, _told.ms = f"req_{ms:012x}", ms
    return _told.prefix + _pool.pop()
