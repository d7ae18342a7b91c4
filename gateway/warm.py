"""A warm start: what the ledger remembers of the targets' last hours becomes their statistics at boot, each attempt at its age."""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import Any

from sqlalchemy import Engine, Row, select

from contract.errors import (
    ContentPolicyRefused,
    ContextLengthExceeded,
    EngineBusy,
    EngineRefused,
    QuotaExhausted,
    RateLimited,
    TargetCannot,
    UpstreamRejected,
)
from contract.usage import BYTES_PER_TOKEN
from gateway.record import GATEWAY_LOST
from ledger.schema import attempts
from policy.stats import TargetStats

HOURS = 24.0  # what is older weighs nothing
MOST_ROWS = 20_000
LIMITED = frozenset({RateLimited.code, QuotaExhausted.code, EngineBusy.code})
NOBODYS = frozenset(  # ends that say nothing of the target: the request's own fault, or ours
    {"server_shutting_down", "client_closed", GATEWAY_LOST}
    | {each.code for each in (UpstreamRejected, ContextLengthExceeded, ContentPolicyRefused, EngineRefused, TargetCannot)}
)

_c = attempts.c
_INPUTS = (_c.input_uncached, _c.cache_read, _c.cache_write_5m, _c.cache_write_1h, _c.audio_input)
_OUTPUTS = (_c.output_visible, _c.reasoning, _c.audio_output)
_TIMES = (_c.started_at_us, _c.queue_us, _c.first_token_us, _c.end_us)
_PLAIN = (_c.target, _c.model_sent, _c.stream, _c.status, _c.error_code, _c.prompt_tokens_estimated, _c.bytes_request, _c.cost_nusd, *_TIMES)
_COLUMNS = (*_PLAIN, *_INPUTS, *_OUTPUTS)
_INPUTS_AT, _OUTPUTS_AT = len(_PLAIN), len(_PLAIN) + len(_INPUTS)


def warm_start(engine: Engine, stats: Mapping[tuple[str, str], TargetStats], now: float, now_unix: float) -> int:
    """Gives each target (backend, model) what the ledger knows of it; how many attempts that were.

    `now` in time.monotonic() seconds, `now_unix` the same moment in Unix time. The newest MOST_ROWS of the last HOURS. Targets that are not
    in `stats` are passed over. Raises SQLAlchemyError when the ledger cannot be read; then nothing was changed.
    """
    query = select(*_COLUMNS).where(_c.started_at_us >= (now_unix - HOURS * 3600) * 1e6).order_by(_c.started_at_us.desc()).limit(MOST_ROWS)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    learnt: dict[tuple[str, str], tuple[TargetStats, list[int]]] = {}  # and when those end that are not over yet, in Unix microseconds
    replayed = 0
    for row in reversed(rows):
        key = (row.target, row.model_sent)
        if key not in stats or row.end_us is None:
            continue
        if key not in learnt:
            learnt[key] = TargetStats(), []
        found, ends = learnt[key]
        while ends and ends[0] <= row.started_at_us:
            heappop(ends)
        ended_at_us = row.started_at_us + row.end_us
        ago_s = max(0.0, now_unix - ended_at_us / 1e6)
        replayed += _replay(found, row, now - ago_s, len(ends))
        heappush(ends, ended_at_us)
    for key, (found, _) in learnt.items():
        stats[key].set_others(found)
    return replayed


def _replay(stats: TargetStats, row: Row[Any], at: float, load: int) -> bool:
    """One attempt; whether it says anything of the target."""
    if row.status == "ok":
        waited_us = row.queue_us or 0
        cold = row.input_uncached if row.input_uncached is not None else row.prompt_tokens_estimated
        stats.observe(
            at,
            streamed=row.stream,
            prompt_tokens=row.bytes_request // BYTES_PER_TOKEN if cold is None else cold,
            load=load,
            ttft_s=(row.first_token_us - waited_us) / 1e6 if row.stream and row.first_token_us is not None else None,
            total_s=(row.end_us - waited_us) / 1e6,
            output_tokens=_sum(row[_OUTPUTS_AT:]),
            input_tokens=_sum(row[_INPUTS_AT:_OUTPUTS_AT]),
            cached_tokens=row.cache_read,
        )
        return True
    if row.status not in ("failed", "cut") or row.error_code is None or row.error_code in NOBODYS:
        return False
    stats.failed(at, streamed=row.stream, code=row.error_code, limited=row.error_code in LIMITED, paid=bool(row.cost_nusd))
    return True


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
