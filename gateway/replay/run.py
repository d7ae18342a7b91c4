"""A replay from its settings to its figures: read from the ledger part by part, several at once where there are processors for it."""

import gc
import os
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
from ledger.history import history, starts_of
from policy.evidence import Evidence

EVIDENCE_S = 3600.0
PART_ROWS = 25_000  # so that the ledger alone decides how it is cut, and not the machine


def replay(settings: Settings, ledger: Engine, span: Span, evidence_s: float = EVIDENCE_S, part_rows: int = PART_ROWS) -> dict[str, Any]:
    """The figures of `Sums.told`. `evidence_s`: how long before and after a request a recorded attempt may stand for one.

    A part begins with what the hour before it teaches, as a gateway does that is started there. Nothing is written, nobody is asked.
    Raises WeightsNotFound, ValueError, SQLAlchemyError.
    """
    starts = starts_of(ledger, span.from_us, span.to_us, part_rows)
    spans = [Span(low, high, span.team) for low, high in pairwise([*starts, span.to_us])]
    processes = min(len(spans), os.cpu_count() or 1)
    if processes == 1:
        parts = [_part(settings, ledger, each, span.to_us, evidence_s) for each in spans]
    else:
        url = ledger.url.set(drivername=ledger.dialect.name).render_as_string(hide_password=False)
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            running = [pool.submit(_part_of, settings, url, each, span.to_us, evidence_s) for each in spans]
            parts = [each.result() for each in running]
    whole, *others = parts
    for each in others:
        whole.merge(each)
    return whole.told(frozenset(settings.engine_replicas), whole.budgets.exceeded(ledger, span.from_us))


def _part(settings: Settings, ledger: Engine, span: Span, to_us: int, evidence_s: float) -> Sums:
    """`to_us`: the end of all parts, up to which there is evidence."""
    sums = Sums(Budgets(settings))
    until_us = min(to_us, span.to_us + int(evidence_s * 1e6))
    Replay(Places(settings), Evidence(evidence_s), sums, span).run(history(ledger, span.origin_us, until_us))
    return sums


def _part_of(settings: Settings, url: str, span: Span, to_us: int, evidence_s: float) -> Sums:
    """In a process of its own."""
    gc.disable()  # a tenth of the time, for next to nothing that is in a circle
    ledger = open_engine(url)
    try:
        return _part(settings, ledger, span, to_us, evidence_s)
    finally:
        ledger.dispose()
