"""Files and batches in the database: made, found, listed, led from state to state. A team sees its own alone: every question names it.

Every method blocks, and raises SQLAlchemyError when the database fails. A transaction that changes anything begins with a change: SQLite then
holds its lock from the start, and PostgreSQL the batch's row, so that whoever else changes the batch waits.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, delete, exists, func, insert, or_, select, tuple_, update

from batch.schema import batch_jobs, batch_rows, batches, files
from batch.states import ACTIVE, CLOSING, ENDS, Batch, Ended, File, Place

FIELDS = [batches.c[name] for name in Batch.__struct_fields__]
FILE_FIELDS = [files.c[name] for name in File.__struct_fields__]
AT_ONCE = 500  # rows in one statement


class Store:
    """One database's. `engine` is its owner's to dispose of."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    # --- files -----------------------------------------------------------------------------------------------------
    def add_file(self, file: File) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(files), {name: getattr(file, name) for name in File.__struct_fields__})

    def file(self, team: str, id: str, now_us: int) -> File | None:
        """None: there is none of this team, or it has expired."""
        query = select(*FILE_FIELDS).where(files.c.id == id, files.c.team == team, _holds(now_us))
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else File(*row)

    def files(self, team: str, now_us: int, purpose: str | None, after: str | None, newest_first: bool, limit: int) -> list[File]:
        query = select(*FILE_FIELDS).where(files.c.team == team, _holds(now_us))
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        with self.engine.connect() as connection:
            return [File(*row) for row in connection.execute(_page(query, files, after, newest_first, limit))]

    def drop_file(self, team: str, id: str) -> bool:
        with self.engine.begin() as connection:
            return connection.execute(delete(files).where(files.c.id == id, files.c.team == team)).rowcount > 0

    def reads(self, id: str) -> bool:
        """Whether a batch that has not ended still reads this file."""
        query = select(exists().where(batches.c.source == id, batches.c.status.in_(ACTIVE)))
        with self.engine.connect() as connection:
            return bool(connection.execute(query).scalar())

    def expired_files(self, now_us: int) -> list[str]:
        with self.engine.begin() as connection:
            read = exists().where(batches.c.source == files.c.id, batches.c.status.in_(ACTIVE))
            gone = delete(files).where(files.c.expires_at_us <= now_us, ~read).returning(files.c.id)
            return [id for (id,) in connection.execute(gone)]

    # --- batches ---------------------------------------------------------------------------------------------------
    def add(self, batch: Batch, places: Iterable[Place] = ()) -> None:
        """All of it or nothing."""
        with self.engine.begin() as connection:
            connection.execute(insert(batches), {name: getattr(batch, name) for name in Batch.__struct_fields__})
            _add_places(connection, batch.id, places)

    def get(self, team: str | None, id: str) -> Batch | None:
        """`team` None: whoever's it is."""
        query = select(*FIELDS).where(batches.c.id == id)
        if team is not None:
            query = query.where(batches.c.team == team)
        with self.engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else _batch(row)

    def page(self, team: str | None, dialect: str | None, after: str | None, before: str | None, limit: int) -> Sequence[Batch]:
        """The newest first; `before` gives those that are newer than it. `team` None: whoever's; `dialect` None: either."""
        asked = {"team": team, "dialect": dialect}
        query = select(*FIELDS).where(*(batches.c[name] == value for name, value in asked.items() if value is not None))
        with self.engine.connect() as connection:
            found = connection.execute(_page(query, batches, after or before, after is not None or before is None, limit))
            rows = [_batch(row) for row in found]
        return rows if before is None or after is not None else rows[::-1]

    def active(self) -> Sequence[Batch]:
        """Every team's batches that have not ended, the oldest first."""
        with self.engine.connect() as connection:
            return [_batch(row) for row in connection.execute(select(*FIELDS).where(batches.c.status.in_(ACTIVE)).order_by(batches.c.made_at_us))]

    def targets(self, id: str) -> dict[str, int]:
        """How many rows each target answered."""
        rows = batch_rows.c
        query = select(rows.target, func.count()).where(rows.batch_id == id, rows.state == "succeeded").group_by(rows.target)
        with self.engine.connect() as connection:
            return {target: count for target, count in connection.execute(query) if target}

    # --- from state to state -----------------------------------------------------------------------------------------
    def claim(self, id: str, worker: str, now_us: int, until_us: int) -> bool:
        """Whether the batch is this worker's to check or to finish, until then."""
        free = or_(batches.c.worker.is_(None), batches.c.worker == worker, batches.c.lease_until_us < now_us)
        with self.engine.begin() as connection:
            mine = update(batches).where(batches.c.id == id, batches.c.status.in_(ACTIVE), free).values(worker=worker, lease_until_us=until_us)
            return connection.execute(mine).rowcount > 0

    def begin_places(self, id: str, worker: str) -> None:
        """What an earlier check has left goes."""
        with self.engine.begin() as connection:
            connection.execute(delete(batch_rows).where(batch_rows.c.batch_id == id, _checks(id, worker)))

    def add_places(self, id: str, worker: str, until_us: int, places: Sequence[Place]) -> bool:
        """False: the batch is somebody else's by now, or it is not to be checked any more."""
        with self.engine.begin() as connection:
            mine = update(batches).where(batches.c.id == id, batches.c.worker == worker, batches.c.status == "validating")
            if not connection.execute(mine.values(lease_until_us=until_us)).rowcount:
                return False
            _add_places(connection, id, places)
            return True

    def checked(self, id: str, worker: str, now_us: int, total: int, errors: str | None) -> bool:
        """Its rows may be asked, or it has failed."""
        mine = update(batches).where(batches.c.id == id, batches.c.worker == worker, batches.c.status == "validating")
        free: dict[str, Any] = {"worker": None, "lease_until_us": None}
        with self.engine.begin() as connection:
            if errors is None:
                return connection.execute(mine.values(status="in_progress", total=total, in_progress_at_us=now_us, **free)).rowcount > 0
            done = connection.execute(mine.values(status="failed", errors=errors, ended_at_us=now_us, **free)).rowcount > 0
            if done:
                connection.execute(delete(batch_rows).where(batch_rows.c.batch_id == id))
            return done

    def cancel(self, team: str, id: str, now_us: int) -> Batch | None:
        """Nothing more of it is begun. One that has ended, or is about to, stays as it is."""
        stop = update(batches).where(batches.c.id == id, batches.c.team == team, batches.c.status.in_(("validating", "in_progress")))
        with self.engine.begin() as connection:
            connection.execute(stop.values(status="cancelling", cancelling_at_us=now_us))
        return self.get(team, id)

    def expire(self, now_us: int) -> None:
        """Those whose time is over."""
        late = update(batches).where(batches.c.status.in_(("validating", "in_progress")), batches.c.expires_at_us <= now_us)
        with self.engine.begin() as connection:
            connection.execute(late.values(status="expiring"))

    def end_pending(self, batch: Batch, now_us: int) -> None:
        """Rows of a batch that was cancelled or has expired, and that nobody is at, end with it."""
        state = CLOSING[batch.status]
        rows = batch_rows.c
        with self.engine.begin() as connection:
            locked = update(batches).where(batches.c.id == batch.id, batches.c.status == batch.status).values(status=batch.status)
            if connection.execute(locked).rowcount:
                if batch.in_progress_at_us is None:  # it was being checked: no row of it was accepted
                    connection.execute(delete(batch_rows).where(rows.batch_id == batch.id))
                    return
                ended = (
                    update(batch_rows)
                    .where(rows.batch_id == batch.id, rows.state == "pending", rows.job.is_(None))
                    .values(state=state, ended_at_us=now_us)
                )
                count = connection.execute(ended).rowcount
                connection.execute(update(batches).where(batches.c.id == batch.id).values({state: batches.c[state] + count}))

    def open_rows(self, id: str) -> bool:
        """Whether some have not come to their end."""
        rows = batch_rows.c
        query = select(rows.line).where(rows.batch_id == id, rows.state.in_(("pending", "leased"))).limit(1)
        with self.engine.connect() as connection:
            return connection.execute(query).first() is not None

    def finalizing(self, id: str, now_us: int) -> None:
        begun = update(batches).where(batches.c.id == id, batches.c.finalizing_at_us.is_(None))
        with self.engine.begin() as connection:
            connection.execute(begun.values(finalizing_at_us=now_us))
            connection.execute(update(batches).where(batches.c.id == id, batches.c.status == "in_progress").values(status="finalizing"))

    def ended_rows(self, id: str, after_line: int) -> list[Ended]:
        """The next of them, in the order of their lines."""
        fields = [batch_rows.c[name] for name in Ended.__struct_fields__]
        query = select(*fields).where(batch_rows.c.batch_id == id, batch_rows.c.line > after_line).order_by(batch_rows.c.line).limit(AT_ONCE)
        with self.engine.connect() as connection:
            return [Ended(*row) for row in connection.execute(query)]

    def finished(self, batch: Batch, worker: str, now_us: int, names: tuple[str | None, str | None], made: Sequence[File] = ()) -> bool:
        """It has ended, and its files are there. `names`: of its output and of its errors; `made`: those that are files of its team.

        False: it is another worker's by now.
        """
        output, error = names
        values = {"status": ENDS[batch.status], "ended_at_us": now_us, "output_file": output, "error_file": error, "worker": None}
        with self.engine.begin() as connection:
            mine = update(batches).where(batches.c.id == batch.id, batches.c.worker == worker, batches.c.status == batch.status)
            if not connection.execute(mine.values(values)).rowcount:
                return False
            for file in made:
                connection.execute(insert(files), {name: getattr(file, name) for name in File.__struct_fields__})
        return True

    def drop_answers(self, id: str) -> None:
        """They stand in the batch's files; a few rows at a time, so that nobody waits long."""
        line = 0
        while True:
            with self.engine.begin() as connection:
                rows = batch_rows.c
                some = update(batch_rows).where(rows.batch_id == id, rows.line > line, rows.line <= line + AT_ONCE)
                if not connection.execute(some.values(answer=None)).rowcount:
                    return
            line += AT_ONCE

    # --- who is told, what is kept --------------------------------------------------------------------------------------
    def untold(self, since_us: int, later: Sequence[str] = (), limit: int = 20) -> Sequence[Batch]:
        """Batches that ended since then without anybody having been told, but for those of `later`."""
        ended = batches.c.status.not_in(ACTIVE), batches.c.told_at_us.is_(None), batches.c.ended_at_us >= since_us, batches.c.id.not_in(list(later))
        with self.engine.connect() as connection:
            return [_batch(row) for row in connection.execute(select(*FIELDS).where(*ended).order_by(batches.c.ended_at_us).limit(limit))]

    def told(self, id: str, now_us: int) -> None:
        with self.engine.begin() as connection:
            connection.execute(update(batches).where(batches.c.id == id).values(told_at_us=now_us))

    def drop(self, team: str | None, ids: Sequence[str]) -> Sequence[tuple[str, str, str]]:
        """Batches that have ended go, with their rows: the id, the dialect and the source of each."""
        ended: list[Any] = [batches.c.id.in_(list(ids)), batches.c.status.not_in(ACTIVE)]
        if team is not None:
            ended.append(batches.c.team == team)
        with self.engine.begin() as connection:
            gone = connection.execute(delete(batches).where(*ended).returning(batches.c.id, batches.c.dialect, batches.c.source)).all()
            for table in (batch_rows, batch_jobs):
                connection.execute(delete(table).where(table.c.batch_id.in_([id for id, _, _ in gone])))
        return [(id, dialect, source) for id, dialect, source in gone]

    def ended_before(self, at_us: int) -> list[str]:
        with self.engine.connect() as connection:
            query = select(batches.c.id).where(batches.c.status.not_in(ACTIVE), batches.c.ended_at_us < at_us).limit(20)
            return [id for (id,) in connection.execute(query)]


def _batch(row: Any) -> Batch:
    return Batch(**row._mapping)


def _holds(now_us: int) -> Any:
    return or_(files.c.expires_at_us.is_(None), files.c.expires_at_us > now_us)


def _checks(id: str, worker: str) -> Any:
    return exists().where(batches.c.id == id, batches.c.worker == worker, batches.c.status == "validating")


def _page(query: Any, table: Any, after: str | None, newest_first: bool, limit: int) -> Any:
    """What follows `after`, in the order of their making."""
    order = (table.c.made_at_us, table.c.id)
    if after is not None:
        at = select(*order).where(table.c.id == after).subquery()
        place = tuple_(*order)
        mark = tuple_(select(at.c.made_at_us).scalar_subquery(), select(at.c.id).scalar_subquery())
        query = query.where(place < mark if newest_first else place > mark)
    return query.order_by(*(each.desc() if newest_first else each for each in order)).limit(limit)


def _add_places(connection: Connection, id: str, places: Iterable[Place]) -> None:
    rows = [{"batch_id": id, "line": p.line, "custom_id": p.custom_id, "at": p.at, "size": p.size} for p in places]
    if rows:
        connection.execute(insert(batch_rows), rows)
