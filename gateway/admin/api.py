"""`/admin/*`: teams, keys and the configuration. Every route depends on the gate by itself, and reads a body only when it knows whose it is."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field

from config.section import Section
from config.settings import Settings
from contract.errors import InvalidRequest, NotFound
from gateway.admin.edge import given
from gateway.admin.gate import Gate
from gateway.admin.replays import add_admin_replays
from gateway.admin.reports import View, add_admin_reports
from gateway.admin.roles import AdminCaller, no_such_team
from gateway.admin.shown import settings_shown
from gateway.admin.sign_in import add_sign_in
from gateway.app_errors import add_errors
from gateway.batches.progress_api import add_admin_batches
from gateway.dashboard.pages import add_dashboard
from gateway.key_watch import KeyWatch
from gateway.made_keys import NewKey, counted, create, described, own_scope, teams_of
from gateway.metering.meter import MeterPort
from gateway.replay.jobs import Jobs
from gateway.reports.standing_shown import standing_shown
from gateway.scopes import scopes_of
from ledger.keys import MAX_GRACE_S, MadeKey

T = TypeVar("T")
log = structlog.get_logger("turnout.admin")


class Rotation(Section):
    """All that somebody may say of a rotation."""

    grace_s: Annotated[int, Field(ge=0, le=MAX_GRACE_S)] = 0


def create_admin_app(watch: KeyWatch, gate: Gate, meter: MeterPort, view: View, replays: Jobs) -> FastAPI:
    """The app, with sign-in and the dashboard. It has no other pages: what a page of the framework's would load is not ours."""
    settings = watch.settings
    app = FastAPI(title="Turnout admin", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    add_sign_in(app, gate)
    _add_teams(app, settings, watch, gate)
    _add_usage(app, settings, watch, gate, meter)
    _add_keys(app, settings, watch, gate)
    _add_writes(app, settings, watch, gate)
    add_admin_reports(app, settings, gate, meter, view)
    add_admin_batches(app, gate, view.ledger)
    add_admin_replays(app, settings, gate, view, replays)
    add_dashboard(app, "/admin", sign_in=gate.sign_on is not None)

    @app.get("/")
    async def root() -> Response:
        """Where identity providers lead after a logout."""
        return RedirectResponse("/dashboard", 303)

    add_errors(app, "docs/keys.md lists what there is")
    return app


def _add_teams(app: FastAPI, settings: Settings, watch: KeyWatch, gate: Gate) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    async def teams(caller: AdminCaller) -> list[dict[str, Any]]:
        made = counted(await asyncio.to_thread(watch.store.of), watch.store.now_us())
        return [each for each in teams_of(settings, made) if caller.may_read(each["team"])]

    @app.get("/admin/teams")
    async def list_teams(caller: Caller) -> dict[str, Any]:
        """The teams that the caller may read."""
        return {"data": await teams(caller)}

    @app.get("/admin/teams/{team}")
    async def get_team(team: str, caller: Caller) -> dict[str, Any]:
        found = next((each for each in await teams(caller) if each["team"] == team), None)
        if found is None:
            raise no_such_team(team)
        return found

    @app.get("/admin/config")
    async def get_config(caller: Caller) -> dict[str, Any]:
        """What the gateway runs by, without secrets."""
        caller.require_read(None)
        return settings_shown(settings)


def _add_usage(app: FastAPI, settings: Settings, watch: KeyWatch, gate: Gate, meter: MeterPort) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/admin/teams/{team}/usage")
    async def get_usage(team: str, caller: Caller) -> dict[str, Any]:
        """What is used of the team's limits and budgets at this moment, and of its organisation's for those who may read all of it."""
        if team not in settings.teams:
            caller.require_read(None)
            raise no_such_team(team)
        caller.require_read(team)
        scopes = [scope for scope in scopes_of(settings, team, "") if scope.kind == "team" or caller.may_read(None)]
        return {"team": team, "data": [standing_shown(await meter.standing(scope)) for scope in scopes]}

    @app.get("/admin/keys/{key_id}/usage")
    async def get_key_usage(key_id: str, caller: Caller) -> dict[str, Any]:
        """What is used of the key's own limits and budgets at this moment; those of its team are the team's."""
        key = await readable(watch, key_id, caller)
        scope = own_scope(key)
        return {"key_id": key.id, "team": key.team, "data": [] if scope is None else [standing_shown(await meter.standing(scope))]}


def _add_keys(app: FastAPI, settings: Settings, watch: KeyWatch, gate: Gate) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]
    store = watch.store

    @app.get("/admin/keys")
    async def list_keys(caller: Caller, team: str | None = None) -> dict[str, Any]:
        """Every key that was made for teams that the caller may read, those that are over too."""
        if team is not None:
            caller.require_read(team)
        found = await asyncio.to_thread(store.of, team)
        if team is not None and team not in settings.teams and not found:
            raise no_such_team(team)
        return {"data": [described(key, store.now_us()) for key in found if caller.may_read(key.team)]}

    @app.get("/admin/keys/{key_id}")
    async def get_key(key_id: str, caller: Caller) -> dict[str, Any]:
        return described(await readable(watch, key_id, caller), store.now_us())


