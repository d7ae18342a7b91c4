"""Providers' jobs in the database: which rows are left to which job, what was submitted and what became of it.

A row that is left to a job is pending and is asked by nobody. When the job's results are read it is leased for a moment, and settled like every
other (batch/leases.py); what the job did not answer waits again. Every function blocks, and raises SQLAlchemyError.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Engine, and_, func, insert, or_, select, update

from batch.leases import ROW
from batch.schema import batch_jobs, batch_rows, batches
from batch.states import Leased
from batch.store import AT_ONCE


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """As its row has it; see batch/schema.py."""

    id: str
    batch_id: str
    provider: str
    model: str
    rows: int
    made_at_us: int
    open: bool = True
    parts: str | None = None


FIELDS = [batch_jobs.c[name] for name in Job.__struct_fields__]


def planned(engine: Engine, batch_id: str, plan: str, jobs: Mapping[Job, Sequence[int]]) -> bool:
    """A plan and the rows that it leaves to jobs, by their lines: all of it or nothing. False: the batch is not in progress any more."""
    rows = batch_rows.c
    with engine.begin() as connection:
        mine = update(batches).where(batches.c.id == batch_id, batches.c.status == "in_progress").values(plan=plan, worker=None, lease_until_us=None)
        if not connection.execute(mine).rowcount:
            return False
        for job, lines in jobs.items():
            left = 0
            for start in range(0, len(lines), AT_ONCE):
                some = rows.line.in_(lines[start : start + AT_ONCE])
                free = update(batch_rows).where(rows.batch_id == batch_id, some, rows.state == "pending", rows.job.is_(None))
                left += connection.execute(free.values(job=job.id)).rowcount
            if left:
                connection.execute(insert(batch_jobs), {**msgspec.structs.asdict(job), "rows": left})
        return True


def waiting(engine: Engine, batch_id: str) -> list[Leased]:
    """The rows that wait and are left to nobody, in the order of their lines."""
    rows = batch_rows.c
    query = select(*ROW).where(rows.batch_id == batch_id, rows.state == "pending", rows.job.is_(None)).order_by(rows.line)
    with engine.connect() as connection:
        return [Leased(*row) for row in connection.execute(query)]


def count_waiting(engine: Engine, batch_id: str) -> int:
    """The rows that wait and are left to nobody."""
    rows = batch_rows.c
    query = select(func.count()).where(rows.batch_id == batch_id, rows.state == "pending", rows.job.is_(None))
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def open_jobs(engine: Engine) -> list[Job]:
    with engine.connect() as connection:
        return [Job(**row._mapping) for row in connection.execute(select(*FIELDS).where(batch_jobs.c.open).order_by(batch_jobs.c.made_at_us))]


def of_batch(engine: Engine, batch_id: str) -> list[Job]:
    with engine.connect() as connection:
        query = select(*FIELDS).where(batch_jobs.c.batch_id == batch_id).order_by(batch_jobs.c.made_at_us, batch_jobs.c.id)
        return [Job(**row._mapping) for row in connection.execute(query)]


def claim(engine: Engine, id: str, worker: str, now_us: int, until_us: int, alone: bool) -> bool:
    """Whether the job is this worker's to look after until then. `alone`: there is no other worker, whatever leases say."""
    c = batch_jobs.c
    free = [] if alone else [or_(c.worker.is_(None), c.worker == worker, c.lease_until_us < now_us)]
    with engine.begin() as connection:
        mine = update(batch_jobs).where(c.id == id, c.open, *free).values(worker=worker, lease_until_us=until_us)
        return connection.execute(mine).rowcount > 0


def keep(engine: Engine, id: str, worker: str, parts: str) -> bool:
    """Notes how its parts stand. False: the job is another worker's by now."""
    c = batch_jobs.c
    with engine.begin() as connection:
        return connection.execute(update(batch_jobs).where(c.id == id, c.worker == worker, c.open).values(parts=parts)).rowcount > 0


def left_to(engine: Engine, id: str, after_line: int) -> list[Leased]:
    """The next of the rows that are left to it and have not ended."""
    rows = batch_rows.c
    query = select(*ROW).where(rows.job == id, rows.line > after_line, rows.state.in_(("pending", "leased"))).order_by(rows.line).limit(AT_ONCE)
    with engine.connect() as connection:
        return [Leased(*row) for row in connection.execute(query)]


def places(engine: Engine, batch_id: str, lines: Sequence[int]) -> dict[int, Leased]:
    """Rows as they stand, whoever's they are."""
    rows = batch_rows.c
    with engine.connect() as connection:
        query = select(*ROW).where(rows.batch_id == batch_id, rows.line.in_(lines))
        return {row.line: Leased(*row) for row in connection.execute(query)}


def take(engine: Engine, id: str, batch_id: str, lines: Sequence[int], worker: str, until_us: int) -> dict[int, Leased]:
    """Those of its rows that have not ended, leased so that what the job told of them can be written."""
    rows = batch_rows.c
    free = or_(rows.state == "pending", and_(rows.state == "leased", rows.worker != worker))  # by a worker that is gone: the job is this one's now
    taken = (
        update(batch_rows)
        .where(rows.batch_id == batch_id, rows.line.in_(lines), rows.job == id, free)
        .values(state="leased", worker=worker, fence=rows.fence + 1, lease_until_us=until_us)
        .returning(*ROW)
    )
    with engine.begin() as connection:
        return {row.line: Leased(*row) for row in connection.execute(taken)}


def request_ids(engine: Engine, batch_id: str, lines: Sequence[int]) -> dict[int, str | None]:
    """Of rows that were answered: by which request."""
    rows = batch_rows.c
    with engine.connect() as connection:
        query = select(rows.line, rows.request_id).where(rows.batch_id == batch_id, rows.line.in_(lines))
        return {row.line: row.request_id for row in connection.execute(query)}


def release(engine: Engine, id: str, lines: Sequence[int] | None = None, counts: bool = True) -> int:
    """Its rows without a result wait again, for whoever asks them; how many. `lines`: these alone. `counts`: that was an attempt."""
    rows = batch_rows.c
    with engine.begin() as connection:
        total = 0
        for start in range(0, len(lines) if lines is not None else 1, AT_ONCE):
            some = [] if lines is None else [rows.line.in_(lines[start : start + AT_ONCE])]
            freed = update(batch_rows).where(and_(rows.job == id, rows.state == "pending", *some))
            total += connection.execute(freed.values(job=None, attempts=rows.attempts + int(counts))).rowcount
        return total


def ended(engine: Engine, id: str) -> None:
    """Nothing more of it is to come."""
    with engine.begin() as connection:
        connection.execute(update(batch_jobs).where(batch_jobs.c.id == id).values(open=False, worker=None, lease_until_us=None))


def tried(engine: Engine, batch_id: str) -> set[tuple[str, str]]:
    """The providers and models that have had a job for this batch."""
    c: Any = batch_jobs.c
    with engine.connect() as connection:
        return {(provider, model) for provider, model in connection.execute(select(c.provider, c.model).where(c.batch_id == batch_id))}
