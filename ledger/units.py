"""Money and time as they are read and written: dollars, moments, spans such as 24h."""

import re
from datetime import UTC, datetime

from ledger.prices import NUSD_PER_USD

MOST_USD_PER_HOUR = 1_000_000  # of one machine: beyond it what its tokens cost would be no number any more
_SPAN = re.compile(r"([0-9]{1,9})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def usd(cost_nusd: int | None) -> str | None:
    """Nano-dollars as an exact decimal number of dollars; None: not known."""
    if cost_nusd is None:
        return None
    whole, rest = divmod(cost_nusd, NUSD_PER_USD)
    return f"{whole}.{rest:09}"


def seconds(span: str) -> int:
    """How long a span is. Raises ValueError for what is not like 30m, 24h or 7d."""
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(f"{span[:40]!r} is not a time span; write 30m, 24h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def since_us(span: str, now_s: float) -> int:
    """The moment so long before `now_s` (Unix time), in microseconds. Raises ValueError as `seconds` does."""
    return max(0, int((now_s - seconds(span)) * 1e6))


def iso(at_us: int) -> str:
    """A moment of Unix time, in UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat()
