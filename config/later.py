"""Settings that have their form already, and no effect yet: refused at their place, never ignored."""

from collections.abc import Iterator

from config.problem import Problem, problem
from config.settings import Settings, StateSettings
from config.tenancy import TeamSettings

TOLD = "not supported yet: this version would ignore it, so take it out"
TEAM = ("semantic_cache",)


def later(settings: Settings) -> Iterator[Problem]:
    """Every such setting that says something else than its default."""
    if settings.state.cache_mb != StateSettings.model_fields["cache_mb"].default:
        yield problem(f"`state.cache_mb`: {TOLD}", "state", "cache_mb")
    if settings.admin is not None:
        yield problem(f"`admin`: {TOLD}", "admin")
    for name, policy in settings.policies.items():
        if policy.cache is not None:
            yield problem(f"`policies.{name}.cache`: {TOLD}", "policies", name, "cache")
    for name, team in settings.teams.items():
        yield from _team(name, team)


def _team(name: str, team: TeamSettings) -> Iterator[Problem]:
    for field in TEAM:
        if getattr(team, field) != TeamSettings.model_fields[field].default:
            yield problem(f"`teams.{name}.{field}`: {TOLD}", "teams", name, field)
