"""`GET /metrics`: the whole gateway's metrics, whichever of its processes is asked, for who has the metrics key."""

import asyncio
import hmac
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response

from config.telemetry import MetricsSettings
from contract.errors import PermissionDenied
from gateway.auth import KeyTable
from gateway.metrics.engine_pages import families_of
from gateway.metrics.exposition import OPEN_METRICS, TEXT, exposition, wants_open_metrics
from gateway.metrics.gathering import Gathering


class MetricsGate:
    """Who may read: who has `metrics.key`; without one, who has the bootstrap key; under `metrics.open` everybody. A team's key may not."""

    def __init__(self, settings: MetricsSettings, keys: KeyTable, bootstrap_key: str | None) -> None:
        self._open = settings.open
        self._keys = keys
        key = bootstrap_key if settings.key is None else settings.key.get_secret_value()
        self._key = None if key is None else key.encode()

    def require(self, request: Request) -> None:
        """Raises AuthenticationFailed, PermissionDenied."""
        if self._open:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if self._key is not None and scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), self._key):
            return
        self._keys.principal(request.scope["headers"])
        raise PermissionDenied("metrics are of all teams: send the `metrics.key` of the configuration", code="metrics_key_needed")


def add_metrics(app: FastAPI, gate: MetricsGate, gathering: Gathering) -> None:
    """Adds the route to the app."""

    @app.get("/metrics", tags=["metrics"], response_class=Response)
    async def metrics(request: Request, accept: Annotated[str, Header()] = "") -> Response:
        """All metrics of the gateway, in Prometheus' text format, or in OpenMetrics with exemplars for who accepts that."""
        gate.require(request)
        open_metrics = wants_open_metrics(accept)
        snapshot, pages = await gathering.all()
        text = await asyncio.to_thread(lambda: exposition(snapshot, families_of(pages), open_metrics))  # of many teams it is a megabyte
        return Response(text, media_type=OPEN_METRICS if open_metrics else TEXT)
