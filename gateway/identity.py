"""Request ids: time-ordered, unguessable enough, cheap."""

import time
from random import SystemRandom

_random = SystemRandom().getrandbits
_pool: list[int] = []


def new_request_id() -> str:
    """`req_` and 32 hex digits: 48 bits of Unix milliseconds, 80 random bits (the layout of a ULID)."""
    if not _pool:
        block = _random(80 * 64)
        _pool.extend((block >> shift) & ((1 << 80) - 1) for shift in range(0, 80 * 64, 80))
    return f"req_{time.time_ns() // 1_000_000:012x}{_pool.pop():020x}"
