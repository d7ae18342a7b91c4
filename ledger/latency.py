"""Latencies by group: quantiles from the roll-ups' log buckets, and from the rows of the moments that have none yet."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, and_, false, or_, select

from contract.scale import PROMPTS
from ledger.histogram import METRICS, Counts, Histograms, buckets, merge, merge_packed, quantile, quantile_of
from ledger.observed import observed
from ledger.schema import attempts, latency_rollups, latency_summaries
from ledger.summaries import LATENCY_DETAILS, detail_of
from ledger.window import TIMES, Window, coarsest, dimensions_of, group_of, matching, parts, raw, sources, told_by

GROUPS = ("team", "model", "provider", "model_sent", "target", "policy", "prompt", *TIMES)
QUANTILES = (0.5, 0.9, 0.95, 0.99)
SPEEDS = (0.5, 0.9, 0.99)


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds, right within 19 %. None: nothing was counted."""

    n: int
    p50_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Speeds(msgspec.Struct, frozen=True):
    """What 50, 90 and 99 of 100 reach. None: nothing was counted."""

    p50: float | None
    p90: float | None
    p99: float | None


class Latency(msgspec.Struct, frozen=True):
    """One group. `ttft` and `inter_token` of streams, `end` and `upstream` (the end, without the wait in our queue) of whole answers.

    `tokens_per_s`: of a stream's output.
    """

    group: tuple[Any, ...]
    ttft: Quantiles
    inter_token: Quantiles
    end: Quantiles
    queue: Quantiles
    upstream: Quantiles
    overhead: Quantiles
    tokens_per_s: Speeds


def latency(engine: Engine, window: Window, groups: Sequence[str], now_s: float) -> list[Latency]:
    """The groups in their own order. Raises KeyError for an unknown one, of a filter too. rollups.roll_up makes anew what is stale, not this."""
    if unknown := [name for name in (*groups, *window.filters) if name not in GROUPS or (name == "prompt" and name not in groups)]:
        raise KeyError(unknown[0])
    chosen, rest = parts(window, now_s, coarsest(groups))
    asked = (*groups, *window.filters)
    detail = None if "team" in window.filters else detail_of(LATENCY_DETAILS, dimensions_of(asked))
    found: dict[tuple[Any, ...], Histograms] = {}
    with engine.connect() as connection:
        for table, within in sources(chosen, latency_rollups, latency_summaries, detail):
            columns = table.c
            query = select(columns.counts, *(columns.prompt if name == "prompt" else group_of(name, columns) for name in groups))
            for counts, *group in connection.execute(query.where(within, *matching(window, columns))):
                if counts:
                    merge_packed(found.setdefault(tuple(group), {}), counts)
        tell, within = told_by(groups), and_(or_(false(), *raw(rest)), *matching(window, attempts.c))
        for dimensions, at_us, each in observed(connection, within):
            if each.latencies:
                merge(found.setdefault(tell(dimensions, at_us), {}), each.latencies)
    return [_latency(group, groups, found[group]) for group in sorted(found)]


def _latency(group: tuple[Any, ...], groups: Sequence[str], histograms: Histograms) -> Latency:
    shown = tuple(_prompt(value) if name == "prompt" else value for name, value in zip(groups, group, strict=True))
    per_token = [quantile(histograms.get("inter_token", 0), share) for share in SPEEDS]
    speeds = [None if not each else round(1 / each, 3) for each in per_token]
    measured = {metric: _quantiles(histograms.get(metric, 0)) for metric in METRICS}
    return Latency(group=shown, **measured, tokens_per_s=Speeds(*speeds))


def _prompt(place: int) -> str | None:
    return PROMPTS[place] if place >= 0 else None


def _quantiles(counts: Counts) -> Quantiles:
    found = buckets(counts)
    p50, p90, p95, p99 = (None if (each := quantile_of(found, share)) is None else round(each * 1e3, 3) for share in QUANTILES)
    return Quantiles(sum(found.values()), p50, p90, p95, p99)


NOTHING = _latency((), (), {})
