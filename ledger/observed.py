"""What rows show beside their sums: latencies by log bucket and what became of predictions, told apart by the dimensions of a roll-up."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from contract.scale import prompt_at
from ledger import histogram, predictions
from ledger.histogram import Histograms
from ledger.predictions import Came, Predictions
from ledger.schema import LATENCY_DIMENSIONS, attempts

INPUTS = ("input_uncached", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
OUTPUTS = ("output_visible", "reasoning", "audio_output", "image_output")
Dimensions = tuple[Any, ...]  # LATENCY_DIMENSIONS

_c = attempts.c
_NAMED = [_c[name] for name in LATENCY_DIMENSIONS[:-1]]
_TIMES = (_c.started_at_us, _c.stream, _c.status, _c.prompt_tokens_estimated, _c.first_token_us, _c.end_us, _c.queue_us, _c.overhead_us)
_TOKENS = [_c[name] for name in (*INPUTS, *OUTPUTS)]
_TIMES_AT = len(_NAMED)
_INPUTS_AT = _TIMES_AT + len(_TIMES)
_OUTPUTS_AT = _INPUTS_AT + len(INPUTS)
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
    """(dimensions, when it began in microseconds, what it shows) of rows, attempt by attempt; nothing of a row that shows nothing."""
    for row in connection.execute(select(*_NAMED, *_TIMES, *_TOKENS, *predictions.COLUMNS).where(within)):
        started_at_us, stream, status, estimated, first_us, end_us, queue_us, overhead_us = row[_TIMES_AT:_INPUTS_AT]
        prompt, output = _total(row[_INPUTS_AT:_OUTPUTS_AT]), _total(row[_OUTPUTS_AT:_PREDICTED_AT])
        latencies: Histograms = {}
        for metric, us in histogram.measured((first_us, end_us, queue_us, overhead_us), output, stream, status == "ok"):
            histogram.count(latencies, metric, us)
        said = None if row[_OUTPUTS_AT] is None else output
        compared = predictions.compared(row[_PREDICTED_AT:], Came(stream, status, first_us, end_us, said))
        if latencies or compared is not None:
            prompt = estimated if prompt is None else prompt
            dimensions = (*row[:_TIMES_AT], -1 if prompt is None else prompt_at(prompt))
            yield dimensions, started_at_us, Observed(latencies, {} if compared is None else dict((compared,)))


def rolled_up(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[tuple[Any, ...], Observed]]:
    """(what the others columns say, what it shows) of roll-ups, whose last two columns are counts and predictions."""
    for *told, counts, predicted in rows:
        yield tuple(told), Observed(histogram.unpacked(counts), predictions.unpacked(predicted))


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
