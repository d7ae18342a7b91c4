"""What the ledger says to whoever may ask, of one team or of all: the lists and reports behind `/v1` and `/admin` alike."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar

from fastapi import Response
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import InvalidRequest, LedgerUnavailable, NotFound
from gateway.reports.query import Asked, Page, answer, cursor_of, groups_or_refuse
from ledger.breakeven import LIKE as BREAK_EVEN
from ledger.breakeven import as_lines, breakeven
from ledger.described import describe_request
from ledger.engine_time import LIKE as ENGINE
from ledger.engine_time import engine_lines
from ledger.lines import like
from ledger.listing import requests
from ledger.queries import attempts_of
from ledger.reports import REPORTS, ROLL_UP_S, Line, all_kept, unpriced
from ledger.retention import is_whole
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.store import Ledger
from ledger.units import iso

FLUSH_S = 1.0  # how long a report waits for the rows of a moment ago

T = TypeVar("T")
_BLANK = AttemptRow(
    request_id="", attempt=0, started_at_us=0, team="", key_id="", endpoint="", stream=False, model_asked="", route="", target="", model_sent="",
    status="ok", reason="",
)  # fmt: skip
REQUEST = {"time": "", **describe_request([_BLANK]), "attempts": 0}

ABOUT = {
    "usage": "Requests, attempts and tokens by class over the team's attempts of a time.",
    "cost": "What they cost, what the gateway bore and what kept answers saved; `unpriced` lists the targets with attempts whose cost is not known.",
    "slo": "How many requests kept their policy's SLO.",
    "latency": "Time to first token, between tokens, to the end, in our queue, at the upstream and of our own: p50, p90, p95 and p99.",
    "calibration": "Predicted against actual, by `target` or `model`.",
}


class Reporting:
    """Blocks while it reads: for a thread of its own. `team` None: everybody's. All raise InvalidRequest and LedgerUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._making = Lock()  # roll-ups: one thread makes them, the others' reports wait for it

    def rows(self, request_id: str, may_read: Callable[[str], bool]) -> list[AttemptRow]:
        """A request's attempts. Raises NotFound, for one of a team that the caller may not read too."""
        written = self._ledger.flush(FLUSH_S)
        rows = self._read(lambda engine: attempts_of(engine, request_id, None))
        if not rows and not written:
            raise LedgerUnavailable("the ledger cannot be written just now, so this request may be missing from it; try again")
        if not rows or not may_read(rows[0].team):
            raise NotFound(f"there is no request {request_id[:80]!r} of this team", param="request_id")
        return rows

    def requests(self, asked: Asked, team: str | None) -> Response:
        """The newest first, with how each ended; filtered by what one of its attempts was."""
        page = asked.page(team)
        self._ledger.flush(FLUSH_S)
        if isinstance(page.after, int):
            raise InvalidRequest("this cursor is of another list", param="cursor")
        after = page.after
        found, more = self._read(lambda engine: requests(engine, page.window, page.limit, after))
        lines = [{"time": iso(rows[0].started_at_us), **describe_request(rows)} for rows in found]
        if asked.format == "csv":
            lines = [{**line, "attempts": sum(each["attempt"] > 0 for each in line["attempts"])} for line in lines]
        whole = self._read(lambda engine: is_whole(engine, page.window, by_rows=True))
        return answer(asked, lines, REQUEST, cursor_of(page, more), **_time_of(page), whole=whole)

    def report(self, name: str, asked: Asked, group_by: str | None, team: str | None) -> Response:
        """One of `ledger.reports.REPORTS`."""
        groups = groups_or_refuse(group_by, REPORTS[name])
        page, now = asked.page(team, groups), time.time()
        part = _part(page)
        self._ledger.flush(FLUSH_S)
        whole = self._rolled_up(now)
        try:
            lines = self._read(lambda engine: REPORTS[name].lines(engine, page.window, groups, now))
        except KeyError as exc:
            raise InvalidRequest(f"this report cannot be filtered by {exc.args[0]}", param=str(exc.args[0])) from exc
        whole = whole and self._read(lambda engine: all_kept(engine, name, page.window, groups))
        beside: dict[str, Any] = {**_time_of(page), "group_by": groups, "whole": whole}
        if name == "cost":
            beside["unpriced"] = self._read(lambda engine: unpriced(engine, page.window, now))
        return answer(asked, lines[part], like(name, groups), cursor_of(page, part.stop if part.stop < len(lines) else None), **beside)

    def breakeven(self, asked: Asked, gpu_usd_per_hour: float | None, team: str | None) -> Response:
        """At which volume each engine that was used is cheaper than each managed target, for this traffic."""
        prices = {} if gpu_usd_per_hour is None else {"": gpu_usd_per_hour}
        return self._of_engines(asked, team, BREAK_EVEN, lambda engine, window, now: as_lines(breakeven(engine, window, prices, now)))

    def engines(self, asked: Asked, may_see: bool = True) -> Response:
        """How long each engine was up, busy and asleep, and what that cost. Its hours are everybody's: nothing for who may not see those."""
        return self._of_engines(asked, None, ENGINE, engine_lines if may_see else _none)

    def _of_engines(self, asked: Asked, team: str | None, like: Line, lines_of: Callable[..., list[Line]]) -> Response:
        page, now = asked.page(team), time.time()
        part = _part(page)
        self._ledger.flush(FLUSH_S)
        whole = self._rolled_up(now)
        lines = self._read(lambda engine: lines_of(engine, page.window, now))
        whole = whole and self._read(lambda engine: is_whole(engine, page.window))
        beside = {**_time_of(page), "whole": whole}
        return answer(asked, lines[part], like, cursor_of(page, part.stop if part.stop < len(lines) else None), **beside)

    def _rolled_up(self, now: float) -> bool:
        """False: not all within a report's time, or somebody else has the database to itself."""
        if not self._making.acquire(timeout=ROLL_UP_S):
            return False
        try:
            return roll_up(self._ledger.engine, now, ROLL_UP_S)
        except SQLAlchemyError:
            return False
        finally:
            self._making.release()

    def _read(self, query: Callable[[Engine], T]) -> T:
        try:
            return query(self._ledger.engine)
        except SQLAlchemyError as exc:
            raise LedgerUnavailable("the ledger cannot be read just now; try again") from exc


def _time_of(page: Page) -> dict[str, str]:
    return {"from": iso(page.window.from_us), "to": iso(page.window.to_us)}


def _none(*_: object) -> list[Line]:
    return []


def _part(page: Page) -> slice:
    """Which lines are told. Raises InvalidRequest."""
    after = page.after or 0
    if not isinstance(after, int):
        raise InvalidRequest("this cursor is of another list", param="cursor")
    return slice(after, after + page.limit)
