"""The FastAPI app: everything but the inference routes, and the documentation of those too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from gateway.app_errors import add_errors
from gateway.app_parts import Caller
from gateway.auth import no_such_model
from gateway.batches.batches_api import add_batches
from gateway.batches.desk import Desk
from gateway.batches.files_api import add_files
from gateway.batches.messages_api import add_message_batches
from gateway.batches.progress_api import add_progress
from gateway.dashboard.pages import add_dashboard
from gateway.metrics.serving import add_metrics
from gateway.openapi import INFERENCE_PATHS
from gateway.replay.api import add_replay
from gateway.replay.jobs import Jobs
from gateway.reports.api import add_reports
from gateway.responses_api import add_responses
from gateway.runtime import Runtime


def create_app(runtime: Runtime, version: str) -> FastAPI:
    """The app around a runtime whose engines and ledger it starts and stops with itself."""

    desk, replays = Desk(runtime), Jobs(runtime.settings.state.database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        await desk.start()
        try:
            yield
        finally:
            await asyncio.to_thread(replays.stop)
            await desk.stop()
            await runtime.stop()

    app = FastAPI(title="Turnout", version=version, lifespan=lifespan, description="A provider-agnostic inference gateway with local fallback.")
    app.state.runtime = runtime
    app.openapi = lambda: _documented(app)  # type: ignore[method-assign]
    _add_models(app, runtime)
    add_responses(app, runtime)
    add_reports(app, runtime)
    add_files(app, desk)
    add_message_batches(app, desk)
    add_batches(app, desk)
    add_progress(app, runtime.ledger)
    add_replay(app, runtime, replays)
    add_metrics(app, runtime.observing.gate, runtime.observing.gathering)
    _add_health(app, runtime)
    add_dashboard(app, "/v1", sign_in=False)
    add_errors(app, "GET /docs lists what there is")
    return app


def _add_models(app: FastAPI, runtime: Runtime) -> None:
    @app.get("/v1/models", tags=["models"])
    async def list_models(request: Request, caller: Caller, limit: int = 1000, after_id: str | None = None) -> dict[str, Any]:
        """The names that this key may ask for; a `*` in one stands for any text. In Anthropic's form for who sends `anthropic-version`."""
        names = [r.name for r in runtime.routes.all if caller.models is None or r.name in caller.models]
        if not _speaks_anthropic(request):
            return {"object": "list", "data": [_model(name) for name in names]}
        start = names.index(after_id) + 1 if after_id in names else 0
        page = names[start : start + max(1, min(limit, 1000))]
        ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
        return {"data": [_anthropic_model(name) for name in page], "has_more": start + len(page) < len(names), **ends}

    @app.get("/v1/models/{model:path}", tags=["models"])
    async def get_model(request: Request, model: str, caller: Caller) -> dict[str, Any]:
        """One model by name, also one that a pattern matches."""
        route = runtime.routes.find(model)
        if route is None:
            raise no_such_model(model)
        caller.require_route(route.name, model)
        return _anthropic_model(model) if _speaks_anthropic(request) else _model(model)


def _speaks_anthropic(request: Request) -> bool:
    return "anthropic-version" in request.headers


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "turnout"}


_UNKNOWN_OF_MODELS = dict.fromkeys(("capabilities", "deprecated_at", "line", "max_input_tokens", "max_tokens", "retires_at"))


def _anthropic_model(name: str) -> dict[str, Any]:
    """With every member of the SDK's `ModelInfo`; its epoch stands for a date that is not known."""
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active", **_UNKNOWN_OF_MODELS}


def _add_health(app: FastAPI, runtime: Runtime) -> None:
    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def root() -> dict[str, str]:
        return {"name": "turnout", "docs": "/docs"}

    @app.get("/health", tags=["health"])
    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/health/ready", tags=["health"])
    async def ready(response: Response) -> dict[str, Any]:
        """Whether new requests can be served: 503 while the ledger cannot be written or the gateway is stopping."""
        report = runtime.readiness()
        if report["status"] != "ok":
            response.status_code = 503
        return report


def _documented(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schema["paths"] = {**INFERENCE_PATHS, **schema["paths"]}
        schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema
