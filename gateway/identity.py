"""Request ids: time-ordered, unguessable enough, cheap."""

import time
from os import urandom

AHEAD = 256  # ids whose random digits are drawn at once
_pool: list[str] = []


class _Told:
    """A millisecond, and what the ids of it begin with: many requests come in one."""

    ms = 0
    prefix = ""


def new_request_id() -> str:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, 80 random bits (the layout of a ULID)."""
    if not _pool:
        digits = urandom(10 * AHEAD).hex()
        _pool.extend([digits[start : start + 20] for start in range(0, 20 * AHEAD, 20)])
    if (ms := time.time_ns() // 1_000_000) != _Told.ms:
        _Told.prefix, _Told.ms = f"req_{ms:012x}", ms
    return _Told.prefix + _pool.pop()
