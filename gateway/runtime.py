"""The running gateway as one object: settings become frozen routes, keys, backends and a ledger; started and stopped with the app."""

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.settings import ModelSettings, ProviderSettings, Settings, TargetSettings
from gateway.assembly import assemble, header_text, lacks_of
from gateway.auth import KeyTable, Principal, key_id_of
from gateway.bootstrap import bootstrap_for
from gateway.chosen import chosen_of, keys_of, signer_of
from gateway.engine_hours import EngineHours
from gateway.engine_spec import ENGINE_LACKS, OWN_DIALECTS, engine_spec, nusd_per_s
from gateway.engines_shown import engine_shown, unready
from gateway.health import Health
from gateway.keeper import Keeper
from gateway.kept.caching import Caches, caches_of
from gateway.key_watch import KeyWatch
from gateway.metering.admission import Admission
from gateway.metering.alerts import Alerts
from gateway.metering.meter import MeterPort, meter_of
from gateway.metrics.counts import Counts
from gateway.observing import Observing, Parts, observing
from gateway.overrides import ALL
from gateway.pipeline import Pipeline
from gateway.pricing import price_of
from gateway.record import Recorder
from gateway.routes import Route, RouteTable, Target
from gateway.rules import Caps, rule_of
from gateway.scopes import principal_of
from gateway.server import bind_admin
from gateway.warm import warm_start
from gateway.workers.host import Host
from ledger.continuity import Continuity
from ledger.keys import Keys
from ledger.prices import compile_price, context_window
from ledger.store import Ledger
from ledger.upkeep import Upkeep
from policy.rule import Rule
from policy.stats import TargetStats
from providers.address import address_of, native_dialects, page_address
from providers.backend import HttpBackend, ProviderSpec
from providers.build import prefills, routes_of
from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.http.port import Clocks, HttpClient
from providers.local.admission import Admission as EngineQueue
from providers.local.backend import EngineBackend
from providers.local.port import Supervisor
from providers.local.spec import EngineSpec
from providers.local.supervisor import EngineSupervisor
from providers.pool import Pool
from providers.port import Backend
from providers.registry import PROVIDER_KINDS, ProviderKind

if TYPE_CHECKING:
    from gateway.admin.serving import AdminServer
    from gateway.sharing import Sharing

log = structlog.get_logger("turnout.runtime")

STREAM_HEADERS_S = 60.0  # a stream's head comes before its first token; a unary answer's head waits for the whole of it
BOOTSTRAP_TEAM = "default"
MAX_STATS = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    max_body_bytes: int
    body_idle_s: float


@dataclass(slots=True)
class Runtime:
    """Everything a request needs. Built whole by `build_runtime`, before anything is started."""

    routes: RouteTable
    rules: Mapping[str, Rule]
    caps: Caps
    keys: KeyTable
    limits: Limits
    ledger: Ledger
    upkeep: Upkeep
    continuity: Continuity
    pipeline: Pipeline
    engines: Mapping[str, Supervisor]
    hours: EngineHours  # of the engines that are this process's own
    pools: tuple[Pool, ...]
    clients: tuple[HttpClient, ...]
    backends: tuple[Backend, ...]
    bootstrap_key: str | None
    example_model: str
    known: Mapping[tuple[str, str], tuple[TargetStats, Health]]  # (backend, model) -> what is learnt of it
    sharing: "Sharing | None"
    meter: MeterPort
    alerts: Alerts | None
    caches: Caches | None
    worker: int | None  # its number, where several serve
    key_watch: KeyWatch
    admin: "AdminServer | None"
    observing: Observing
    stopping: bool = False

    async def start(self) -> None:
        for engine in self.engines.values():
            await engine.start()
        await asyncio.to_thread(self._remember)
        self.upkeep.start()
        await self.key_watch.start()
        if self.admin is not None:
            await self.admin.start()
        if self.sharing is not None:
            await self.sharing.start()
        await self.meter.start()
        if self.alerts is not None:
            await self.alerts.start()
        self.hours.start()
        self.observing.start()
        for pool in self.pools:
            pool.start()

    def _remember(self) -> None:
        """What the ledger knows of the targets is where their statistics begin."""
        try:
            warm_start(self.ledger.engine, {key: stats for key, (stats, _) in self.known.items()}, time.monotonic(), time.time())
        except SQLAlchemyError as exc:
            log.warning("statistics begin without the ledger's history", error=str(getattr(exc, "orig", exc)))

    async def stop(self) -> None:
        self.stopping = True
        if self.admin is not None:
            await self.admin.stop()
        await self.key_watch.stop()
        if self.sharing is not None:
            await self.sharing.stop()
        if self.alerts is not None:
            await self.alerts.stop()
        if self.caches is not None:
            await self.caches.aclose()
        for backend in self.backends:
            await backend.aclose()
        await self.hours.stop()
        await self.observing.stop()
        for pool in self.pools:
            await pool.stop()
        for engine in self.engines.values():
            await engine.stop()
        for client in self.clients:
            await client.aclose()
        self.continuity.close()
        await self.meter.stop()
        await asyncio.to_thread(self.upkeep.stop)
        self.ledger.close()

    @property
    def settings(self) -> Settings:
        return self.key_watch.settings

    def readiness(self) -> dict[str, object]:
        """`status` ok, or what is in the way (stopping, ledger, starting, engines); how each engine and the ledger stand."""
        books = self.ledger
        ledger = {"pending": books.pending, "dropped": books.dropped, "unreadable": books.unreadable, "error": books.last_error}
        status = "stopping" if self.stopping else "ledger" if self.ledger.in_danger else unready(self.routes.all, self.engines) or "ok"
        sharing = {} if self.sharing is None else {"redis": {"error": self.sharing.error}}
        worker = {} if self.worker is None else {"worker": self.worker}
        return {"status": status, "engines": {name: engine_shown(each) for name, each in self.engines.items()}, "ledger": ledger, **sharing, **worker}


