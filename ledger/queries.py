"""Reading the ledger: rows of one request, all rows, and what was spent."""

import time
from typing import Any

import msgspec
from sqlalchemy import Engine, Row, select

from contract.raw import ABSENT
from contract.usage import Usage
from ledger.observed import INPUTS, OUTPUTS
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.schema import USAGE_CLASSES, attempts
from ledger.summed import Sums, summed
from ledger.window import FOR_EVER_US, GROUPS, Window, iso_s

_ROW_FIELDS = [name for name in AttemptRow.__struct_fields__ if name not in ("usage", "decision")]


class Spend(msgspec.Struct, frozen=True):
    """Sums over one group. Each cost adds the attempts whose cost is known; `unpriced` counts those that have usage or may have, but no cost.

    `cost_nusd` is the team's, `absorbed_nusd` what the gateway bears: a lost race, an answer begun anew. A request is counted where its first
    attempt is; `failed`: of the attempts, and requests that got none.
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
        return [attempt_row(found) for found in connection.execute(query)]


def all_attempts(engine: Engine, since_us: int = 0) -> list[AttemptRow]:
    """Every attempt that began at `since_us` (Unix time) or later, the oldest first."""
    query = select(attempts).where(attempts.c.started_at_us >= since_us).order_by(attempts.c.started_at_us, attempts.c.attempt)
    with engine.connect() as connection:
        return [attempt_row(found) for found in connection.execute(query)]


def attempt_row(found: Row[Any]) -> AttemptRow:
    columns = found._mapping
    usage = None
    if columns["usage_source"] is not None:
        raw = columns["usage_raw"]
        counts = {name: columns[name] for name in USAGE_CLASSES}
        usage = Usage(
            **counts, source=columns["usage_source"], raw=ABSENT if raw is None else msgspec.Raw(raw.encode()), service_tier=columns["service_tier"]
        )
    decision = columns["decision"]
    decided = None if decision is None else msgspec.Raw(decision.encode())
    return AttemptRow(**{name: columns[name] for name in _ROW_FIELDS}, usage=usage, decision=decided)


def spend(engine: Engine, since_us: int, by: str, team: str | None = None) -> list[Spend]:
    """What was spent since `since_us` (Unix time), the most expensive group first. Raises KeyError for an unknown `by` (see GROUPS)."""
    now = time.time()
    if by not in GROUPS:
        raise KeyError(by)
    roll_up(engine, now)
    found = summed(engine, Window(since_us, FOR_EVER_US, {} if team is None else {"team": team}), [by], now)
    return [_spend(each) for each in sorted(found, key=lambda each: (-(each.cost_nusd or 0), -each.rows))]


def names(engine: Engine, group: str, now_s: float) -> list[str]:
    """The teams, providers or other names (see GROUPS) that there are rows of."""
    roll_up(engine, now_s)
    found = summed(engine, Window(0, int(now_s * 1e6) + 1), (group,), now_s)
    return [str(sums.group[0]) for sums in found if sums.group[0] and (sums.attempts or group != "provider")]


def _name(group: str | int) -> str:
    return group if isinstance(group, str) else iso_s(group)


def _spend(sums: Sums) -> Spend:
    into, out = (sum(getattr(sums, name) or 0 for name in names) for names in (INPUTS, OUTPUTS))
    counts = (_name(sums.group[0]), sums.requests, sums.attempts, sums.failed, into, out)
    return Spend(*counts, sums.cost_nusd, sums.absorbed_nusd, sums.unpriced)
