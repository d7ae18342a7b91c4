"""`/v1/requests`, `/v1/decisions`, `/v1/targets` and `/v1/reports`: what was asked, decided and measured, for the caller's own team alone."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import InvalidRequest, LedgerUnavailable, NotFound
from gateway.app_parts import Caller
from gateway.runtime import Runtime
from ledger.calibration import GROUPS, calibration
from ledger.queries import attempts_of
from ledger.reports import describe_decision, describe_request, since_us
from ledger.row import AttemptRow

FLUSH_S = 1.0  # how long a report waits for the rows of a moment ago

T = TypeVar("T")


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

    @app.get("/v1/reports/calibration", tags=["reports"])
    def get_calibration(caller: Caller, since: str = "7d", by: str = "target") -> dict[str, Any]:
        """Predicted against actual over the team's attempts of the time since 30m, 24h or 7d ago, by `target` or `model`."""
        if by not in GROUPS:
            raise InvalidRequest(f"by must be one of {', '.join(GROUPS)}", param="by")
        try:
            from_us = since_us(since, time.time())
        except ValueError as exc:
            raise InvalidRequest(str(exc), param="since") from exc
        runtime.ledger.flush(FLUSH_S)
        return {"since": since, "by": by, "data": msgspec.to_builtins(_read(runtime, lambda engine: calibration(engine, from_us, by, caller.team)))}

    @app.get("/v1/targets", tags=["reports"])
    async def list_targets(caller: Caller) -> dict[str, Any]:
        """The targets behind the models that this key may use, with what each did since the gateway started."""
        allowed = [r for r in runtime.routes.all if caller.models is None or r.name in caller.models]
        seen = {target.label: target for route in allowed for target in route.targets}
        return {"data": [{"target": label, "owned": t.owned, **t.stats.summary(time.monotonic())} for label, t in seen.items()]}


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