def _add_writes(app: FastAPI, settings: Settings, watch: KeyWatch, gate: Gate) -> None:
    Caller = Annotated[AdminCaller, Depends(gate.caller)]
    store = watch.store

    async def written(event: str, caller: AdminCaller, write: Callable[[], T], key_of: Callable[[T], MadeKey]) -> T:
        """What the write gives, once this process heeds it; the others do within a moment."""
        done = await asyncio.to_thread(write)
        await watch.look()
        key = key_of(done)
        log.info(event, key_id=key.id, team=key.team, by=caller.subject, via=caller.via)
        return done

    @app.post("/admin/keys", status_code=201)
    async def make_key(request: Request, caller: Caller) -> dict[str, Any]:
        """A new key; this answer alone has its secret."""
        new = await given(request, NewKey)
        if new.team not in settings.teams:
            raise no_such_team(new.team)
        caller.require_write(new.team)
        key, secret = await written("a key was made", caller, lambda: create(store, settings, new, made_by(caller)), lambda done: done[0])
        return {**described(key, store.now_us()), "key": secret}

    @app.post("/admin/keys/{key_id}/rotate")
    async def rotate_key(key_id: str, request: Request, caller: Caller) -> dict[str, Any]:
        """A new secret for a key; this answer alone has it. The old one holds for `grace_s` more."""
        caller.require_write((await readable(watch, key_id, caller)).team)
        rotation = await given(request, Rotation)

        def rotate() -> tuple[MadeKey, str]:
            done = store.rotate(key_id, rotation.grace_s)
            if done is None:
                raise InvalidRequest("the key is revoked or expired; make a new one", param="key_id", code="key_over")
            return done

        key, secret = await written("a key was rotated", caller, rotate, lambda done: done[0])
        return {**described(key, store.now_us()), "key": secret}

    @app.delete("/admin/keys/{key_id}")
    async def revoke_key(key_id: str, caller: Caller) -> dict[str, Any]:
        """The key, which holds no more. Idempotent."""
        caller.require_write((await readable(watch, key_id, caller)).team)

        def revoke() -> MadeKey:
            done = store.revoke(key_id)
            if done is None:
                raise no_such_key(key_id)
            return done

        return described(await written("a key was revoked", caller, revoke, lambda done: done), store.now_us())


async def readable(watch: KeyWatch, key_id: str, caller: AdminCaller) -> MadeKey:
    """A key that the caller may know of. Raises NotFound, the same for one of another's team as for one that does not exist."""
    key = await asyncio.to_thread(watch.store.find, key_id)
    if key is None or not caller.may_read(key.team):
        raise no_such_key(key_id)
    return key


def no_such_key(key_id: str) -> NotFound:
    return NotFound(f"there is no key {key_id[:100]!r} here", param="key_id")


def made_by(caller: AdminCaller) -> str:
    return caller.name if caller.via == "key" else f"{caller.name} ({caller.subject})"
