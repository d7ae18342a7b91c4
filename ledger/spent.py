"""What teams, keys and organisations have spent, for their budgets: the rows that are billed to the team, whose cost is known."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Engine, func, select

from ledger.schema import attempts

SPENDERS = {"organisation": attempts.c.organisation, "team": attempts.c.team, "key": attempts.c.key_id}
AT_ONCE = 500  # ids in one statement


def spent_nusd(engine: Engine, kind: Literal["organisation", "team", "key"], name: str, since_s: int) -> int:
    """By attempts that began at `since_s` (Unix time) or later."""
    columns = attempts.c
    query = select(func.coalesce(func.sum(columns.cost_nusd), 0)).where(
        SPENDERS[kind] == name, columns.started_at_us >= since_s * 1_000_000, columns.billed == "team"
    )
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def charged(engine: Engine, request_ids: Sequence[str], since_s: int = 0) -> dict[str, int]:
    """Request id -> nano-dollars billed to its team, for those that have rows, of attempts that began at `since_s` or later."""
    columns = attempts.c
    found: dict[str, int] = {}
    with engine.connect() as connection:
        for start in range(0, len(request_ids), AT_ONCE):
            query = (
                select(columns.request_id, func.coalesce(func.sum(columns.cost_nusd), 0))
                .where(columns.request_id.in_(request_ids[start : start + AT_ONCE]), columns.billed == "team")
                .where(columns.started_at_us >= since_s * 1_000_000)
                .group_by(columns.request_id)
            )
            found.update((id, int(cost)) for id, cost in connection.execute(query))
    return found
