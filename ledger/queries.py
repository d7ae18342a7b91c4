"""Reading the ledger: rows of one request, sums by team, target, model or key. SQL sums, Python only shapes."""

from typing import Any

import msgspec
from sqlalchemy import Engine, Row, case, func, select

from contract.raw import ABSENT
from contract.usage import Usage
from ledger.row import ANSWERED, ENDED_WELL, AttemptRow
from ledger.schema import USAGE_CLASSES, attempts

GROUPS = {
    "team": attempts.c.team,
    "key": attempts.c.key_id,
    "model": attempts.c.model_asked,
    "target": attempts.c.target,
    "model_sent": attempts.c.model_sent,
    "status": attempts.c.status,
}
_ROW_FIELDS = [name for name in AttemptRow.__struct_fields__ if name not in ("usage", "decision")]


class Spend(msgspec.Struct, frozen=True):
    """Sums over one group. Each cost adds the attempts whose cost is known; `unpriced` counts those that have usage or may have, but no cost.

    `cost_nusd` is the team's, `absorbed_nusd` what the gateway bears: a lost race, an answer begun anew. `failed`: of the attempts, and requests
    that got none.
    """

    group: str
    requests: int
    attempts: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_nusd: int | None
    absorbed_nusd: int | None
    unpriced: int


def attempts_of(engine: Engine, request_id: str, team: str | None) -> list[AttemptRow]:
    """Every attempt of a request in order; `team` None: whoever's it is."""
    query = select(attempts).where(attempts.c.request_id == request_id).order_by(attempts.c.attempt)
    if team is not None:
        query = query.where(attempts.c.team == team)
    with engine.connect() as connection:
        return [_row(found) for found in connection.execute(query)]


def all_attempts(engine: Engine, since_us: int = 0) -> list[AttemptRow]:
    """Every attempt that began at `since_us` (Unix time) or later, the oldest first."""
    query = select(attempts).where(attempts.c.started_at_us >= since_us).order_by(attempts.c.started_at_us, attempts.c.attempt)
    with engine.connect() as connection:
        return [_row(found) for found in connection.execute(query)]


def _row(found: Row[Any]) -> AttemptRow:
    columns = found._mapping
    usage = None
    if columns["usage_source"] is not None:
        raw = columns["usage_raw"]
        counts = {name: columns[name] for name in USAGE_CLASSES}
        usage = Usage(**counts, source=columns["usage_source"], raw=ABSENT if raw is None else msgspec.Raw(raw.encode()))
    decision = columns["decision"]
    decided = None if decision is None else msgspec.Raw(decision.encode())
    return AttemptRow(**{name: columns[name] for name in _ROW_FIELDS}, usage=usage, decision=decided)


def spend(engine: Engine, since_us: int, by: str, team: str | None = None) -> list[Spend]:
    """What was spent since `since_us` (Unix time), the most expensive group first. Raises KeyError for an unknown `by` (see GROUPS)."""
    group = GROUPS[by]
    columns = attempts.c
    zero = func.coalesce
    input_tokens = sum(
        (zero(columns[name], 0) for name in ("cache_read", "cache_write_5m", "cache_write_1h", "audio_input")),
        zero(columns.input_uncached, 0),
    )
    output_tokens = sum((zero(columns[name], 0) for name in ("reasoning", "audio_output")), zero(columns.output_visible, 0))
    given_up = (columns.status == "abandoned") & (columns.bytes_request > 0)
    unknown = columns.cost_nusd.is_(None) & (columns.usage_source.is_not(None) | columns.status.in_(ANSWERED) | given_up)  # as AttemptRow.priced
    charged = func.sum(case((columns.billed == "team", columns.cost_nusd)))
    query = (
        select(
            group,
            func.count(func.distinct(columns.request_id)),
            func.sum(case((columns.attempt > 0, 1), else_=0)),
            func.sum(case((columns.status.in_(ENDED_WELL), 0), else_=1)),
            zero(func.sum(input_tokens), 0),
            zero(func.sum(output_tokens), 0),
            charged,
            func.sum(case((columns.billed == "gateway", columns.cost_nusd))),
            func.sum(case((unknown, 1), else_=0)),
        )
        .where(columns.started_at_us >= since_us)
        .group_by(group)
        .order_by(zero(charged, 0).desc(), func.count().desc(), group)
    )
    if team is not None:
        query = query.where(columns.team == team)
    with engine.connect() as connection:
        return [Spend(*found) for found in connection.execute(query)]
