"""What could never take effect as it is written: a pure check of settings whose names are all known.

A fault is what would silently do something else than it says: a residency that leaves no target, an unknown price where prices decide, a
weight that shares nothing, a model that leads back to itself. What merely has no effect is advice: a target that is never tried or stands
there twice, a policy that nobody names, a hedge without a second target.

Patterns need no check: of those that match a name the longest answers, so each has names of its own (tests/config/test_reachability.py).
Overrides are left aside: what one request says may bring a target to the front that its policy never tries. Messages show no value that a
variable may have filled in.
"""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from config.problem import Problem, problem
from config.settings import ModelSettings, PolicySettings, ProviderSettings, ServerSettings, Settings, TargetSettings
from config.tenancy import TeamSettings

Priced = Callable[[str, str], bool]  # kind and model -> a price is known
UrlOf = Callable[[ProviderSettings], str]
DEFAULT = PolicySettings()
# the address listened on -> the hosts under which a client on the same machine may know it
HOSTS = {
    "127.0.0.1": {"127.0.0.1", "localhost", "0.0.0.0"},
    "::1": {"::1", "localhost"},
    "localhost": {"localhost", "127.0.0.1", "::1"},
    "0.0.0.0": {"0.0.0.0", "127.0.0.1", "localhost"},
    "::": {"::", "::1", "0.0.0.0", "127.0.0.1", "localhost"},
}
SAMPLE = "\0"  # what `*` matched, in a name that no entry has


def unreachable(settings: Settings, priced: Priced, url_of: UrlOf) -> Iterator[Problem]:
    """Every finding. Expects that all names in the settings refer to something."""
    check = _Reachability(settings, priced, url_of)
    for name, model in settings.models.items():
        yield from check.residency(name, model)
        yield from check.prices(name, model)
        yield from check.weights(name, model)
        yield from check.never_tried(name, model)
        yield from check.twice(name, model)
    yield from check.teams()
    yield from check.policies()
    yield from check.cycles()


def permitted(policy: PolicySettings, region: str | None, owned: bool) -> bool:
    """Whether a residency lets a target in, as policy/residency.py decides it."""
    if owned or policy.residency == "any":
        return True
    if policy.residency == "local_only" or region is None:
        return False
    return any(region == each or region.startswith(f"{each}-") for each in policy.residency)


def entry_for(settings: Settings, name: str) -> str | None:
    """The entry of `models` that answers a name, as gateway/routes.py finds it: the very name, else the longest pattern."""
    if name in settings.models:
        return name
    for pattern in sorted((each for each in settings.models if "*" in each), key=lambda each: (-len(each), each)):
        prefix, _, suffix = pattern.partition("*")
        if len(name) >= len(pattern) and name.startswith(prefix) and name.endswith(suffix):
            return pattern
    return None


