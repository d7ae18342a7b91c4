"""`/v1/replay`: what another policy would have done with the team's requests, in a process beside the gateway."""

import asyncio
from functools import partial
from secrets import token_hex
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request

from contract.errors import NotFound
from gateway.admin.edge import given
from gateway.app_parts import Caller
from gateway.auth import Principal
from gateway.replay.asked import NewReplay, job_of
from gateway.replay.jobs import Jobs
from gateway.reports.routes_shown import visible
from gateway.runtime import Runtime

MOST_WAIT_S = 60.0
LOOK_S = 0.2
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": NewReplay.model_json_schema()}}}}

Wait = Annotated[float, Query(ge=0, le=MOST_WAIT_S)]


def new_id() -> str:
    return "replay_" + token_hex(16)


def add_replay(app: FastAPI, runtime: Runtime, jobs: Jobs) -> None:
    @app.post("/v1/replay", tags=["reports"], status_code=202, openapi_extra=BODY)
    async def create_replay(request: Request, caller: Caller) -> dict[str, Any]:
        """Begins to plan the team's recorded requests again under other policies; GET it by its id. One at a time, 300 s at most."""
        new = await given(request, NewReplay)
        if new.team not in (None, caller.team):
            raise NotFound(f"there is no team {str(new.team)[:100]!r} here", param="team")
        return await asyncio.to_thread(_begin, runtime, jobs, new, caller)

    @app.get("/v1/replay/{replay_id}", tags=["reports"])
    async def get_replay(replay_id: str, caller: Caller, wait_s: Wait = 0) -> dict[str, Any]:
        """How it stands: `running` with its progress, `failed` with why, or `done` with what `turnout replay --json` prints."""
        return await waited(jobs, replay_id, caller.team, wait_s)


def _begin(runtime: Runtime, jobs: Jobs, new: NewReplay, caller: Principal) -> dict[str, Any]:
    own = [route.name for route in visible(runtime.routes, caller.models)]
    job = job_of(new_id(), new, runtime.settings, caller.team, own)
    runtime.ledger.flush(1.0)
    return jobs.start(job)


async def waited(jobs: Jobs, id: str, team: str | None, wait_s: float) -> dict[str, Any]:
    """Once it has ended, or after `wait_s`. Raises NotFound."""
    until = asyncio.get_running_loop().time() + wait_s
    while True:
        told = await asyncio.to_thread(partial(jobs.find, id, team))
        if told["status"] != "running" or asyncio.get_running_loop().time() >= until:
            return told
        await asyncio.sleep(LOOK_S)
