"""How the engines stand, as it is told: by /health/ready, /v1/targets and the dashboard; and whether they keep the gateway from being ready."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.routes import Route, Target
from providers.local.port import Supervisor
from providers.local.status import COMING


def engine_shown(engine: Supervisor) -> dict[str, Any]:
    """`stage`: what its start has come to, null where its log does not tell. `ready_in_s`: an estimate while it is on its way, else null."""
    coming = engine.state in COMING
    return {"state": engine.state, "stage": engine.stage, "ready_in_s": round(max(0.0, engine.ready_in_s), 1) if coming else None}


def unready(routes: Iterable[Route], engines: Mapping[str, Supervisor]) -> str | None:
    """What keeps the gateway from being ready; None: nothing.

    `starting`: a model has no targets but engines that have not been ready yet and are not given up. `engines`: no model has any target but engines
    that were given up. An engine that was ready and is lost, or sleeps, does not count: its models' requests are answered by their next target, or
    refused with the time until it is back, and the gateway's other models must not go down with it.
    """
    if not engines:
        return None
    given_up = True
    for route in routes:
        states = [_state(target, engines) for target in route.targets]
        if "serves" not in states and "coming" in states:
            return "starting"
        given_up = given_up and all(state == "given up" for state in states)
    return "engines" if given_up else None


def _state(target: Target, engines: Mapping[str, Supervisor]) -> str:
    engine = engines.get(target.backend.name)
    if engine is None or (engine.been_ready and engine.state not in ("failed", "stopped")):
        return "serves"
    return "coming" if engine.state in COMING else "given up"
