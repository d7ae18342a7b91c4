"""The configuration that a replay plans by: whom a team's request may go to, by which rule, at which price of that day."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from config.settings import Settings
from gateway.planner import admitted_by
from gateway.pricing import entry_of, price_of
from gateway.routes import Route, RouteTable
from gateway.rules import Caps
from gateway.runtime import Builder
from gateway.scopes import principal_of
from ledger.prices import Price
from policy.evidence import Target
from policy.residency import Admitted
from policy.rule import Rule
from policy.slots import Slots

DAY_US = 86_400_000_000


class Place(msgspec.Struct, frozen=True):
    """Where one team's requests for one model go. `keys[i]`: the backend and the model of `admitted.allowed[i]`. `max_tokens`: of an answer."""

    route: Route
    rule: Rule
    admitted: Admitted
    keys: tuple[Target, ...]
    by_name: Mapping[str, Target]
    names: Mapping[Target, str]
    max_tokens: int | None


class Places:
    """Raises WeightsNotFound, ValueError where an engine of the configuration cannot be set up."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._builder = Builder(settings)
        self.known = self._builder.known  # (backend, model) -> statistics, health
        self._routes = RouteTable([self._builder.route(name, entry) for name, entry in settings.models.items()], self._builder.fill_in)
        self._caps = Caps()
        self._found: dict[tuple[str, str], Place | None] = {}
        self._prices: dict[tuple[Target, str, int], Price | None] = {}

    def slots(self) -> dict[str, Slots]:
        """A queue for each owned engine, empty."""
        found = {}
        for name, engine in self.settings.engine_replicas.items():
            behind_one = engine.replicas if engine.kind == "ray-serve" else 1
            found[name] = Slots(engine.slots * behind_one, engine.max_queue, engine.max_wait_s)
        return found

    def find(self, team: str, model: str) -> Place | None:
        """None: the configuration has no such model for that team."""
        key = (team, model)
        if key not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[key] = self._place(team, model)
        return self._found[key]

    def _place(self, team: str, model: str) -> Place | None:
        route, settings = self._routes.find(model), self.settings
        if route is None:
            return None
        rule, max_tokens = route.rule, None
        if team in settings.teams:
            policy = settings.teams[team].policy
            who = principal_of(settings, team, "", self._builder.rules[policy] if policy else None)
            if who.models is not None and route.name not in who.models:
                return None
            rule, max_tokens = who.rule or rule, who.max_tokens
            rule = rule if who.max_nusd is None else self._caps.capped(rule, who.max_nusd)
        admitted = admitted_by(rule, route)
        targets = [route.targets[each.index] for each in admitted.allowed]
        keys = tuple((each.backend.name, each.model) for each in targets)
        by_name = {each.label: key for each, key in zip(targets, keys, strict=True)}
        return Place(route, rule, admitted, keys, by_name, {key: name for name, key in by_name.items()}, max_tokens)

    def price(self, target: Target, route: str, at_us: int) -> Price | None:
        """Of that day. None: not known."""
        backend, model = target
        key = (target, route, at_us // DAY_US)
        if key not in self._prices:
            at = datetime.fromtimestamp(at_us / 1e6, UTC)
            self._prices[key] = price_of(self.settings, backend, model, entry_of(self.settings, route, backend, model), at)
        return self._prices[key]
