"""What watches a gateway, put together from its settings: counts and who may read them, traces and where they go."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from config.settings import Settings
from gateway.auth import KeyTable
from gateway.metering.meter import MeterPort
from gateway.metrics.counts import Counts
from gateway.metrics.gathering import Gathering, Paged
from gateway.metrics.seen import Shared
from gateway.metrics.serving import MetricsGate
from gateway.routes import RouteTable
from gateway.watching import Watching
from gateway.workers.host import Host
from ledger.store import Ledger
from providers.http.port import HttpClient
from providers.local.port import Supervisor
from providers.pool import Pool
from providers.port import Backend

if TYPE_CHECKING:
    from gateway.telemetry.exporting import Exporter


class Observing(NamedTuple):
    """`exporter` None: no traces are made."""

    watching: Watching
    gathering: Gathering
    gate: MetricsGate
    exporter: "Exporter | None"

    def start(self) -> None:
        if self.exporter is not None:
            self.exporter.start()

    async def stop(self) -> None:
        if self.exporter is not None:
            await self.exporter.stop()


class Parts(NamedTuple):
    """What is watched. `bootstrap_key` None: there is none."""

    routes: RouteTable
    ledger: Ledger
    meter: MeterPort
    keys: KeyTable
    engines: Mapping[str, Supervisor]
    backends: tuple[Backend, ...]
    pools: tuple[Pool, ...]
    client: HttpClient
    bootstrap_key: str | None


def observing(settings: Settings, counts: Counts, parts: Parts, host: Host | None) -> Observing:
    """`host`: of a worker among several."""
    shared = Shared(settings, parts.meter, parts.engines, parts.backends)
    paged = Paged(parts.engines, parts.pools)
    gathering = Gathering(counts, parts.routes, parts.ledger, shared, paged, None if host is None else host.others)
    exporter = _exporter(settings, gathering, parts.client)
    watching = Watching(counts, None, None) if exporter is None else Watching(counts, exporter.sample, exporter.add)
    return Observing(watching, gathering, MetricsGate(settings.metrics, parts.keys, parts.bootstrap_key), exporter)


def _exporter(settings: Settings, gathering: Gathering, client: HttpClient) -> "Exporter | None":
    if settings.telemetry is None:
        return None
    from gateway.telemetry.exporting import Exporter  # protobuf takes a while to import, and nobody else needs it

    kinds = {name: provider.kind for name, provider in settings.providers.items()}
    kinds |= {name: engine.kind for name, engine in settings.engine_replicas.items()}
    return Exporter(settings.telemetry, client, gathering, kinds)
