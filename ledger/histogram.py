"""Latencies as counts by log bucket (contract/scale.py): exact, mergeable, and asked for quantiles. What a roll-up keeps as bytes."""

from collections.abc import Mapping
from itertools import accumulate

import msgspec

from contract.scale import HIGHEST, LOWEST, STEPS, bucket_of

METRICS = ("ttft", "inter_token", "end", "queue", "upstream", "overhead")
US = 1e-6
LANE = 40  # bits of one bucket's count: up to 10^12
LANE_BYTES = LANE // 8
Counts = int  # those of all buckets side by side in one number, the lowest bucket's in the lowest bits: adding two adds them bucket by bucket
Histograms = dict[str, Counts]
_METRIC = HIGHEST - LOWEST + 1
_TTFT, _INTER_TOKEN, _END, _QUEUE, _UPSTREAM, _OVERHEAD = (place * _METRIC - LOWEST for place in range(len(METRICS)))

_ONE = [1 << (bucket - LOWEST) * LANE for bucket in range(LOWEST, HIGHEST + 1)]
_MAPS = 0x80  # what the first byte of an older version's counts is at least: MessagePack maps of bucket to number
_decode = msgspec.msgpack.Decoder(dict[str, dict[int, int]]).decode


Tally = dict[int, int]  # attempts' times being counted: at a metric's place times _METRIC and a bucket


def count(tally: Tally, first: int | None, end: int | None, queue: int | None, overhead: int | None, output: int | None) -> None:
    """One attempt: microseconds to the first token of a stream, to the end of a whole answer, in the queue, and of our own; tokens that came."""
    if first is not None:
        _one_more(tally, _TTFT, first)
    if queue is not None:
        _one_more(tally, _QUEUE, queue)
    if overhead is not None:
        _one_more(tally, _OVERHEAD, overhead)
    if end is None:
        return
    _one_more(tally, _END, end)
    _one_more(tally, _UPSTREAM, max(0, end - queue) if queue else end)
    if first is not None and output is not None and output > 1:
        _one_more(tally, _INTER_TOKEN, (end - first) // (output - 1))


def _one_more(tally: Tally, place: int, us: int) -> None:
    at = place + bucket_of(us * US)
    tally[at] = tally.get(at, 0) + 1


def histograms_of(tally: Tally) -> Histograms:
    found: Histograms = {}
    for at, number in tally.items():
        metric = METRICS[at // _METRIC]
        found[metric] = found.get(metric, 0) + (number << (at % _METRIC) * LANE)
    return found


def merge(histograms: Histograms, other: Histograms) -> None:
    """Takes in what another counted."""
    for metric, counts in other.items():
        histograms[metric] = histograms.get(metric, 0) + counts


def packed(histograms: Histograms) -> bytes:
    """Of each metric its place in METRICS, its lowest bucket, the number of buckets, and their counts."""
    told = bytearray()
    for at, metric in enumerate(METRICS):
        if counts := histograms.get(metric, 0):
            low = ((counts & -counts).bit_length() - 1) // LANE
            counts >>= low * LANE
            length = -(-counts.bit_length() // LANE)
            told += bytes((at, low, length)) + counts.to_bytes(length * LANE_BYTES, "little")
    return bytes(told)


def unpacked(data: bytes) -> Histograms:
    found: Histograms = {}
    merge_packed(found, data)
    return found


def merge_packed(histograms: Histograms, data: bytes) -> None:
    """Takes in what `packed` told."""
    if data and data[0] >= _MAPS:
        for metric, counts in _decode(data).items():
            histograms[metric] = histograms.get(metric, 0) + sum(_ONE[bucket - LOWEST] * number for bucket, number in counts.items())
        return
    at, end = 0, len(data)
    while at < end:  # a report of everybody does this some ten thousand times
        metric, low, body = METRICS[data[at]], data[at + 1] * LANE, at + 3
        at = body + data[at + 2] * LANE_BYTES
        histograms[metric] = histograms.get(metric, 0) + (int.from_bytes(data[body:at], "little") << low)


def buckets(counts: Counts) -> dict[int, int]:
    """Bucket -> how many, the lowest first."""
    lanes = counts.to_bytes(len(_ONE) * LANE_BYTES, "little")
    numbers = (int.from_bytes(lanes[at : at + LANE_BYTES], "little") for at in range(0, len(lanes), LANE_BYTES))
    return {LOWEST + place: number for place, number in enumerate(numbers) if number}


def quantile(counts: Counts, share: float) -> float | None:
    """Seconds that a `share` of all do not exceed, evenly spread over a bucket's logarithm as in policy.sketch. None: nothing was counted."""
    return quantile_of(buckets(counts), share)


def quantile_of(found: Mapping[int, int], share: float) -> float | None:
    """The same, of what `buckets` gave."""
    if not found:
        return None
    below = list(accumulate(found.values()))
    goal = share * below[-1]
    at = next(i for i, sum_ in enumerate(below) if sum_ >= goal)
    bucket, inside = list(found.items())[at]
    part = min(1.0, max(0.0, (goal - (below[at] - inside)) / inside))
    return float(2.0 ** ((bucket + part) / STEPS))
