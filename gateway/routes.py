"""Model names to routes: what a client asks for, and the targets that may answer it. Built once from the configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gateway.health import Health
from ledger.prices import Price
from policy.affinity import Affinity
from policy.explore import ExploreBudget
from policy.hedge import HedgeBudget
from policy.residency import Admitted, Candidate
from policy.rule import Rule
from policy.shortlist import Looks
from policy.slack import Slack
from policy.stats import TargetStats
from providers.port import Backend

MAX_CACHED_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Target:
    """One entry of a model's target list. `model` is the name sent upstream; `*` in it takes what the pattern matched."""

    backend: Backend
    model: str
    owned: bool
    price: Price | None
    stats: TargetStats
    health: Health
    label: str
    header: tuple[bytes, bytes]
    native: frozenset[str] = frozenset()  # the dialects it answers in the client's own bytes
    keeps_responses: bool = False
    prefill: bool = False  # goes on from an assistant's message that stands last
    repeats_prefill: bool = False  # and begins by repeating it
    region: str = ""
    context_tokens: int | None = None
    lacks: frozenset[str] = frozenset()  # see policy.ask.Ask.needs
    weight: float | None = None
    replica_of: str = ""  # the engine that it is one of several of
    engine_nusd_per_s: float | None = None  # of an owned engine's time; None: not known
    spare: bool = False  # the model does not list it (policy.residency.Candidate)

    def load(self) -> int:
        """Requests that run there: this process's, and whoever else's it tells of."""
        ours, all_ = self.health.running, self.backend.load()
        return ours if ours > all_ else all_


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of `models`: its name (maybe a pattern), rule and targets, in the order of preference.

    `labels`: the targets by their labels. `priced`: a target for each price that there is (`Candidate.price_kind`). `admitted`: what the rule's
    residency leaves of `candidates`; `admitted_by`: what other rules' do, by their identity. `lacking`: what at least one target cannot do. The
    rest is what routing remembers of this model: whose prefix cache is warm, what second runners and measurements have cost, how the promise was
    kept, the last looks at all of a long list.
    """

    name: str
    rule: Rule
    targets: tuple[Target, ...]
    candidates: tuple[Candidate, ...]
    labels: Mapping[str, Target]
    priced: tuple[Target, ...]
    admitted: Admitted
    header: tuple[bytes, bytes]
    lacking: frozenset[str]
    affinity: Affinity
    hedges: HedgeBudget
    exploring: ExploreBudget
    slack: Slack
    looks: Looks
    admitted_by: dict[int, tuple[Rule, Admitted]]

    def open_to(self, rule: Rule) -> tuple[Target, ...]:
        """The targets that there are for a rule, its residency aside."""
        return self.targets if rule.fallback == "local" else tuple(target for target in self.targets if not target.spare)


FillIn = Callable[[Route, str], Route]  # a pattern's route and what `*` matched -> the route for that very name


class RouteTable:
    """Exact names first; then patterns, the longest fixed part first."""

    def __init__(self, routes: Iterable[Route], fill_in: FillIn) -> None:
        routes = list(routes)
        self._exact = {route.name: route for route in routes if "*" not in route.name}
        patterns = sorted((r for r in routes if "*" in r.name), key=lambda r: (-len(r.name), r.name))
        self._patterns: list[tuple[str, str, Route]] = [(r.name.partition("*")[0], r.name.partition("*")[2], r) for r in patterns]
        self._fill_in = fill_in
        self._matched: dict[str, Route] = {}

    def find(self, model: str) -> Route | None:
        """The route for a model name, with `*` in its targets filled in; None when there is none."""
        return self._exact.get(model) or self._matched.get(model) or self._match(model)

    def _match(self, model: str) -> Route | None:
        for prefix, suffix, route in self._patterns:
            if len(model) > len(prefix) + len(suffix) and model.startswith(prefix) and model.endswith(suffix):
                found = self._fill_in(route, model[len(prefix) : len(model) - len(suffix)])
                if len(self._matched) >= MAX_CACHED_NAMES:
                    self._matched.clear()
                self._matched[model] = found
                return found
        return None

    @property
    def exact(self) -> Mapping[str, Route]:
        return self._exact

    @property
    def known(self) -> list[Route]:
        """All, and patterns' routes for the names that were asked for lately."""
        return [*self.all, *self._matched.values()]

    @property
    def all(self) -> list[Route]:
        return [*self._exact.values(), *(route for _, _, route in self._patterns)]
