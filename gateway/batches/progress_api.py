"""`/v1/reports/batches` and `/admin/batches`: how batches get on, whichever dialect they came in. Of what their rows say, nothing."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query
from sqlalchemy.exc import SQLAlchemyError

from batch.states import Batch
from batch.store import Store
from contract.errors import LedgerUnavailable, NotFound
from gateway.admin.gate import Gate
from gateway.admin.reports import team_of
from gateway.admin.roles import AdminCaller
from gateway.app_parts import Caller
from gateway.batches.progress import progress_shown
from gateway.batches.upkeep import now_us
from gateway.reports.query import known_query
from ledger.store import Ledger

MOST = 200

Limit = Annotated[int, Query(ge=1, le=MOST)]


class Looking:
    """Blocks, for a thread of its own. `team` None: whoever's. All raise LedgerUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._store = Store(ledger.engine)

    def page(self, team: str | None, after: str | None, limit: int) -> dict[str, Any]:
        """The newest first. `next_cursor`: the last one's id, where there are more."""
        try:
            found = self._store.page(team, None, after, None, limit + 1)
        except SQLAlchemyError as exc:
            raise _unreadable() from exc
        now, page = now_us(), found[:limit]
        return {"data": [progress_shown(each, now) for each in page], "next_cursor": page[-1].id if len(found) > limit else None}

    def one(self, team: str | None, id: str) -> dict[str, Any]:
        batch = self.find(team, id)
        try:
            return progress_shown(batch, now_us(), self._store.targets(id))
        except SQLAlchemyError as exc:
            raise _unreadable() from exc

    def find(self, team: str | None, id: str) -> Batch:
        """Raises NotFound, the same for another team's as for none."""
        try:
            batch = self._store.get(team, id)
        except SQLAlchemyError as exc:
            raise _unreadable() from exc
        if batch is None:
            raise no_such_batch(id)
        return batch

    def cancel(self, batch: Batch) -> dict[str, Any]:
        """Whoever works at it sees it in a moment."""
        try:
            stopped = self._store.cancel(batch.team, batch.id, now_us())
        except SQLAlchemyError as exc:
            raise _unreadable() from exc
        return progress_shown(stopped or batch, now_us())


def add_progress(app: FastAPI, ledger: Ledger) -> None:
    looking = Looking(ledger)

    @app.get("/v1/reports/batches", tags=["batches"], dependencies=[Depends(known_query)])
    def list_progress(caller: Caller, cursor: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        """The team's batches of either dialect, the newest first: rows, tokens, cost and pace."""
        return looking.page(caller.team, cursor, limit)

    @app.get("/v1/reports/batches/{batch_id}", tags=["batches"])
    def get_progress(batch_id: str, caller: Caller) -> dict[str, Any]:
        """One of them, with how many rows each target answered."""
        return looking.one(caller.team, batch_id)


def add_admin_batches(app: FastAPI, gate: Gate, ledger: Ledger) -> None:
    """An administrator sees how far a batch is and may stop it; what is in its files is its team's alone."""
    looking = Looking(ledger)
    Asking = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/admin/reports/batches", dependencies=[Depends(known_query)])
    def list_progress(caller: Asking, team: str | None = None, cursor: str | None = None, limit: Limit = 50) -> dict[str, Any]:
        return looking.page(team_of(caller, team), cursor, limit)

    @app.get("/admin/reports/batches/{batch_id}")
    def get_progress(batch_id: str, caller: Asking) -> dict[str, Any]:
        _readable(caller, looking.find(None, batch_id))
        return looking.one(None, batch_id)

    @app.post("/admin/batches/{batch_id}/cancel")
    async def cancel_batch(batch_id: str, caller: Asking) -> dict[str, Any]:
        batch = await asyncio.to_thread(looking.find, None, batch_id)
        _readable(caller, batch)
        caller.require_write(batch.team)
        return await asyncio.to_thread(looking.cancel, batch)


def _readable(caller: AdminCaller, batch: Batch) -> None:
    if not caller.may_read(batch.team):
        raise no_such_batch(batch.id)


def no_such_batch(id: str) -> NotFound:
    return NotFound(f"there is no batch {id[:80]!r} here", param="batch_id", code="batch_not_found")


def _unreadable() -> LedgerUnavailable:
    return LedgerUnavailable("files and batches cannot be read or written just now")
