"""W3C trace context: what a client's request carries goes on upstream under a span of ours, exported or not (w3.org/TR/trace-context)."""

import re
from collections.abc import Callable
from random import SystemRandom

from ledger.row import AttemptRow

SAMPLED = 1
MOST_STATE = 512  # bytes of a `tracestate` that are passed on; a longer one is left out, as the specification allows

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(rb"[\x20-\x7e\t]{1,%d}" % MOST_STATE)
_random = SystemRandom().getrandbits

Headers = tuple[tuple[bytes, bytes], ...]


class Trace:
    """One request's place in a trace. `parent`: the client's span, "" where it sent none. `rows`: what its attempts left behind.

    `spans`: those of its attempts, by their number.
    """

    __slots__ = ("flags", "parent", "rows", "span", "spans", "state", "trace_id")

    def __init__(self, trace_id: str, parent: str, flags: int, state: Headers = ()) -> None:
        self.trace_id = trace_id
        self.parent = parent
        self.flags = flags
        self.state = state
        self.span = new_span()
        self.spans: dict[int, str] = {}
        self.rows: list[AttemptRow] = []

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def headers(self, attempt: int) -> Headers:
        """What an attempt carries upstream: a new span of the same trace."""
        span = self.spans[attempt] = new_span()
        return ((b"traceparent", f"00-{self.trace_id}-{span}-{self.flags:02x}".encode()), *self.state)


def trace_of(headers: list[tuple[bytes, bytes]], sample: Callable[[], bool] | None) -> Trace | None:
    """Of a request's headers. `sample`: whether one without a trace begins one; None: nobody exports any. None: there is no trace.

    A `traceparent` that is not well-formed, or stands twice, is as none.
    """
    parents = 0
    for name, value in headers:
        if name == b"traceparent":
            parents += 1
            parent = value
    if parents == 1 and (match := _PARENT.fullmatch(parent)) is not None and _valid(match):
        state = b",".join(value for name, value in headers if name == b"tracestate")
        told: Headers = ((b"tracestate", state),) if _STATE.fullmatch(state) else ()
        return Trace(match[2].decode(), match[3].decode(), int(match[4], 16) & SAMPLED, told)
    if sample is None or not sample():
        return None
    return Trace(f"{_random(128) or 1:032x}", "", SAMPLED)


def new_span() -> str:
    return f"{_random(64) or 1:016x}"


def _valid(match: re.Match[bytes]) -> bool:
    version, trace_id, span, _, more = match.groups()
    return version != b"ff" and trace_id.strip(b"0") != b"" and span.strip(b"0") != b"" and (version != b"00" or more is None)
