"""History at other prices: every row's usage is priced again, and what comes out differently takes the place of what was there."""

from collections.abc import Callable

import msgspec
from sqlalchemy import Engine, bindparam, insert, select, update

from ledger.prices import Price, cost_nusd
from ledger.queries import attempt_row
from ledger.rollups import minute_of, stale
from ledger.row import AttemptRow
from ledger.schema import attempts, stale_spans

AT_ONCE = 2_000


class Repriced(msgspec.Struct):
    """Of one target. `unknown`: rows whose usage has no price now; they keep what they have."""

    target: str
    rows: int = 0
    changed: int = 0
    unknown: int = 0
    before_nusd: int = 0
    after_nusd: int = 0


def reprice(engine: Engine, since_us: int, price_of: Callable[[AttemptRow], Price | None], dry_run: bool = False) -> list[Repriced]:
    """Rows that began at `since_us` (Unix time) or later and have usage, by target. `price_of` None: not known. Raises SQLAlchemyError."""
    found: dict[str, Repriced] = {}
    columns = attempts.c
    change = update(attempts).where(columns.request_id == bindparam("id"), columns.attempt == bindparam("number")).values(cost_nusd=bindparam("cost"))
    after = (since_us, "", -1)
    while True:
        at_us, id, number = after
        later = (columns.started_at_us > at_us) | (
            (columns.started_at_us == at_us) & ((columns.request_id > id) | ((columns.request_id == id) & (columns.attempt > number)))
        )
        query = select(attempts).where(later, columns.started_at_us >= since_us, columns.usage_source.is_not(None))
        query = query.order_by(columns.started_at_us, columns.request_id, columns.attempt).limit(AT_ONCE)
        with engine.begin() as connection:
            rows = [attempt_row(row) for row in connection.execute(query)]
            changed = [(row, cost) for row in rows if (cost := _priced(row, price_of, found)) is not None and cost != row.cost_nusd]
            if changed and not dry_run:
                connection.execute(change, [{"id": row.request_id, "number": row.attempt, "cost": cost} for row, cost in changed])
                connection.execute(insert(stale_spans), stale({minute_of(row.started_at_us) for row, _ in changed}))
        if len(rows) < AT_ONCE:
            return sorted(found.values(), key=lambda each: each.target)
        after = (rows[-1].started_at_us, rows[-1].request_id, rows[-1].attempt)


def _priced(row: AttemptRow, price_of: Callable[[AttemptRow], Price | None], found: dict[str, Repriced]) -> int | None:
    name = row.target if row.target == row.model_sent else f"{row.target}/{row.model_sent}"
    sums = found.setdefault(name, Repriced(name))
    cost = cost_nusd(price_of(row), row.usage)
    sums.rows += 1
    sums.before_nusd += row.cost_nusd or 0
    sums.after_nusd += (row.cost_nusd or 0) if cost is None else cost
    sums.unknown += cost is None
    sums.changed += cost is not None and cost != row.cost_nusd
    return cost
