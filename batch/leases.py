"""Rows from hand to hand: leased to a worker, kept by its heartbeat, given back, or ended with what they brought.

A row is leased to one worker at a time, under a fence that grows with each lease. A worker that is not heard of for the lease's length loses its
rows; what it still writes is late: `settle` refuses it, and says so. Blocks; raises SQLAlchemyError.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, bindparam, exists, or_, select, tuple_, update

from batch.schema import SUMS, TALLIES, batch_jobs, batch_rows, batches
from batch.states import CLOSING, Leased, Outcome
from batch.store import AT_ONCE

ROW = [batch_rows.c[name] for name in Leased.__struct_fields__]


def lease(engine: Engine, batch_id: str, worker: str, limit: int, now_us: int, until_us: int) -> list[Leased]:
    """Up to `limit` rows that wait; none of a batch that is not in progress."""
    rows = batch_rows.c
    due = (
        select(rows.line)
        .where(rows.batch_id == batch_id, rows.state == "pending", rows.job.is_(None), rows.not_before_us <= now_us)
        .order_by(rows.line)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    taken = (
        update(batch_rows)
        .where(
            rows.batch_id == batch_id,
            rows.state == "pending",
            rows.line.in_(select(due.c.line)),
            exists().where(batches.c.id == batch_id, batches.c.status == "in_progress"),
        )
        .values(state="leased", worker=worker, fence=rows.fence + 1, lease_until_us=until_us)
        .returning(*ROW)
    )
    with engine.begin() as connection:
        return sorted((Leased(*row) for row in connection.execute(taken)), key=lambda row: row.line)


def heartbeat(engine: Engine, worker: str, ids: Sequence[str], until_us: int) -> None:
    """The worker lives: the rows that it has of these batches stay its own."""
    rows = batch_rows.c
    own = rows.batch_id.in_(ids), rows.state == "leased", rows.worker == worker
    with engine.begin() as connection:
        key = tuple_(rows.batch_id, rows.line)
        kept = select(rows.batch_id, rows.line).where(*own).order_by(rows.batch_id, rows.line).with_for_update()  # in the order of `settle`
        connection.execute(update(batch_rows).where(key.in_(kept)).values(lease_until_us=until_us))


def reclaim(engine: Engine, worker: str, ids: Sequence[str], now_us: int, dead: Sequence[str] = (), alone: bool = False) -> int:
    """Rows of workers that are gone wait again; how many. `dead`: workers known to be gone; `alone`: all others are, whatever leases say."""
    rows = batch_rows.c
    gone = [rows.batch_id.in_(ids), rows.state == "leased", rows.worker != worker]
    if not alone:
        gone.append(or_(rows.lease_until_us < now_us, rows.worker.in_(list(dead))))
    with engine.connect() as connection:
        touched = sorted(connection.execute(select(rows.batch_id).where(*gone).distinct()).scalars())
    if not touched and not dead:
        return 0
    with engine.begin() as connection:
        _locked(connection, touched)
        for table in (batches, batch_jobs) if dead else ():  # nor are they at a whole batch, nor at a provider's job
            connection.execute(update(table).where(table.c.worker.in_(list(dead))).values(worker=None, lease_until_us=None))
        lost = connection.execute(update(batch_rows).where(*gone).values(state="pending", worker=None).returning(rows.batch_id, rows.job)).all()
        counts: dict[str, int] = defaultdict(int)
        for batch_id, job in lost:
            counts[batch_id] += job is None  # those of a provider's job are read again, not asked again
        for batch_id, count in sorted(counts.items()):
            connection.execute(update(batches).where(batches.c.id == batch_id).values(repeated=batches.c.repeated + count))
    return sum(counts.values())


def _locked(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The statuses of these batches, which nobody else writes until the transaction ends. Whoever writes rows and their sums begins with it."""
    if connection.dialect.name == "sqlite":  # a transaction that begins with a change waits for its turn; one that reads first may fail
        connection.execute(update(batches).where(batches.c.id.in_(ids)).values(repeated=batches.c.repeated))
    found = connection.execute(select(batches.c.id, batches.c.status).where(batches.c.id.in_(ids)).order_by(batches.c.id).with_for_update())
    return {row.id: row.status for row in found}


