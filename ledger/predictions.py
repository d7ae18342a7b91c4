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
Sums = list[int | float]  # counts stay integers
Predictions = dict[int, Sums]

_c = attempts.c
COLUMNS = (
    *(_c.attempt, _c.slo_met, _c.usage_source, _c.cost_nusd),
    *(_c.predicted_ttft_us, _c.predicted_end_us, _c.predicted_end_p95_us, _c.predicted_output_tokens, _c.predicted_cost_nusd, _c.predicted_p_slo),
)
PREDICTED: ColumnElement[bool] = or_(*(column.is_not(None) for column in COLUMNS[4:]))

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[int, list[int | float]]).decode


class Came(msgspec.Struct, frozen=True):
    """What came of an attempt: microseconds, tokens. `output`: where it is known what was said and not only thought."""

    stream: bool
    status: str
    first_token_us: int | None
    end_us: int | None
    output: int | None


def compared(predicted: Sequence[Any], came: Came) -> tuple[int, Sums] | None:
    """The range of one attempt's probability, and what it adds there; None: nothing was predicted. `predicted` has COLUMNS.

    The SLO is judged on a request's first attempt, from which its prediction is: met or missed as the request was where it was also the last,
    missed where it failed, else not known. The first token is compared for streamed answers, where it can be seen. An attempt that was
    abandoned, or whose client left, counts as later than its 95th percentile when that had passed by then, and else not at all. Errors are of
    whole answers; those of tokens and cost, where the provider told its usage.
    """
    attempt, slo_met, usage_source, cost_nusd, ttft_us, end_us, end_p95_us, output, nusd, p = predicted
    if ttft_us is None and end_us is None and end_p95_us is None and output is None and nusd is None and p is None:
        return None
    whole, told = came.status == "ok", usage_source == "provider"
    return (NONE if p is None else range_of(p)), [
        1,
        *((0, 0, 0, 0, 0) if p is None or attempt != 1 else _judged(p, _met(slo_met, came.status))),
        *_coverage(ttft_us, came.first_token_us if came.stream else None, came, came.stream),
        *_coverage(end_p95_us, came.end_us if whole else None, came, not whole),
        *_error(end_us, came.end_us, whole),
        *_error(output, came.output, whole and told),
        *_error(nusd, cost_nusd, whole and told),
    ]


def range_of(p: float) -> int:
    """Which of RANGES."""
    return bisect_right(EDGES, p)


def _met(slo_met: bool | None, status: str) -> bool | None:
    return False if slo_met is None and status == "failed" else slo_met


def _judged(p: float, met: bool | None) -> tuple[float, ...]:
    return (0, 1, 0, 0, 0) if met is None else (1, 0, p, int(met), (p - met) * (p - met))


def _coverage(p95_us: int | None, actual_us: int | None, came: Came, may_have_been_late: bool) -> tuple[int, int]:
    if p95_us is None:
        return 0, 0
    if actual_us is not None:
        return 1, int(actual_us <= p95_us)
    late = may_have_been_late and came.status in GONE and came.end_us is not None and came.end_us > p95_us
    return int(late), 0


def _error(predicted: int | None, actual: int | None, known: bool) -> tuple[int, int, int, int]:
    if not known or predicted is None or actual is None:
        return 0, 0, 0, 0
    return 1, predicted, actual, abs(predicted - actual)


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
