"""`/admin/replay`: what another configuration would have done, for everybody's requests or a team's."""

import asyncio
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request

from config.settings import Settings
from gateway.admin.edge import given
from gateway.admin.gate import Gate
from gateway.admin.reports import View, team_of
from gateway.admin.roles import AdminCaller, no_such_team
from gateway.replay.api import Wait, new_id, waited
from gateway.replay.asked import NewReplay, job_of
from gateway.replay.jobs import Jobs
from gateway.reports.routes_shown import visible
from gateway.scopes import principal_of


def add_admin_replays(app: FastAPI, settings: Settings, gate: Gate, view: View, jobs: Jobs) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.post("/admin/replay", status_code=202)
    async def create_replay(request: Request, caller: Caller) -> dict[str, Any]:
        """By any policies, models, engines and budgets for who may read everything; by other policies for who owns a team."""
        new = await given(request, NewReplay)
        team = team_of(caller, new.team)
        if team is not None and team not in settings.teams:
            raise no_such_team(team)
        own = None if caller.may_read(None) or team is None else _models_of(team)
        job = await asyncio.to_thread(job_of, new_id(), new, settings, team, own)
        await asyncio.to_thread(view.ledger.flush, 1.0)
        return await asyncio.to_thread(jobs.start, job)

    @app.get("/admin/replay/{replay_id}")
    async def get_replay(replay_id: str, caller: Caller, team: str | None = None, wait_s: Wait = 0) -> dict[str, Any]:
        return await waited(jobs, replay_id, team_of(caller, team), wait_s)

    def _models_of(team: str) -> list[str]:
        return [route.name for route in visible(view.routes, principal_of(settings, team, "", None).models)]