class Builder:
    """Turns one `Settings` into a `Runtime`, part by part. `host`: whose the engines are, where several processes share them."""

    def __init__(self, settings: Settings, host: Host | None = None) -> None:
        self.settings = settings
        self.client = PooledClient()
        self.httpx_client: HttpxClient | None = None
        self.rules = {name: rule_of(name, policy) for name, policy in settings.policies.items()}
        self.engines: dict[str, Supervisor] = (
            {name: EngineSupervisor(engine_spec(name, engine), self.client) for name, engine in settings.engine_replicas.items()}
            if host is None
            else {name: engine.supervisor for name, engine in host.engines.items()}
        )
        self.pools: list[Pool] = []
        self.chosen = {name: chosen_of(name, provider) for name, provider in settings.providers.items()}
        self.backends: dict[str, Backend] = {name: self._provider(name, p) for name, p in settings.providers.items()}
        slots = {} if host is None else {name: engine.slots for name, engine in host.engines.items()}
        self.backends |= {name: EngineBackend(engine, self.client, slots.get(name)) for name, engine in self.engines.items()}
        self.known: dict[tuple[str, str], tuple[TargetStats, Health]] = {}
        self._engines = settings.engine_replicas
        self._replica_of = {each: name for name, engine in settings.engines.items() if engine.replicas > 1 for each in engine.each(name)}

    def own_engines(self) -> list[tuple[EngineSpec, EngineQueue]]:
        """Those that this process looks after, with their queues."""
        found = [(self.engines[name].spec, backend.admission) for name, backend in self.backends.items() if isinstance(backend, EngineBackend)]
        return [(spec, queue) for spec, queue in found if isinstance(queue, EngineQueue)]

    # --- backends --------------------------------------------------------------------------------------------------
    def _provider(self, name: str, settings: ProviderSettings) -> Backend:
        kind, chosen = PROVIDER_KINDS[settings.kind], self.chosen[name]
        timeouts = settings.timeouts
        headers_s = STREAM_HEADERS_S if timeouts.headers_s is None else timeouts.headers_s
        stream = Clocks(timeouts.connect_s, headers_s, timeouts.first_token_s, timeouts.idle_s, timeouts.total_s)
        unary = Clocks(timeouts.connect_s, timeouts.headers_s, timeouts.total_s, timeouts.idle_s, timeouts.total_s)
        origin, base_path = address_of(kind, chosen)
        signer = signer_of(settings)
        spec = ProviderSpec(
            name=name,
            origin=origin,
            base_path=base_path,
            keys=keys_of(kind, chosen, settings),
            clocks=stream,
            unary_clocks=unary,
            routes=routes_of(kind, chosen),
            dialect_paths=native_dialects(kind, chosen),
            signer=signer,
        )
        pool = None if settings.metrics is None else Pool(name, *page_address(settings.metrics), self.client)
        if pool is not None:
            self.pools.append(pool)
        return HttpBackend(spec, self._client(settings.transport), pool)

    def _client(self, transport: str) -> HttpClient:
        if transport == "native":
            return self.client
        if self.httpx_client is None:
            self.httpx_client = HttpxClient()
        return self.httpx_client

    @property
    def clients(self) -> tuple[HttpClient, ...]:
        return (self.client,) if self.httpx_client is None else (self.client, self.httpx_client)

    def sharing(self) -> "Sharing | None":
        state = self.settings.state
        if state.redis is None:
            return None
        from gateway.sharing import Sharing  # redis-py takes a while to import, and one process alone does without

        return Sharing(
            state.redis.get_secret_value(),
            lambda: {key: stats for key, (stats, _) in self.known.items()},
            deadline_s=state.redis_deadline_ms / 1000,
        )

    def admin(self, watch: KeyWatch, meter: MeterPort, ledger: Ledger, routes: RouteTable, listener: socket.socket | None) -> "AdminServer | None":
        if self.settings.admin is None:
            return None
        from gateway.admin.reports import View
        from gateway.admin.serving import AdminServer  # other verbs than `serve` do without the web framework

        view = View(ledger, routes, self.rules)
        return AdminServer(self.settings.admin, watch, self.client, meter, view, listener or bind_admin(self.settings.admin))

    # --- routes ----------------------------------------------------------------------------------------------------
    def route(self, name: str, model: ModelSettings) -> Route:
        """One entry of `models`. A policy that falls back to local, whosever it is, has an engine to fall back to, listed or not."""
        rule = self.rules[model.policy] if model.policy else Rule()
        targets = [self._target(name, entry, backend) for entry in model.targets for backend in self._backends(entry)]
        if any(each.fallback == "local" for each in self.rules.values()) and not any(target.owned for target in targets):
            spare = rule.fallback != "local"
            targets += [replace(self._make_target(engine, engine, None), spare=spare) for engine in self.engines]
        return assemble(name, rule, targets)

    def fill_in(self, route: Route, matched: str) -> Route:
        """A pattern's route for one name: what `*` matched stands in the targets' models."""
        targets = [self._make_target(t.backend.name, t.model.replace("*", matched), None) if "*" in t.model else t for t in route.targets]
        told = [
            replace(new, price=old.price or new.price, weight=old.weight, context_tokens=old.context_tokens or new.context_tokens)
            for new, old in zip(targets, route.targets, strict=True)
        ]
        return assemble(route.name, route.rule, told)

    def _backends(self, entry: TargetSettings) -> list[str]:
        """Of an engine its replicas."""
        return list(self.settings.engines[entry.engine].each(entry.engine)) if entry.engine is not None else [entry.provider or ""]

    def _target(self, route: str, entry: TargetSettings, backend: str) -> Target:
        return self._make_target(backend, entry.model or (backend if entry.engine else route), entry)

    def _make_target(self, backend: str, model: str, entry: TargetSettings | None) -> Target:
        owned = backend in self.engines
        label = backend if owned and model == backend else f"{backend}/{model}"
        stats, health = self._known(backend, model)
        native = frozenset(OWN_DIALECTS[self._engines[backend].speaks] if owned else native_dialects(self._kind(backend), self.chosen[backend]))
        return Target(
            backend=self.backends[backend],
            model=model,
            owned=owned,
            price=None if owned else price_of(self.settings, backend, model, entry),
            stats=stats,
            health=health,
            label=label,
            header=(b"x-turnout-target", header_text(label)),
            region="" if owned else self.settings.providers[backend].region or "",
            context_tokens=self._context(backend, model, entry),
            lacks=ENGINE_LACKS[self._engines[backend].speaks] if owned else lacks_of(self._kind(backend)),
            weight=None if entry is None else entry.weight,
            replica_of=self._replica_of.get(backend, ""),
            engine_nusd_per_s=nusd_per_s(self._engines[backend]) if owned else None,
            native=native,
            keeps_responses=not owned and self._kind(backend).keeps_responses and "openai_responses" in native,
            prefill=owned or prefills(self._kind(backend), self.chosen[backend], model),
            repeats_prefill=not owned and self._kind(backend).facts.prefill_repeats,
        )

    def _kind(self, provider: str) -> ProviderKind:
        return PROVIDER_KINDS[self.settings.providers[provider].kind]

    def _known(self, backend: str, model: str) -> tuple[TargetStats, Health]:
        """What is learnt of a target, one for it wherever it is listed. Names that clients make up share their backend's after a while."""
        if len(self.known) >= MAX_STATS and (backend, model) not in self.known:
            model = "*"
        return self.known.setdefault((backend, model), (TargetStats(), Health()))

    def _context(self, backend: str, model: str, entry: TargetSettings | None) -> int | None:
        """Tokens that a prompt may have; None: not known."""
        if entry is not None and entry.context is not None:
            return entry.context
        if backend in self.engines:
            return self._engines[backend].prompt_tokens
        price_provider = self._kind(backend).price_provider
        return None if price_provider is None or "*" in model else context_window(price_provider, model)

    # --- who may ask -------------------------------------------------------------------------------------------------
    def principals(self) -> list[tuple[str, Principal]]:
        """Every static key with what it stands for."""
        found = []
        for name, team in self.settings.teams.items():
            rule = self.rules[team.policy] if team.policy else None
            for key in team.keys:
                text = key.get_secret_value()
                found.append((text, principal_of(self.settings, name, key_id_of(text), rule)))
        return found


