"""How the engines stand, as it is told: by /health/ready, /v1/targets and the dashboard; and whether they keep the gateway from being ready."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.routes import Route, Target
from providers.local.port import Supervisor
from providers.local.status import COMING


def engine_shown(engine: Supervisor) -> dict[str, Any]:
    """`stage`: what its start has come to, null where its log does not tell. `ready_in_s`: an estimate while it is on its way, else null.

    `reason`: why its last child ended, null once one is ready.
    """
    coming = engine.state in COMING or engine.state == "failed"
    ready_in_s = round(max(0.0, engine.ready_in_s), 1) if coming else None
    return {"state": engine.state, "stage": engine.stage, "ready_in_s": ready_in_s, "reason": engine.reason}


def unready(routes: Iterable[Route], engines: Mapping[str, Supervisor]) -> str | None:
    """What keeps the gateway from being ready; None: nothing.

    `starting`: a model has no targets but engines that have not been ready yet and have not failed. `engines`: no model has any target but engines
    that failed. An engine that was ready and is lost, or sleeps, does not count: its models' requests are answered by their next target, or
    refused with the time until it is back, and the gateway's other models must not go down with it.
    """
    if not engines:
        return None
    failed = True
    for route in routes:
        states = [_state(target, engines) for target in route.targets]
        if "serves" not in states and "coming" in states:
            return "starting"
        failed = failed and all(state == "failed" for state in states)
    return "engines" if failed else None


def _state(target: Target, engines: Mapping[str, Supervisor]) -> str:
    engine = engines.get(target.backend.name)
    if engine is None or (engine.been_ready and engine.state not in ("failed", "stopped")):
        return "serves"
    return "coming" if engine.state in COMING else "failed"
