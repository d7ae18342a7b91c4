"""How much of its limits a team's batches leave to its live requests. Pure."""

from policy.gcra import MINUTE_S
from policy.quota import Left, Standing

LIVE_SHARE = 0.5  # of a minute's requests and tokens


def waits_s(standing: Standing) -> float:
    """Seconds until a row may begin: until the bucket's part that is left to live requests is whole; 0: it may now.

    Where nobody else asks, rows have the whole rate: only the burst is kept.
    """
    return max(_waits_s(standing.requests), _waits_s(standing.tokens))


def _waits_s(left: Left | None) -> float:
    if left is None or left.limit < 1:
        return 0.0
    short = left.limit * LIVE_SHARE - left.remaining
    return max(0.0, short) * MINUTE_S / left.limit
