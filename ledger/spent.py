"""What teams, keys and organisations have spent, for their budgets: the rows that are billed to the team, each at its cost.

A row whose cost is not known counts with the upper bound that was reserved for it, where there was a budget.
"""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Engine, func, select

from ledger.adding import added_nusd
from ledger.rollups import DAY, US
from ledger.schema import attempts, rollup_state, usage_rollups

SPENDERS = {"organisation": attempts.c.organisation, "team": attempts.c.team, "key": attempts.c.key_id, "batch": attempts.c.team}
BATCH = "batch."  # what the endpoints of batches' rows begin with
AT_ONCE = 500  # ids in one statement
CHARGED = func.coalesce(attempts.c.cost_nusd, attempts.c.held_nusd)


def spent_nusd(engine: Engine, kind: Literal["organisation", "team", "key", "batch"], name: str, since_s: int, but: Sequence[str] = ()) -> int:
    """By attempts that began at `since_s` (Unix time) or later, without those of the requests `but`.

    Days whose rows are gone are told by their roll-ups; of a team's batches these tell nothing, so that only rows which are kept count.
    """
    columns, days = attempts.c, usage_rollups.c
    gone = select(func.coalesce(added_nusd(func.coalesce(days.cost_nusd, 0) + func.coalesce(days.held_nusd, 0)), 0)).where(
        days[SPENDERS[kind].name] == name,
        days.span_s == DAY,
        days.start_s >= since_s,
        days.start_s < select(rollup_state.c.purged_s).scalar_subquery(),
    )
    query = select(func.coalesce(added_nusd(CHARGED), 0)).where(
        SPENDERS[kind] == name,
        columns.started_at_us >= func.coalesce(select(rollup_state.c.purged_s).scalar_subquery(), 0) * US,
        columns.started_at_us >= since_s * US,
        columns.billed == "team",
    )
    if kind == "batch":
        query = query.where(columns.endpoint.startswith(BATCH, autoescape=True))
    if but:
        query = query.where(columns.request_id.not_in(but))
    with engine.connect() as connection:
        rows = int(connection.execute(query).scalar_one())
        return rows if kind == "batch" else rows + int(connection.execute(gone).scalar_one())


def charged(engine: Engine, request_ids: Sequence[str]) -> dict[str, int]:
    """Request id -> nano-dollars billed to its team, for those that have rows."""
    columns = attempts.c
    found: dict[str, int] = {}
    with engine.connect() as connection:
        for start in range(0, len(request_ids), AT_ONCE):
            query = (
                select(columns.request_id, func.coalesce(added_nusd(CHARGED), 0))
                .where(columns.request_id.in_(request_ids[start : start + AT_ONCE]), columns.billed == "team")
                .group_by(columns.request_id)
            )
            found.update((id, int(cost)) for id, cost in connection.execute(query))
    return found