def build_runtime(settings: Settings, bootstrap: str | None = None, host: Host | None = None, admin: socket.socket | None = None) -> Runtime:
    """The whole gateway, nothing started. `bootstrap`: the bootstrap key, where it is known already; else one is made if there is no key.

    `host`: this is one of several workers; the database is then tidied by their parent. `admin`: where the admin API listens; it is bound here
    when it was not before.

    Raises LedgerError, LedgerUnavailable, OSError (state folder, the admin API's address), WeightsNotFound, ValueError.
    """
    builder = Builder(settings, host)
    if any(PROVIDER_KINDS[provider.kind].price_provider for provider in settings.providers.values()):
        compile_price("openai", "")  # the prices' data is read now, not under the first request for a pattern
    routes = RouteTable([builder.route(name, model) for name, model in settings.models.items()], builder.fill_in)
    principals = builder.principals()
    ledger = Ledger(settings.state.database, spool=None if settings.ledger.spool is None else Path(settings.ledger.spool))
    if bootstrap is None:
        bootstrap = bootstrap_for(settings, ledger.engine)
    if bootstrap is not None:
        principals.append((bootstrap, Principal(BOOTSTRAP_TEAM, key_id_of(bootstrap), overrides=ALL)))
    continuity = Continuity(ledger.engine, settings.state.responses_days, shared=host is not None)
    counts = Counts()
    recorder = Recorder(ledger, counts)
    meter = meter_of(settings.state, ledger, settings.server.workers)
    alerts = None if settings.alerts is None else Alerts(settings.alerts, builder.client, meter, ledger.engine)
    admission = Admission(meter, recorder, alerts)
    caches = caches_of(settings, builder.rules.values(), routes, recorder, admission)
    keys = KeyTable(principals)
    watch = KeyWatch(Keys(ledger.engine), keys, settings, builder.rules)
    backends = tuple(builder.backends.values())
    parts = Parts(routes, ledger, meter, keys, builder.engines, backends, tuple(builder.pools), builder.client, bootstrap)
    return Runtime(
        routes=routes,
        rules=builder.rules,
        caps=Caps(),
        keys=keys,
        limits=Limits(settings.server.max_body_bytes, settings.server.body_idle_s),
        ledger=ledger,
        upkeep=Upkeep(ledger.engine, settings.ledger.retention_days),
        continuity=continuity,
        pipeline=Pipeline(recorder, Keeper(continuity), admission, caches),
        engines=builder.engines,
        pools=tuple(builder.pools),
        hours=EngineHours(builder.own_engines(), ledger.engine),
        clients=builder.clients,
        backends=backends,
        bootstrap_key=bootstrap,
        known=builder.known,
        sharing=builder.sharing(),
        meter=meter,
        alerts=alerts,
        caches=caches,
        worker=None if host is None else host.worker,
        key_watch=watch,
        admin=builder.admin(watch, meter, ledger, routes, admin),
        observing=observing(settings, counts, parts, host),
        example_model=next(iter(routes.exact), None) or next((route.name for route in routes.all), "MODEL"),
    )
