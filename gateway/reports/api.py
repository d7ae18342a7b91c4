"""`/v1/requests`, `/v1/decisions`, `/v1/targets` and `/v1/reports`: what was asked, decided and measured, for the caller's own team alone."""

from typing import Annotated, Any

from fastapi import Depends, FastAPI, Response

from gateway.app_parts import Caller
from gateway.reports.query import Asked, PricePerHour
from gateway.reports.reporting import ABOUT, Reporting
from gateway.reports.routes_shown import ALL_TEAMS_ONLY, Question, explained, routes_shown, targets_shown, visible
from gateway.reports.standing_shown import standing_shown
from gateway.runtime import Runtime
from ledger.described import describe_decision, describe_request
from ledger.reports import REPORTS


def add_reports(app: FastAPI, runtime: Runtime) -> None:
    """Adds the routes to the app."""
    reporting = Reporting(runtime.ledger)

    @app.get("/v1/requests/{request_id}", tags=["reports"])
    def get_request(request_id: str, caller: Caller) -> dict[str, Any]:
        """Every attempt of one request of the caller's team: target, status, times, usage, cost, and what had been predicted."""
        return describe_request(reporting.rows(request_id, lambda team: team == caller.team))

    @app.get("/v1/decisions/{request_id}", tags=["reports"])
    def get_decision(request_id: str, caller: Caller) -> dict[str, Any]:
        """What was decided about one request of the caller's team: candidates, predictions, the rule that removed each, and what then happened."""
        return describe_decision(reporting.rows(request_id, lambda team: team == caller.team))

    @app.get("/v1/requests", tags=["reports"])
    def list_requests(caller: Caller, asked: Annotated[Asked, Depends()]) -> Response:
        """The team's requests, the newest first, with how each ended; filtered by what one of its attempts was."""
        return reporting.requests(asked, caller.team)

    for name in REPORTS:
        _add_report(app, reporting, name)

    @app.get("/v1/reports/breakeven", tags=["reports"])
    def get_breakeven(caller: Caller, asked: Annotated[Asked, Depends()], gpu_usd_per_hour: PricePerHour = None) -> Response:
        """At which volume each engine that the team used is cheaper than each managed target, for the team's own traffic."""
        return reporting.breakeven(asked, gpu_usd_per_hour, caller.team)

    @app.get("/v1/reports/engines", tags=["reports"])
    def get_engines(caller: Caller, asked: Annotated[Asked, Depends()]) -> Response:
        """How long each owned engine was up and busy and what that cost; empty where there are several teams, since its hours are everybody's."""
        return reporting.engines(asked, may_see=runtime.keys.one_team)

    _add_now(app, runtime)


def _add_now(app: FastAPI, runtime: Runtime) -> None:
    """What holds at this moment, which no row of the ledger says."""

    @app.get("/v1/targets", tags=["reports"])
    async def list_targets(caller: Caller) -> dict[str, Any]:
        """The targets behind the models that this key may use, and how each does; how much it did in all only where there is one team."""
        hidden = () if runtime.keys.one_team else ALL_TEAMS_ONLY
        told = targets_shown(visible(runtime.routes, caller.models), caller.rule)
        return {"data": [{name: value for name, value in each.items() if name not in hidden} for each in told]}

    @app.get("/v1/routing", tags=["reports"])
    async def list_routes(caller: Caller) -> dict[str, Any]:
        """The models that this key may use: policy, targets in their order, and their prices in US dollars for a million tokens."""
        return {"data": routes_shown(visible(runtime.routes, caller.models), caller.rule)}

    @app.get("/v1/explain", tags=["reports"])
    async def explain(caller: Caller, question: Annotated[Question, Depends()]) -> dict[str, Any]:
        """What would be decided now about such a request of this key: every candidate, what is predicted of it, the rule that removed it."""
        return explained(runtime.routes, question, caller)

    @app.get("/v1/budgets", tags=["reports"])
    async def list_budgets(caller: Caller) -> dict[str, Any]:
        """How the limits and budgets of this key and its team stand now."""
        scopes = [scope for scope in caller.scopes if scope.kind != "organisation"]
        return {"data": [standing_shown(await runtime.meter.standing(scope)) for scope in scopes]}

    @app.get("/v1/session", tags=["reports"])
    async def session(caller: Caller) -> dict[str, Any]:
        """Whose key this is."""
        return {"team": caller.team, "key_id": caller.key_id}


def _add_report(app: FastAPI, reporting: Reporting, name: str) -> None:
    @app.get(f"/v1/reports/{name}", tags=["reports"], name=f"report_{name}", description=ABOUT[name])
    def get_report(caller: Caller, asked: Annotated[Asked, Depends()], group_by: str | None = None) -> Response:
        return reporting.report(name, asked, group_by, caller.team)
