"""`/admin/reports`, `/admin/requests` and their like: what `/v1` tells a team's key, told to people and programs by their role."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from fastapi import Depends, FastAPI, Response

from config.settings import Settings
from contract.errors import InvalidRequest
from gateway.admin.gate import Gate
from gateway.admin.roles import AdminCaller, no_such_team
from gateway.auth import Principal
from gateway.metering.meter import MeterPort
from gateway.reports.query import Asked, PricePerHour
from gateway.reports.reporting import ABOUT, Reporting
from gateway.reports.routes_shown import ALL_TEAMS_ONLY, Question, explained, routes_shown, targets_shown, visible
from gateway.reports.standing_shown import standing_shown
from gateway.routes import Route, RouteTable
from gateway.scopes import principal_of, scopes_of
from ledger.described import describe_decision, describe_request
from ledger.reports import REPORTS
from ledger.store import Ledger
from policy.rule import Rule


class View(msgspec.Struct, frozen=True):
    """What there is to be shown. `rules`: every policy by its name."""

    ledger: Ledger
    routes: RouteTable
    rules: Mapping[str, Rule]


def add_admin_reports(app: FastAPI, settings: Settings, gate: Gate, meter: MeterPort, view: View) -> None:
    """Adds the routes. `team` of a query: that team alone; without it all of them, for those who may read all."""
    reporting = Reporting(view.ledger)
    _add_requests(app, gate, reporting)
    for name in REPORTS:
        _add_report(app, gate, reporting, name)
    _add_engines(app, gate, reporting)
    _add_now(app, settings, gate, meter, view)


def _add_requests(app: FastAPI, gate: Gate, reporting: Reporting) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/admin/requests")
    def list_requests(caller: Caller, asked: Annotated[Asked, Depends()], team: str | None = None) -> Response:
        return reporting.requests(asked, team_of(caller, team))

    @app.get("/admin/requests/{request_id}")
    def get_request(request_id: str, caller: Caller) -> dict[str, Any]:
        return describe_request(reporting.rows(request_id, caller.may_read))

    @app.get("/admin/decisions/{request_id}")
    def get_decision(request_id: str, caller: Caller) -> dict[str, Any]:
        return describe_decision(reporting.rows(request_id, caller.may_read))


def _add_report(app: FastAPI, gate: Gate, reporting: Reporting, name: str) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get(f"/admin/reports/{name}", name=f"admin_report_{name}", description=ABOUT[name])
    def get_report(caller: Caller, asked: Annotated[Asked, Depends()], group_by: str | None = None, team: str | None = None) -> Response:
        return reporting.report(name, asked, group_by, team_of(caller, team))


def _add_engines(app: FastAPI, gate: Gate, reporting: Reporting) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/admin/reports/breakeven")
    def get_breakeven(caller: Caller, asked: Annotated[Asked, Depends()], team: str | None = None, gpu_usd_per_hour: PricePerHour = None) -> Response:
        return reporting.breakeven(asked, gpu_usd_per_hour, team_of(caller, team))

    @app.get("/admin/reports/engines")
    def get_engines(caller: Caller, asked: Annotated[Asked, Depends()]) -> Response:
        """For those who may read everything: an engine's hours are everybody's."""
        caller.require_read(None)
        return reporting.engines(asked)


def _add_now(app: FastAPI, settings: Settings, gate: Gate, meter: MeterPort, view: View) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    def principal(team: str | None) -> Principal | None:
        """What a key of the team stands for. None: nobody in particular. Raises NotFound for a team that is not configured."""
        if team is None:
            return None
        if team not in settings.teams:
            raise no_such_team(team)
        policy = settings.teams[team].policy
        return principal_of(settings, team, "", None if policy is None else view.rules[policy])

    def shown(who: Principal | None) -> list[Route]:
        return visible(view.routes, None if who is None else who.models)

    @app.get("/admin/targets")
    async def list_targets(caller: Caller, team: str | None = None) -> dict[str, Any]:
        """How each target does; what it did in all, for those who may read everything."""
        who = principal(team_of(caller, team))
        told = targets_shown(shown(who), None if who is None else who.rule)
        hidden = () if caller.may_read(None) else ALL_TEAMS_ONLY
        return {"data": [{name: value for name, value in each.items() if name not in hidden} for each in told]}

    @app.get("/admin/routing")
    async def list_routes(caller: Caller, team: str | None = None) -> dict[str, Any]:
        who = principal(team_of(caller, team))
        return {"data": routes_shown(shown(who), None if who is None else who.rule)}

    @app.get("/admin/explain")
    async def explain(caller: Caller, question: Annotated[Question, Depends()], team: str | None = None) -> dict[str, Any]:
        return explained(view.routes, question, principal(team_of(caller, team)))

    @app.get("/admin/budgets")
    async def list_budgets(caller: Caller, team: str | None = None) -> dict[str, Any]:
        """How the limits and budgets of the teams stand now, and of their organisations for those who may read everything."""
        one = team_of(caller, team)
        if one is not None and one not in settings.teams:
            raise no_such_team(one)
        scopes = {scope.id: scope for name in settings.teams if one in (None, name) for scope in scopes_of(settings, name, "")}
        readable = [scope for scope in scopes.values() if scope.kind == "team" or caller.may_read(None)]
        return {"data": [standing_shown(await meter.standing(scope)) for scope in readable]}


def team_of(caller: AdminCaller, team: str | None) -> str | None:
    """The team that is meant; None: all. Raises NotFound for another's, InvalidRequest where somebody must name one of several."""
    if team is not None:
        caller.require_read(team)
        return team
    if caller.may_read(None):
        return None
    if len(caller.teams) != 1:
        raise InvalidRequest("say which of your teams is meant: team=NAME", param="team")
    return next(iter(caller.teams))
