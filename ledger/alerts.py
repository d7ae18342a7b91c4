"""Which thresholds of budgets were reached, each once for its window whoever saw it, and whether somebody has been told."""

import time

import msgspec
from sqlalchemy import Engine, func, or_, select, update

from ledger.database import upsert
from ledger.schema import alerts

CLAIM_S = 60  # who took an alert to tell it and did not by then is gone: another process may


class Alert(msgspec.Struct, frozen=True):
    """`share`: of the budget. Money in nano-dollars, as it stood when it was seen."""

    id: str
    scope_kind: str
    scope_name: str
    window: str
    start_s: int
    share: float
    budget_nusd: int
    spent_nusd: int
    on_exhausted: str
    seen_at_us: int


def note(engine: Engine, found: list[Alert]) -> None:
    """Keeps those that are new."""
    with engine.begin() as connection:
        connection.execute(upsert(connection, alerts).on_conflict_do_nothing(), [msgspec.structs.asdict(each) for each in found])


def claim(engine: Engine, most: int = 20) -> list[Alert]:
    """Alerts that nobody was told of yet; for CLAIM_S no other process gets them."""
    now_us = time.time_ns() // 1000
    free = or_(alerts.c.claimed_at_us.is_(None), alerts.c.claimed_at_us < now_us - CLAIM_S * 1_000_000)
    due = select(alerts.c.id).where(alerts.c.told_at_us.is_(None), free).order_by(alerts.c.seen_at_us).limit(most)
    taken = update(alerts).where(alerts.c.id.in_(due), free)  # `free` once more: PostgreSQL looks again at a row that another took meanwhile
    fields = [alerts.c[name] for name in Alert.__struct_fields__]
    with engine.begin() as connection:
        rows = connection.execute(taken.values(claimed_at_us=now_us).returning(*fields))
        return sorted((Alert(*row) for row in rows), key=lambda each: each.seen_at_us)


def told(engine: Engine, id: str) -> None:
    with engine.begin() as connection:
        connection.execute(update(alerts).where(alerts.c.id == id).values(told_at_us=time.time_ns() // 1000))


def untold(engine: Engine) -> int:
    """How many nobody was told of yet."""
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).where(alerts.c.told_at_us.is_(None))).scalar_one())
