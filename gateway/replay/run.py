"""A replay from its settings to its figures: read from the ledger part by part, several at once where there are processors for it."""

import gc
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

from sqlalchemy import Engine

from config.settings import Settings
from gateway.replay.budgets import Budgets
from gateway.replay.places import Places
from gateway.replay.replaying import Replay, Span
from gateway.replay.sums import Sums
from ledger.database import open_engine
from ledger.history import Recorded, history, starts_of
from ledger.retention import is_whole
from ledger.window import Window
from policy.evidence import Evidence

EVIDENCE_S = 3600.0
PART_ROWS = 25_000  # so that the ledger alone decides how it is cut, and not the machine
SEEN_ROWS = 500  # between two looks at how far it is

Seen = Callable[[float], None]


def replay(
    settings: Settings, ledger: Engine, span: Span, evidence_s: float = EVIDENCE_S, part_rows: int = PART_ROWS, seen: Seen | None = None
) -> dict[str, Any]:
    """The figures of `Sums.told`, and `whole`: no row of the span was deleted. `evidence_s`: how long before and after a request a recorded attempt
    may stand for one.

    `seen` is told now and then how far it is, 0 to 1, and all is then done in this process.
    A part begins with what the hour before it teaches, as a gateway does that is started there. Nothing is written, nobody is asked.
    Raises WeightsNotFound, ValueError, SQLAlchemyError.
    """
    starts = starts_of(ledger, span.from_us, span.to_us, part_rows)
    spans = [Span(low, high, span.team) for low, high in pairwise([*starts, span.to_us])]
    processes = 1 if seen is not None else min(len(spans), os.cpu_count() or 1)
    if processes == 1:
        parts = [_part(settings, ledger, each, span.to_us, evidence_s, _watch(span, seen)) for each in spans]
    else:
        url = ledger.url.set(drivername=ledger.dialect.name).render_as_string(hide_password=False)
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            running = [pool.submit(_part_of, settings, url, each, span.to_us, evidence_s) for each in spans]
            parts = [each.result() for each in running]
    whole, *others = parts
    for each in others:
        whole.merge(each)
    window = Window(span.from_us, span.to_us, {} if span.team is None else {"team": span.team})
    figures = whole.told(frozenset(settings.engine_replicas), whole.budgets.exceeded(ledger, span.from_us))
    return figures | {"whole": is_whole(ledger, window, by_rows=True)}


Watch = Callable[[Iterator[Recorded]], Iterator[Recorded]]


def _watch(span: Span, seen: Seen | None) -> Watch | None:
    """Passes a ledger's rows on, telling how much of `span` they are through."""
    if seen is None:
        return None

    def watched(rows: Iterator[Recorded]) -> Iterator[Recorded]:
        for number, row in enumerate(rows):
            if number % SEEN_ROWS == 0:
                seen(min(1.0, max(0.0, (row.started_at_us - span.from_us) / max(1, span.to_us - span.from_us))))
            yield row

    return watched


def _part(settings: Settings, ledger: Engine, span: Span, to_us: int, evidence_s: float, watch: Watch | None = None) -> Sums:
    """`to_us`: the end of all parts, up to which there is evidence."""
    sums = Sums(Budgets(settings))
    until_us = min(to_us, span.to_us + int(evidence_s * 1e6))
    rows = history(ledger, span.origin_us, until_us)
    Replay(Places(settings), Evidence(evidence_s), sums, span).run(rows if watch is None else watch(rows))
    return sums


def _part_of(settings: Settings, url: str, span: Span, to_us: int, evidence_s: float) -> Sums:
    """In a process of its own."""
    gc.disable()  # a tenth of the time, for next to nothing that is in a circle
    ledger = open_engine(url)
    try:
        return _part(settings, ledger, span, to_us, evidence_s)
    finally:
        ledger.dispose()
