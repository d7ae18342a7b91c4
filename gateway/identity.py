"""Request ids: time-ordered, unguessable enough, cheap."""

import time
from os import urandom

AHEAD = 256  # ids whose random digits are drawn at once
_pool: list[str] = []


def new_request_id() -> str:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, 80 random bits (the layout of a ULID)."""
    if not _pool:
        digits = urandom(10 * AHEAD).hex()
        _pool.extend([digits[start : start + 20] for start in range(0, 20 * AHEAD, 20)])
    return f"req_{time.time_ns() // 1_000_000:012x}{_pool.pop()}"
