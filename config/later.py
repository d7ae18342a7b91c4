"""Settings that have their form already, and no effect yet: refused at their place, never ignored."""

from collections.abc import Iterator

from config.problem import Problem, problem
from config.settings import Settings, StateSettings
from config.tenancy import TeamSettings

TOLD = "not supported yet: this version would ignore it, so take it out"
TEAM = ("organisation", "limits", "budget", "max_usd_per_request", "max_tokens_per_request", "priority", "weight", "semantic_cache")


def later(settings: Settings) -> Iterator[Problem]:
    """Every such setting that says something else than its default."""
    if settings.server.workers > 1:
        yield problem(f"`server.workers`: more than 1 is {TOLD}", "server", "workers")
    for name in ("on_store_loss", "cache_mb"):
        if getattr(settings.state, name) != StateSettings.model_fields[name].default:
            yield problem(f"`state.{name}`: {TOLD}", "state", name)
    if settings.alerts is not None:
        yield problem(f"`alerts`: {TOLD}", "alerts")
    for name, policy in settings.policies.items():
        if policy.cache is not None:
            yield problem(f"`policies.{name}.cache`: {TOLD}", "policies", name, "cache")
    for name in settings.organisations:
        yield problem(f"`organisations.{name}`: {TOLD}", "organisations", name)
    for name, team in settings.teams.items():
        yield from _team(name, team)


def _team(name: str, team: TeamSettings) -> Iterator[Problem]:
    for field in TEAM:
        if getattr(team, field) != TeamSettings.model_fields[field].default:
            yield problem(f"`teams.{name}.{field}`: {TOLD}", "teams", name, field)
