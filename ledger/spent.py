"""What teams, keys and organisations have spent, for their budgets: the rows that are billed to the team, whose cost is known."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import Engine, func, select

from ledger.schema import attempts

SPENDERS = {"organisation": attempts.c.organisation, "team": attempts.c.team, "key": attempts.c.key_id}
AT_ONCE = 500  # ids in one statement


def spent_nusd(engine: Engine, kind: Literal["organisation", "team", "key"], name: str, since_s: int, but: Sequence[str] = ()) -> int:
    """By attempts that began at `since_s` (Unix time) or later, without those of the requests `but`: all in one look at the table."""
    columns = attempts.c
    query = select(func.coalesce(func.sum(columns.cost_nusd), 0)).where(
        SPENDERS[kind] == name, columns.started_at_us >= since_s * 1_000_000, columns.billed == "team"
    )
    if but:
        query = query.where(columns.request_id.not_in(but))
    with engine.connect() as connection:
        return int(connection.execute(query).scalar_one())


def charged(engine: Engine, request_ids: Sequence[str]) -> dict[str, int]:
    """Request id -> nano-dollars billed to its team, for those that have rows."""
    columns = attempts.c
    found: dict[str, int] = {}
    with engine.connect() as connection:
        for start in range(0, len(request_ids), AT_ONCE):
            query = (
                select(columns.request_id, func.coalesce(func.sum(columns.cost_nusd), 0))
                .where(columns.request_id.in_(request_ids[start : start + AT_ONCE]), columns.billed == "team")
                .group_by(columns.request_id)
            )
            found.update((id, int(cost)) for id, cost in connection.execute(query))
    return found
