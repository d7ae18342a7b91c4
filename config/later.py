"""Settings that have their form already, and no effect yet: refused at their place, never ignored."""

from collections.abc import Iterator

from config.problem import Problem, problem
from config.settings import Settings

TOLD = "not supported yet: this version would ignore it, so take it out"


def later(settings: Settings) -> Iterator[Problem]:
    """Every such setting that says something else than its default."""
    if settings.admin is not None:
        yield problem(f"`admin`: {TOLD}", "admin")
