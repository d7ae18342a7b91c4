"""What rows show beside their sums: latencies by log bucket and what became of predictions, told apart by the dimensions of a roll-up."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from contract.scale import prompt_at
from ledger import histogram, predictions
from ledger.histogram import Histograms, Tally
from ledger.predictions import Predictions
from ledger.schema import LATENCY_DIMENSIONS, attempts

INPUTS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
OUTPUTS = ("output_visible", "reasoning", "audio_output", "image_output")
Dimensions = tuple[Any, ...]  # LATENCY_DIMENSIONS
MINUTE_US = 60_000_000

_c = attempts.c
_NAMED = [_c[name] for name in LATENCY_DIMENSIONS[:-1]]
_TIMES = (_c.started_at_us, _c.stream, _c.status, _c.prompt_tokens_estimated, _c.first_token_us, _c.end_us, _c.queue_us, _c.overhead_us)
_TOKENS = [_c[name] for name in (*INPUTS, *OUTPUTS)]
_OUTPUTS_AT = len(INPUTS)  # after the times
_PREDICTED_AT = _OUTPUTS_AT + len(OUTPUTS)


class Observed(NamedTuple):
    """Of one row, or of many."""

    latencies: Histograms
    predictions: Predictions

    def merge(self, other: "Observed") -> None:
        histogram.merge(self.latencies, other.latencies)
        predictions.merge(self.predictions, other.predictions)


def nothing() -> Observed:
    return Observed({}, {})


def observed(connection: Connection, within: ColumnElement[bool]) -> Iterator[tuple[Dimensions, int, Observed]]:
    """(dimensions, the minute that they began in, in microseconds, what they show) of rows, those that follow one another in a minute added up;
    nothing of rows that show nothing."""
    minute_us, found = 0, dict[Dimensions, tuple[Tally, Predictions]]()
    for row in connection.execute(select(*_NAMED, *_TIMES, *_TOKENS, *predictions.COLUMNS).where(within)):
        team, asked, target, sent, policy, began_us, stream, status, estimated, first_us, end_us, queue_us, overhead_us, *rest = row
        if not 0 <= began_us - minute_us < MINUTE_US:
            yield from _told(found, minute_us)
            minute_us, found = began_us - began_us % MINUTE_US, {}
        known = [count for count in rest[:_OUTPUTS_AT] if count is not None]
        prompt = sum(known) if known else estimated
        key = team, asked, target, sent, policy, -1 if prompt is None else prompt_at(prompt)
        mine = found.get(key)
        if mine is None:
            mine = found[key] = {}, {}
        known = [count for count in rest[_OUTPUTS_AT:_PREDICTED_AT] if count is not None]
        output = sum(known) if known else None
        histogram.count(mine[0], first_us if stream else None, end_us if status == "ok" else None, queue_us, overhead_us, output)
        said = None if rest[_OUTPUTS_AT] is None else output
        predictions.compare(mine[1], rest[_PREDICTED_AT:], (stream, status, first_us, end_us, said))
    yield from _told(found, minute_us)


def _told(found: dict[Dimensions, tuple[Tally, Predictions]], minute_us: int) -> Iterator[tuple[Dimensions, int, Observed]]:
    for dimensions, (tally, predicted) in found.items():
        if tally or predicted:
            yield dimensions, minute_us, Observed(histogram.histograms_of(tally), predicted)


def rolled_up(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[tuple[Any, ...], Observed]]:
    """(what the others columns say, what it shows) of roll-ups, whose last two columns are counts and predictions."""
    for *told, counts, predicted in rows:
        yield tuple(told), Observed(histogram.unpacked(counts), predictions.unpacked(predicted))
