"""A warm start: what the ledger remembers of the targets' last hours becomes their statistics at boot, each attempt at its age."""

from collections.abc import Mapping
from heapq import heappop, heappush

from sqlalchemy import Engine, select

from contract.errors import (
    ContentPolicyRefused,
    ContextLengthExceeded,
    EngineBusy,
    EngineRefused,
    MediaUnreachable,
    QuotaExhausted,
    RateLimited,
    TargetCannot,
    UpstreamRejected,
)
from contract.usage import BYTES_PER_TOKEN
from gateway.record import GATEWAY_LOST
from ledger.history import COLUMNS, Recorded, recorded
from ledger.schema import attempts
from policy.forecast import Forecast
from policy.overtaken import counts_as
from policy.stats import TargetStats

HOURS = 24.0  # what is older weighs nothing
MOST_ROWS = 20_000
LIMITED = frozenset({RateLimited.code, QuotaExhausted.code, EngineBusy.code})
NOBODYS = frozenset(  # ends that say nothing of the target: the request's own fault, or ours
    {"server_shutting_down", "client_closed", GATEWAY_LOST}
    | {each.code for each in (UpstreamRejected, ContextLengthExceeded, ContentPolicyRefused, EngineRefused, MediaUnreachable, TargetCannot)}
)


def warm_start(engine: Engine, stats: Mapping[tuple[str, str], TargetStats], now: float, now_unix: float) -> int:
    """Gives each target (backend, model) what the ledger knows of it; how many attempts that were.

    `now` in time.monotonic() seconds, `now_unix` the same moment in Unix time. The newest MOST_ROWS of the last HOURS. Targets that are not
    in `stats` are passed over. Raises SQLAlchemyError when the ledger cannot be read; then nothing was changed.
    """
    at = attempts.c.started_at_us
    query = select(*COLUMNS).where(at >= (now_unix - HOURS * 3600) * 1e6).order_by(at.desc()).limit(MOST_ROWS)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    learnt: dict[tuple[str, str], tuple[TargetStats, list[int]]] = {}  # and when those end that are not over yet, in Unix microseconds
    replayed = 0
    for row in map(recorded, reversed(rows)):
        key = row.key
        if key not in stats or row.end_us is None:
            continue
        if key not in learnt:
            learnt[key] = TargetStats(), []
        found, ends = learnt[key]
        while ends and ends[0] <= row.started_at_us:
            heappop(ends)
        ended_at_us = row.started_at_us + row.end_us
        ago_s = max(0.0, now_unix - ended_at_us / 1e6)
        replayed += teach(found, row, now - ago_s, len(ends))
        heappush(ends, ended_at_us)
    for key, (found, _) in learnt.items():
        stats[key].set_others(found)
    return replayed


def teach(stats: TargetStats, row: Recorded, at: float, load: int) -> bool:
    """What one attempt that ended `at` says of its target; whether it says anything. `load`: how many ran there when it began."""
    waited_us = row.queue_us or 0
    if row.end_us is None:
        return False
    cold = row.input_uncached if row.input_uncached is not None else row.prompt_tokens_estimated
    prompt_tokens, took_s = row.bytes_request // BYTES_PER_TOKEN if cold is None else cold, (row.end_us - waited_us) / 1e6
    late_s = _late_s(row, took_s, stats.forecast(at, streamed=row.stream, prompt_tokens=prompt_tokens, load=load)) if _left_early(row) else None
    if row.status == "ok" or late_s is not None:
        began_s = (row.first_token_us - waited_us) / 1e6 if row.stream and row.first_token_us is not None else None
        stats.observe(
            at,
            streamed=row.stream,
            prompt_tokens=prompt_tokens,
            load=load,
            ttft_s=late_s if late_s is not None and row.stream else began_s,
            total_s=late_s or took_s,
            output_tokens=row.output_tokens,
            input_tokens=row.input_tokens,
            cached_tokens=row.cache_read,
        )
        return True
    if row.status not in ("failed", "cut") or row.error_code is None or row.error_code in NOBODYS:
        return False
    stats.failed(at, streamed=row.stream, code=row.error_code, limited=row.error_code in LIMITED, paid=bool(row.cost_nusd))
    return True


def _left_early(row: Recorded) -> bool:
    """Nobody waited for it, and nothing had come of it; what had not left a queue says nothing."""
    return row.status in ("abandoned", "client_closed") and row.first_token_us is None and row.queue_us is not None


def _late_s(row: Recorded, took_s: float, forecast: Forecast) -> float | None:
    """What it counts as (gateway/learning.py has the reasons): a first runner that was overtaken, and whoever was later than its predicted p95."""
    if row.status == "abandoned" and row.attempt == 1:
        return counts_as(forecast, took_s)
    late = row.end_us is not None and row.predicted_ttft_us is not None and row.end_us > row.predicted_ttft_us
    return took_s if late else None
