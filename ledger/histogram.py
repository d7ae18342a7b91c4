"""Latencies as counts by log bucket (contract/scale.py): exact, mergeable, and asked for quantiles. What a roll-up keeps as bytes."""

from collections.abc import Iterable, Mapping
from itertools import accumulate

import msgspec

from contract.scale import STEPS, bucket_of

METRICS = ("ttft", "inter_token", "end", "queue", "upstream", "overhead")
US = 1e-6
Counts = dict[int, int]  # bucket -> how many; of seconds
Histograms = dict[str, Counts]

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(dict[str, Counts]).decode


def measured(row: Mapping[str, int | None], streamed: bool, ok: bool) -> Iterable[tuple[str, int]]:
    """What one attempt's times are worth: metric -> microseconds. Whole answers only, but for the first token, the queue and our own overhead."""
    first, end, queue = row["first_token_us"], row["end_us"], row["queue_us"]
    if streamed and first is not None:
        yield "ttft", first
    if queue is not None:
        yield "queue", queue
    if (overhead := row["overhead_us"]) is not None:
        yield "overhead", overhead
    if not ok or end is None:
        return
    yield "end", end
    yield "upstream", max(0, end - (queue or 0))
    output = row["output"]
    if streamed and first is not None and output is not None and output > 1:
        yield "inter_token", (end - first) // (output - 1)


def count(histograms: Histograms, metric: str, us: int) -> None:
    counts = histograms.setdefault(metric, {})
    bucket = bucket_of(us * US)
    counts[bucket] = counts.get(bucket, 0) + 1


def merge(histograms: Histograms, other: Histograms) -> None:
    """Takes in what another counted."""
    for metric, theirs in other.items():
        counts = histograms.get(metric)
        if counts is None:
            histograms[metric] = dict(theirs)
            continue
        for bucket, number in theirs.items():
            counts[bucket] = counts.get(bucket, 0) + number


def packed(histograms: Histograms) -> bytes:
    return _encode(histograms)


def unpacked(data: bytes) -> Histograms:
    return _decode(data)


def quantile(counts: Counts, share: float) -> float | None:
    """Seconds that a `share` of all do not exceed, evenly spread over a bucket's logarithm as in policy.sketch. None: nothing was counted."""
    if not counts:
        return None
    buckets = sorted(counts)
    below = list(accumulate(counts[bucket] for bucket in buckets))
    goal = share * below[-1]
    at = next(i for i, sum_ in enumerate(below) if sum_ >= goal)
    inside = counts[buckets[at]]
    part = min(1.0, max(0.0, (goal - (below[at] - inside)) / inside))
    return float(2.0 ** ((buckets[at] + part) / STEPS))
