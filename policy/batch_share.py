"""How much of its limits a team's batches leave to its live requests. Pure."""

from math import ceil
from typing import NamedTuple

from policy.gcra import MINUTE_S
from policy.quota import Left, Standing

LIVE_SHARE = 0.5  # of a minute's requests and tokens, and of the requests at once
BUSY_S = 0.25  # until it is looked again, where one that runs must end, or one that was let through be counted


class Asked(NamedTuple):
    """Requests, and their tokens at most."""

    requests: int = 0
    tokens: int = 0


def waits_s(standing: Standing, tokens: int, unseen: Asked) -> float:
    """Seconds until a row of so many tokens at most may begin; 0: it may now. `unseen`: what was let through and is not counted there yet.

    The part of a bucket that is left to live requests stays whole, but for a row that would never fit so: that one waits for the whole bucket.
    Where nobody else asks, rows have the whole rate.
    """
    busy, most = standing.running + unseen.requests, standing.scope.limits.concurrency
    return max(
        _waits_s(standing.requests, 1, unseen.requests),
        _waits_s(standing.tokens, tokens, unseen.tokens),
        BUSY_S if most is not None and busy >= max(1, most - ceil(most * LIVE_SHARE)) else 0.0,
    )


def _waits_s(left: Left | None, wanted: int, unseen: int) -> float:
    if left is None or left.limit < 1:
        return 0.0
    needed = min(left.limit, ceil(left.limit * LIVE_SHARE) + wanted)
    short = needed - left.remaining
    if short > 0:
        return short * MINUTE_S / left.limit
    return BUSY_S if short + unseen > 0 else 0.0
