"""The running gateway as one object: settings become frozen routes, keys, backends and a ledger; started and stopped with the app."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from config.settings import ModelSettings, PolicySettings, ProviderSettings, Settings, TargetSettings
from gateway.auth import KeyTable, Principal, key_id_of
from gateway.bootstrap import bootstrap_key
from gateway.pipeline import Pipeline
from gateway.record import Recorder
from gateway.routes import Route, RouteTable, Target
from ledger.prices import Price, compile_price, override_price
from ledger.store import Ledger
from policy.plan import Candidate, Rule
from policy.stats import TargetStats
from providers.backend import HttpBackend, ProviderSpec
from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.http.port import Clocks, Endpoint, HttpClient, Origin
from providers.local.backend import EngineBackend
from providers.local.supervisor import EngineSpec, EngineSupervisor
from providers.local.weights import resolve_model
from providers.port import Backend
from providers.registry import PROVIDER_KINDS, ProviderKind
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.port import Wire

USER_AGENT = b"turnout"


@dataclass(frozen=True, slots=True)
class Limits:
    max_body_bytes: int
    body_idle_s: float


@dataclass(slots=True)
class Runtime:
    """Everything a request needs. Built whole by `build_runtime`, before anything is started."""

    routes: RouteTable
    keys: KeyTable
    limits: Limits
    ledger: Ledger
    pipeline: Pipeline
    wire: Wire
    engines: dict[str, EngineSupervisor]
    clients: tuple[HttpClient, ...]
    backends: tuple[Backend, ...]
    bootstrap_key: str | None
    example_model: str
    stopping: bool = False

    async def start(self) -> None:
        for engine in self.engines.values():
            await engine.start()

    async def stop(self) -> None:
        self.stopping = True
        for backend in self.backends:
            await backend.aclose()
        for engine in self.engines.values():
            await engine.stop()
        for client in self.clients:
            await client.aclose()
        self.ledger.close()

    def readiness(self) -> dict[str, object]:
        """`status` ok, or what is in the way; engines with their state, the ledger with what waits to be written."""
        ledger = {"pending": self.ledger.pending, "dropped": self.ledger.dropped, "error": self.ledger.last_error}
        status = "stopping" if self.stopping else "ok" if ledger["error"] is None else "ledger"
        return {"status": status, "engines": {name: e.state for name, e in self.engines.items()}, "ledger": ledger}


class Builder:
    """Turns one `Settings` into a `Runtime`, part by part."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = PooledClient()
        self.httpx_client: HttpxClient | None = None
        self.rules = {name: rule_of(name, policy) for name, policy in settings.policies.items()}
        self.engines = {name: EngineSupervisor(self._engine_spec(name)) for name in settings.engines}
        self.backends: dict[str, Backend] = {name: self._provider(name, p) for name, p in settings.providers.items()}
        self.backends |= {name: self._engine_backend(name) for name in settings.engines}
        self.stats: dict[tuple[str, str], TargetStats] = {}

    # --- backends --------------------------------------------------------------------------------------------------
    def _provider(self, name: str, settings: ProviderSettings) -> Backend:
        kind = PROVIDER_KINDS[settings.kind]
        timeouts = settings.timeouts
        headers_s = 60.0 if timeouts.headers_s is None else timeouts.headers_s
        stream = Clocks(timeouts.connect_s, headers_s, timeouts.first_token_s, timeouts.idle_s, timeouts.total_s)
        unary = Clocks(timeouts.connect_s, timeouts.headers_s, timeouts.total_s, timeouts.idle_s, timeouts.total_s)
        spec = ProviderSpec(
            name=name,
            endpoint=endpoint_of(kind, settings),
            clocks=stream,
            unary_clocks=unary,
            asks_stream_usage=kind.stream_usage == "ask",
        )
        return HttpBackend(spec, self._client(settings.transport), OPENAI_CHAT)

    def _client(self, transport: str) -> HttpClient:
        if transport == "native":
            return self.client
        if self.httpx_client is None:
            self.httpx_client = HttpxClient()
        return self.httpx_client

    def _engine_spec(self, name: str) -> EngineSpec:
        engine = self.settings.engines[name]
        return EngineSpec(
            name=name,
            model_path=str(resolve_model(engine.model)),
            slots=engine.slots,
            ctx_per_slot=engine.context,
            threads=engine.threads or os.cpu_count() or 1,
        )

    def _engine_backend(self, name: str) -> Backend:
        engine = self.settings.engines[name]
        raise NotImplementedError(engine)

    # --- routes ----------------------------------------------------------------------------------------------------
    def route(self, name: str, model: ModelSettings) -> Route:
        rule = self.rules[model.policy] if model.policy else Rule()
        targets = [self._target(name, entry) for entry in model.targets]
        if rule.fallback == "local" and not any(target.owned for target in targets):
            targets += [self._make_target(engine, engine, None) for engine in self.settings.engines]
        return assemble(name, rule, targets)

    def _target(self, route: str, entry: TargetSettings) -> Target:
        backend = entry.engine or entry.provider or ""
        return self._make_target(backend, entry.model or (backend if entry.engine else route), entry)

    def _make_target(self, backend: str, model: str, entry: TargetSettings | None) -> Target:
        owned = backend in self.engines
        label = backend if owned else f"{backend}/{model}"
        return Target(
            backend=self.backends[backend],
            model=model,
            owned=owned,
            price=None if owned or "*" in model else self.price(backend, model, entry),
            stats=self.stats.setdefault((backend, model), TargetStats()),
            label=label,
            header=(b"x-turnout-target", label.encode()),
        )

    def price(self, provider: str, model: str, entry: TargetSettings | None) -> Price | None:
        if entry is not None and entry.price is not None:
            return override_price(**entry.price.model_dump())
        kind = PROVIDER_KINDS[self.settings.providers[provider].kind]
        return compile_price(kind.price_provider or "", model)