def settle(connection: Connection, worker: str, outcomes: Sequence[Outcome], now_us: int) -> list[bool]:
    """Writes what became of rows, in the caller's transaction; for each whether it counts. False: the row was another's by then.

    A row of a batch that was cancelled or has expired meanwhile, and that has no answer, ends as its batch does.
    """
    ids = sorted({outcome.row.batch_id for outcome in outcomes})
    statuses = _locked(connection, ids)
    held = _held(connection, worker, outcomes)
    counted = [held.get((outcome.row.batch_id, outcome.row.line)) == outcome.row.fence for outcome in outcomes]
    ended = [_ended(outcome, statuses) for outcome, counts in zip(outcomes, counted, strict=True) if counts]
    if ended:
        connection.execute(_WRITE, [_values(outcome, now_us) for outcome in ended])
        for id in ids:
            _count(connection, id, [outcome for outcome in ended if outcome.row.batch_id == id])
    return counted


def _held(connection: Connection, worker: str, outcomes: Iterable[Outcome]) -> dict[tuple[str, int], int]:
    """The fences of those rows that are still this worker's."""
    lines: dict[str, list[int]] = defaultdict(list)
    for outcome in outcomes:
        lines[outcome.row.batch_id].append(outcome.row.line)
    rows, held = batch_rows.c, {}
    for batch_id, of_batch in sorted(lines.items()):
        for start in range(0, len(of_batch), AT_ONCE):
            some = rows.batch_id == batch_id, rows.line.in_(of_batch[start : start + AT_ONCE]), rows.state == "leased", rows.worker == worker
            query = select(rows.line, rows.fence).where(*some).order_by(rows.line).with_for_update()
            held.update({(batch_id, line): fence for line, fence in connection.execute(query)})
    return held


def _ended(outcome: Outcome, statuses: dict[str, str]) -> Outcome:
    status = statuses.get(outcome.row.batch_id, "")
    return replace(outcome, state=CLOSING[status]) if status in CLOSING and outcome.state in ("pending", "cancelled") else outcome


_WRITE = (
    update(batch_rows)
    .where(batch_rows.c.batch_id == bindparam("of_batch"), batch_rows.c.line == bindparam("of_line"))
    .values(
        state=bindparam("state"),
        worker=None,
        lease_until_us=None,
        attempts=bindparam("attempts"),
        job=None,
        not_before_us=bindparam("not_before_us"),
        ended_at_us=bindparam("ended_at_us"),
        request_id=bindparam("request_id"),
        status_code=bindparam("status_code"),
        target=bindparam("target"),
        cost_nusd=bindparam("cost_nusd"),
        answer=bindparam("answer"),
    )
)


def _values(outcome: Outcome, now_us: int) -> dict[str, Any]:
    row, used = outcome.row, outcome.used
    return {
        "of_batch": row.batch_id,
        "of_line": row.line,
        "state": outcome.state,
        "attempts": row.attempts + outcome.counts,
        "not_before_us": outcome.not_before_us,
        "ended_at_us": None if outcome.state == "pending" else now_us,
        "request_id": outcome.request_id,
        "status_code": outcome.status_code,
        "target": outcome.target,
        "cost_nusd": None if used is None else used.cost_nusd,
        "answer": outcome.answer,
    }


def _count(connection: Connection, id: str, ended: Sequence[Outcome]) -> None:
    added: dict[str, int] = defaultdict(int)
    for outcome in ended:
        if outcome.state in TALLIES:
            added[outcome.state] += 1
        used = outcome.used
        if used is not None:
            for name in SUMS[:4]:
                added[name] += getattr(used, name)
            added["cost_nusd"] += used.cost_nusd or 0
            added["unpriced"] += used.cost_nusd is None
    if more := {name: batches.c[name] + count for name, count in added.items() if count}:
        connection.execute(update(batches).where(batches.c.id == id).values(more))
