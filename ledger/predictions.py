"""What was predicted of attempts against what came: sums by range of the predicted probability, mergeable, which a roll-up keeps as bytes."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, or_

from ledger.schema import attempts

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # of the ranges of probabilities; finer where most predictions are
RANGES = tuple(f"{low:g}-{high:g}" for low, high in zip((0.0, *EDGES), (*EDGES, 1.0), strict=True))
NONE = -1  # the range of what had no probability
GONE = ("abandoned", "client_closed")

# The sums of one range, in this order:
#   attempts of which anything was predicted
#   SLO: judged; not judged; over the judged the sums of the probability, of what came (1 or 0), and of the squared error
#   first token, end: compared with their predicted 95th percentile; of these, in time
#   end (microseconds), output (tokens), cost (nano-dollars): whole answers compared; the sums of the predicted, the actual, the absolute difference
WIDTH = 22
TTFT_COVER, END_COVER, END_ERROR, OUTPUT_ERROR, COST_ERROR = 6, 8, 10, 14, 18  # where each begins
Sums = list[int | float]  # counts stay integers
Predictions = dict[int, Sums]
# What came of an attempt: streamed or not, status, microseconds to the first token and to the end, tokens where it is known what was said
Came = tuple[bool, str, int | None, int | None, int | None]

_c = attempts.c
COLUMNS = (
    *(_c.attempt, _c.slo_met, _c.usage_source, _c.cost_nusd),
    *(_c.predicted_ttft_us, _c.predicted_end_us, _c.predicted_end_p95_us, _c.predicted_output_tokens, _c.predicted_cost_nusd, _c.predicted_p_slo),
)
PREDICTED: ColumnElement[bool] = or_(*(column.is_not(None) for column in COLUMNS[4:]))

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, list[int | float]]).decode


def compare(found: Predictions, predicted: Sequence[Any], came: Came) -> None:
    """Adds one attempt in the range of its probability; nothing where nothing was predicted. `predicted` has COLUMNS.

    The SLO is judged on a request's first attempt, from which its prediction is: met or missed as the request was where it was also the last,
    missed where it failed, else not known. The first token is compared for streamed answers, where it can be seen. An attempt that was
    abandoned, or whose client left, counts as later than its 95th percentile when that had passed by then, and else not at all. Errors are of
    whole answers; those of tokens and cost, where the provider told its usage.
    """
    attempt, slo_met, usage_source, cost_nusd, ttft_us, predicted_end_us, end_p95_us, tokens, nusd, p = predicted
    if ttft_us is None and predicted_end_us is None and end_p95_us is None and tokens is None and nusd is None and p is None:
        return
    stream, status, first_token_us, end_us, output = came
    at = NONE if p is None else range_of(p)
    sums = found.get(at)
    if sums is None:
        sums = found[at] = [0] * WIDTH
    sums[0] += 1
    if p is not None and attempt == 1:
        _judge(sums, p, False if slo_met is None and status == "failed" else slo_met)
    whole, gone_us = status == "ok", end_us if status in GONE else None
    if ttft_us is not None and stream:
        _cover(sums, TTFT_COVER, ttft_us, first_token_us, gone_us)
    if end_p95_us is not None:
        _cover(sums, END_COVER, end_p95_us, end_us if whole else None, gone_us)
    if not whole:
        return
    if predicted_end_us is not None and end_us is not None:
        _differ(sums, END_ERROR, predicted_end_us, end_us)
    if usage_source == "provider":
        if tokens is not None and output is not None:
            _differ(sums, OUTPUT_ERROR, tokens, output)
        if nusd is not None and cost_nusd is not None:
            _differ(sums, COST_ERROR, nusd, cost_nusd)


def range_of(p: float) -> int:
    """Which of RANGES."""
    return bisect_right(EDGES, p)


def _judge(sums: Sums, p: float, met: bool | None) -> None:
    if met is None:
        sums[2] += 1
        return
    sums[1] += 1
    sums[3] += p
    sums[4] += met
    sums[5] += (p - met) * (p - met)


def _cover(sums: Sums, at: int, p95_us: int, actual_us: int | None, gone_us: int | None) -> None:
    """`gone_us`: when it ended, of one that ended without."""
    if actual_us is not None:
        sums[at] += 1
        sums[at + 1] += actual_us <= p95_us
    elif gone_us is not None and gone_us > p95_us:
        sums[at] += 1


def _differ(sums: Sums, at: int, predicted: int, actual: int) -> None:
    sums[at] += 1
    sums[at + 1] += predicted
    sums[at + 2] += actual
    sums[at + 3] += abs(predicted - actual)


def add(predictions: Predictions, at: int, sums: Sums) -> None:
    mine = predictions.get(at)
    predictions[at] = sums if mine is None else [a + b for a, b in zip(mine, sums, strict=True)]


def merge(predictions: Predictions, other: Predictions) -> None:
    for at, sums in other.items():
        add(predictions, at, sums)


def packed(predictions: Predictions) -> bytes | None:
    """None: nothing was predicted."""
    if not predictions:
        return None
    try:
        return _encode(predictions)
    except OverflowError:  # beyond 64 bits
        return _encode({at: [float(each) for each in sums] for at, sums in predictions.items()})


def unpacked(data: bytes | None) -> Predictions:
    return {} if data is None else _decode(data)
