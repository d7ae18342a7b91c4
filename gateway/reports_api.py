"""`/v1/requests`, `/v1/decisions`, `/v1/targets` and `/v1/reports`: what was asked, decided and measured, for the caller's own team alone."""

import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import Depends, FastAPI, Query, Response
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import InvalidRequest, LedgerUnavailable, NotFound
from gateway.app_parts import Caller
from gateway.reports_query import Asked, answer, cursor_of, groups_or_refuse
from gateway.runtime import Runtime
from ledger.breakeven import as_lines, breakeven
from ledger.described import describe_decision, describe_request
from ledger.listing import requests
from ledger.queries import attempts_of
from ledger.reports import REPORTS, ROLL_UP_S, Report, unpriced
from ledger.reports import report as make_report
from ledger.rollups import roll_up
from ledger.row import AttemptRow
from ledger.units import iso
from providers.port import Backend

FLUSH_S = 1.0  # how long a report waits for the rows of a moment ago

T = TypeVar("T")

ABOUT = {
    "usage": "Requests, attempts and tokens by class over the team's attempts of a time.",
    "cost": "What they cost, what the gateway bore and what kept answers saved; `unpriced` lists the targets with attempts whose cost is not known.",
    "slo": "How many requests kept their policy's SLO.",
    "latency": "Time to first token, between tokens, to the end, in our queue, at the upstream and of our own: p50, p90 and p99.",
    "calibration": "Predicted against actual, by `target` or `model`.",
}


def add_reports(app: FastAPI, runtime: Runtime) -> None:
    """Adds the routes to the app."""

    @app.get("/v1/requests/{request_id}", tags=["reports"])
    def get_request(request_id: str, caller: Caller) -> dict[str, Any]:
        """Every attempt of one request of the caller's team: target, status, times, usage, cost, and what had been predicted."""
        return describe_request(_rows(runtime, request_id, caller.team))

    @app.get("/v1/decisions/{request_id}", tags=["reports"])
    def get_decision(request_id: str, caller: Caller) -> dict[str, Any]:
        """What was decided about one request of the caller's team: candidates, predictions, the rule that removed each, and what then happened."""
        return describe_decision(_rows(runtime, request_id, caller.team))

    @app.get("/v1/requests", tags=["reports"])
    def list_requests(caller: Caller, asked: Annotated[Asked, Depends()]) -> Response:
        """The team's requests, the newest first, with how each ended; filtered by what one of its attempts was."""
        page = asked.page(caller.team)
        runtime.ledger.flush(FLUSH_S)
        if isinstance(page.after, int):
            raise InvalidRequest("this cursor is of another list", param="cursor")
        after = page.after
        found, more = _read(runtime, lambda engine: requests(engine, page.window, page.limit, after))
        lines = [{"time": iso(rows[0].started_at_us), **describe_request(rows)} for rows in found]
        if asked.format == "csv":
            lines = [{**line, "attempts": len(line["attempts"])} for line in lines]
        return answer(asked, lines, cursor_of(page, more))

    for name, report in REPORTS.items():
        _add_report(app, runtime, name, report)

    @app.get("/v1/reports/breakeven", tags=["reports"])
    def get_breakeven(caller: Caller, asked: Annotated[Asked, Depends()], gpu_usd_per_hour: Annotated[float | None, Query(gt=0)] = None) -> Response:
        """At which volume each engine that the team used is cheaper than each managed target, for the team's own traffic."""
        page, now = asked.page(caller.team), time.time()
        runtime.ledger.flush(FLUSH_S)
        prices = {} if gpu_usd_per_hour is None else {"": gpu_usd_per_hour}
        whole = _read(runtime, lambda engine: roll_up(engine, now, ROLL_UP_S))
        lines = as_lines(_read(runtime, lambda engine: breakeven(engine, page.window, prices, now)))
        return answer(asked, lines, None, **{"from": iso(page.window.from_us), "to": iso(page.window.to_us), "whole": whole})

    @app.get("/v1/targets", tags=["reports"])
    async def list_targets(caller: Caller) -> dict[str, Any]:
        """The targets behind the models that this key may use, and how each does; how much it did in all only where there is one team."""
        hidden = () if runtime.keys.one_team else ("attempts", "failures", "output_tokens", "live")
        allowed = [r for r in runtime.routes.all if caller.models is None or r.name in caller.models]
        seen = {target.label: target for route in allowed for target in route.targets}
        now = time.monotonic()
        told = [{"target": label, "owned": t.owned, "live": _live(t.backend), **t.stats.summary(now)} for label, t in seen.items()]
        return {"data": [{name: value for name, value in each.items() if name not in hidden} for each in told]}


def _live(backend: Backend) -> dict[str, Any] | None:
    """What an engine tells of itself just now, whoever's requests are in it; null: it is not looked at."""
    seen = backend.reading()
    return None if seen is None else {name: value for name, value in msgspec.to_builtins(seen).items() if name != "at"}


def _add_report(app: FastAPI, runtime: Runtime, name: str, report: Report) -> None:
    @app.get(f"/v1/reports/{name}", tags=["reports"], name=f"report_{name}", description=ABOUT[name])
    def get_report(caller: Caller, asked: Annotated[Asked, Depends()], group_by: str | None = None) -> Response:
        groups = groups_or_refuse(group_by, report)
        page = asked.page(caller.team)
        after = page.after or 0
        if not isinstance(after, int):
            raise InvalidRequest("this cursor is of another list", param="cursor")
        runtime.ledger.flush(FLUSH_S)
        now = time.time()
        try:
            lines, whole = _read(runtime, lambda engine: make_report(engine, name, page.window, groups, now))
        except KeyError as exc:
            raise InvalidRequest(f"this report cannot be filtered by {exc.args[0]}", param=str(exc.args[0])) from exc
        end = after + page.limit
        beside: dict[str, Any] = {"from": iso(page.window.from_us), "to": iso(page.window.to_us), "group_by": groups, "whole": whole}
        if name == "cost":
            beside["unpriced"] = _read(runtime, lambda engine: unpriced(engine, page.window, now))
        return answer(asked, lines[after:end], cursor_of(page, end if end < len(lines) else None), **beside)


def _rows(runtime: Runtime, request_id: str, team: str) -> list[AttemptRow]:
    """A request's attempts. Raises NotFound for one of another team too, LedgerUnavailable."""
    written = runtime.ledger.flush(FLUSH_S)
    rows = _read(runtime, lambda engine: attempts_of(engine, request_id, team))
    if not rows and not written:
        raise LedgerUnavailable("the ledger cannot be written just now, so this request may be missing from it; try again")
    if not rows:
        raise NotFound(f"there is no request {request_id[:80]!r} of this team", param="request_id")
    return rows


def _read(runtime: Runtime, query: Callable[[Engine], T]) -> T:
    try:
        return query(runtime.ledger.engine)
    except SQLAlchemyError as exc:
        raise LedgerUnavailable("the ledger cannot be read just now; try again") from exc
