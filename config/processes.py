"""What several processes cannot do without a Redis: count together what a configuration limits."""

from collections.abc import Iterator

from config.problem import Problem, problem
from config.settings import Settings


def uncounted(settings: Settings) -> Iterator[Problem]:
    """Limits and budgets that each worker would count for itself are faults; that they learn apart is noted."""
    workers = settings.server.workers
    if workers == 1 or settings.state.redis is not None:
        return
    apart = list(_apart(settings, workers))
    yield from apart
    if not apart:
        words = f"without a `state.redis` each of the {workers} workers learns of its targets by itself"
        yield problem(words, "server", "workers", note=True)


def _apart(settings: Settings, workers: int) -> Iterator[Problem]:
    for section, tenants in (("organisations", settings.organisations), ("teams", settings.teams)):
        for name, tenant in tenants.items():
            for what, given in (("limits", tenant.limits is not None), ("budget", bool(tenant.budgets))):
                if given:
                    words = f"each of the {workers} workers would count by itself; name a `state.redis` for all of them, or set `server.workers` to 1"
                    yield problem(words, section, name, what)