class _Reachability:
    def __init__(self, settings: Settings, priced: Priced, url_of: UrlOf) -> None:
        self.settings = settings
        self.priced = priced
        self.url_of = url_of
        self.has_keys = any(team.keys for team in settings.teams.values())

    # --- who decides ---------------------------------------------------------------------------------------------------
    def _own(self, model: ModelSettings) -> PolicySettings:
        return self.settings.policies[model.policy] if model.policy else DEFAULT

    def _teams_of(self, name: str) -> list[TeamSettings]:
        return [team for team in self.settings.teams.values() if team.models is None or name in team.models]

    def _deciding(self, name: str, model: ModelSettings) -> dict[str, PolicySettings]:
        """The policies that decide over a model by their names: its own, and those of the teams that may use it."""
        named = {model.policy or "": self._own(model)}
        return named | {team.policy: self.settings.policies[team.policy] for team in self._teams_of(name) if team.policy}

    def _may_override_policy(self, name: str) -> bool:
        """Without a team's key there is the bootstrap key, which may."""
        return not self.has_keys or any("policy" in team.allowed_overrides for team in self._teams_of(name))

    def _permits(self, policy: PolicySettings, target: TargetSettings) -> bool:
        provider = self.settings.providers.get(target.provider or "")
        return permitted(policy, provider.region if provider else None, target.engine is not None)

    def _leaves_none(self, policy: PolicySettings, model: ModelSettings) -> bool:
        local = "local" in (policy.fallback, self._own(model).fallback)  # every engine, where the model lists none
        added = local and bool(self.settings.engines)
        return not added and not any(self._permits(policy, target) for target in model.targets)

    # --- faults --------------------------------------------------------------------------------------------------------
    def residency(self, name: str, model: ModelSettings) -> Iterator[Problem]:
        if model.policy and self._leaves_none(self._own(model), model):
            words = f"the residency of `{model.policy}` leaves no target of `{name}`; add an engine, or a provider whose `region` it names"
            yield problem(words, "models", name, "policy")

    def teams(self) -> Iterator[Problem]:
        models = self.settings.models
        for name, team in self.settings.teams.items():
            if team.policy is None or not models:
                continue
            policy = self.settings.policies[team.policy]
            for index, model in enumerate(team.models or ()):
                if self._leaves_none(policy, models[model]):
                    words = f"the residency of the team's policy `{team.policy}` leaves no target of `{model}`; take the model out, or add a target"
                    yield problem(words, "teams", name, "models", index)
            if team.models is None and all(self._leaves_none(policy, model) for model in models.values()):
                yield problem(f"the residency of `{team.policy}` leaves no target of any model; add one, or choose another", "teams", name, "policy")

    def prices(self, name: str, model: ModelSettings) -> Iterator[Problem]:
        for index, target in enumerate(model.targets):
            sent = target.model or name
            if target.engine is not None or target.price is not None or "*" in sent:
                continue
            if self.priced(self.settings.providers[target.provider or ""].kind, sent):
                continue
            if why := next(self._needing_price(name, model, target), ""):
                words = f"the price of this target is not known, and {why}; add `price`, or `price: free` where nothing is paid"
                yield problem(words, "models", name, "targets", index)

    def _needing_price(self, name: str, model: ModelSettings, target: TargetSettings) -> Iterator[str]:
        """Who compares or counts what the target costs."""
        for policy_name, policy in self._deciding(name, model).items():
            if (policy.counts_cost or policy.max_usd_per_request is not None) and self._permits(policy, target):
                why = f"objective: {policy.objective_name}" if policy.counts_cost else "max_usd_per_request"
                yield f"`{policy_name}` decides by it ({why})"
        for team_name, team in self.settings.teams.items():
            if team.models is not None and name not in team.models:
                continue
            if not self._permits(self.settings.policies[team.policy] if team.policy else self._own(model), target):
                continue
            organisation = self.settings.organisations.get(team.organisation or "")
            for what, tenant in ((f"team `{team_name}`", team), (f"organisation `{team.organisation}`", organisation)):
                if tenant is not None and (tenant.budgets or tenant.max_usd_per_request is not None):
                    yield f"{what} has a {'budget' if tenant.budgets else 'max_usd_per_request'}, which counts it"

    def weights(self, name: str, model: ModelSettings) -> Iterator[Problem]:
        weighted = [index for index, target in enumerate(model.targets) if target.weight is not None]
        if not weighted:
            return
        deciding = [*self._deciding(name, model).values(), *(self.settings.policies.values() if self._may_override_policy(name) else ())]
        if all(policy.objective_name != "ordered" for policy in deciding):
            words = "a weight shares requests under `objective: ordered` only, and this model's policy has another; take it out"
            yield problem(words, "models", name, "targets", weighted[0], "weight")
            return
        for index in range(weighted[-1]):
            if index not in weighted:
                words = "this target has no weight and stands before one that has, which would always go first; give it one, or list it after those"
                yield problem(words, "models", name, "targets", index)
        if len(weighted) == 1:
            yield problem("a single weight shares nothing; give another target one", "models", name, "targets", weighted[0], "weight", advice=True)

    # --- advice --------------------------------------------------------------------------------------------------------
    def never_tried(self, name: str, model: ModelSettings) -> Iterator[Problem]:
        barred = [self._barred(policy, model) for policy in self._deciding(name, model).values()]
        for index, reasons in enumerate(zip(*barred, strict=True)):
            if all(reasons):
                yield problem(f"this target is never tried: {reasons[0]}", "models", name, "targets", index, advice=True)

    def _barred(self, policy: PolicySettings, model: ModelSettings) -> list[str]:
        """For each target why the policy never tries it; empty: it may. Where order alone decides, the first target is always the first."""
        in_order = policy.objective_name == "ordered" and policy.slo is None and all(target.weight is None for target in model.targets)
        barred, tried = [], False
        for target in model.targets:
            why = ""
            if not self._permits(policy, target):
                why = self._residency_words(policy, target)
            elif in_order and tried and (policy.fallback == "none" or (policy.fallback == "local" and target.engine is None)):
                why = f"fallback: {policy.fallback}"
            else:
                tried = True
            barred.append(why)
        return barred

    def _residency_words(self, policy: PolicySettings, target: TargetSettings) -> str:
        if policy.residency == "local_only":
            return "residency: local_only"
        provider = self.settings.providers[target.provider or ""]
        return "residency: its provider has no `region`" if provider.region is None else "residency: its provider's `region` is not permitted"

    def twice(self, name: str, model: ModelSettings) -> Iterator[Problem]:
        seen = set()
        for index, target in enumerate(model.targets):
            which = (target.engine, target.provider, None if target.engine else target.model or name)
            if which in seen:
                words = "this target stands in the list twice; `retry.max_attempts` is for trying it again, and `weight` for its share"
                yield problem(words, "models", name, "targets", index, advice=True)
            seen.add(which)

    def policies(self) -> Iterator[Problem]:
        settings = self.settings
        named = {model.policy for model in settings.models.values()} | {team.policy for team in settings.teams.values()}
        by_request = any("policy" in team.allowed_overrides for team in settings.teams.values())
        for name, policy in settings.policies.items():
            if name not in named and not by_request:
                yield problem("no model and no team names this policy", "policies", name, key=True, advice=True)
            if policy.hedge is not None and policy.fallback == "none":
                yield problem("fallback: none leaves no second target to hedge with", "policies", name, "hedge", advice=True)
            elif policy.hedge is not None and not any(len(model.targets) > 1 or self._replicas(model) > 1 for model in self._under(name)):
                yield problem("no model that it decides has a second target to hedge with", "policies", name, "hedge", advice=True)
            if policy.fallback == "local" and not settings.engines:
                yield problem("there is no engine to fall back to", "policies", name, "fallback", advice=True)

    def _under(self, policy: str) -> list[ModelSettings]:
        """The models that a policy may decide."""
        teams = self.settings.teams.values()
        anyhow = any(team.policy == policy or "policy" in team.allowed_overrides for team in teams)
        return [model for model in self.settings.models.values() if anyhow or model.policy == policy]

    def _replicas(self, model: ModelSettings) -> int:
        return max(self.settings.engines[target.engine].replicas if target.engine else 1 for target in model.targets)

    # --- cycles --------------------------------------------------------------------------------------------------------
    def cycles(self) -> Iterator[Problem]:
        """Models that come back to themselves through a provider that is this gateway."""
        own = {name for name, provider in self.settings.providers.items() if is_own(self.url_of(provider), self.settings.server)}
        leads: dict[str, dict[int, str]] = {}
        for name, model in self.settings.models.items() if own else ():
            sent = {i: (target.model or name).replace("*", SAMPLE) for i, target in enumerate(model.targets) if target.provider in own}
            leads[name] = {index: entry for index, asked in sent.items() if (entry := entry_for(self.settings, asked))}
        for name, targets in leads.items():
            for index, entry in targets.items():
                if way := _way(leads, entry, name):
                    steps = " → ".join(f"`{step}`" for step in (name, *way))
                    words = f"this provider is the gateway itself, and requests go round: {steps}; name another `base_url` or `server.port`"
                    yield problem(words, "models", name, "targets", index)


def is_own(url: str, server: ServerSettings) -> bool:
    """Whether a base URL is where the gateway itself listens."""
    parts = urlsplit(url)
    if parts.scheme != "http" or server.port == 0 or parts.path.rstrip("/") != "/v1":
        return False
    return (parts.port or 80) == server.port and (parts.hostname or "") in HOSTS.get(server.host, {server.host})


def _way(leads: dict[str, dict[int, str]], start: str, end: str) -> list[str] | None:
    """The entries from one to another, both included."""
    ways, seen = [[start]], {start}
    for way in ways:  # grows while it is read: nearest first
        if way[-1] == end:
            return way
        for following in leads.get(way[-1], {}).values():
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None
