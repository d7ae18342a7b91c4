"""Which budgets the replayed spending would have gone beyond, and when: the configuration's organisations and teams, window by window."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Engine

from config.settings import Settings
from gateway.scopes import scope_of
from ledger.spent import spent_nusd
from policy.gcra import window_start
from policy.quota import Budget, Scope

MINUTE_US = 60_000_000
Key = tuple[Scope, Budget, int]  # and where the window begins, Unix time


class Spent(NamedTuple):
    """One budget in one window, in nano-dollars; `*_beyond_s`: the minute in which it was exceeded, Unix time."""

    scope: Scope
    budget: Budget
    start_s: int
    recorded_nusd: int
    replayed_nusd: int
    recorded_beyond_s: int | None
    replayed_beyond_s: int | None


class Budgets:
    """Holds what was spent in each minute, so that parts of a replay add up."""

    def __init__(self, settings: Settings) -> None:
        self._teams: Mapping[str, Scope] = {name: scope_of("team", name, team) for name, team in settings.teams.items()}
        self._organisations = {name: scope_of("organisation", name, told) for name, told in settings.organisations.items()}
        self._of = {name: team.organisation for name, team in settings.teams.items()}
        self._spent: dict[Key, dict[int, tuple[int, int]]] = {}

    def paid(self, team: str, at_us: int, recorded_nusd: int, replayed_nusd: int) -> None:
        """By a request that began then."""
        minute = at_us // MINUTE_US
        for scope in (self._teams.get(team), self._organisations.get(self._of.get(team) or "")):
            for budget in () if scope is None else scope.budgets:
                assert scope is not None
                self._pay((scope, budget, window_start(budget.window, minute * 60)), minute, recorded_nusd, replayed_nusd)

    def _pay(self, key: Key, minute: int, recorded_nusd: int, replayed_nusd: int) -> None:
        minutes = self._spent.setdefault(key, {})
        then, now = minutes.get(minute, (0, 0))
        minutes[minute] = then + recorded_nusd, now + replayed_nusd

    def add(self, other: "Budgets") -> None:
        """What another part of the same replay spent."""
        for key, minutes in other._spent.items():
            for minute, (then, now) in minutes.items():
                self._pay(key, minute, then, now)

    def exceeded(self, ledger: Engine, since_us: int) -> list[Spent]:
        """Those that either side went beyond. What a window holds from before `since_us` is read from the ledger, and is the same on both sides."""
        found = []
        for (scope, budget, start_s), minutes in self._spent.items():
            before, since_s = 0, since_us // 1_000_000
            if start_s < since_s:
                before = spent_nusd(ledger, scope.kind, scope.name, start_s) - spent_nusd(ledger, scope.kind, scope.name, since_s)
            then = now = before
            beyond: list[int | None] = [None, None]
            for minute, (recorded, replayed) in sorted(minutes.items()):
                then, now = then + recorded, now + replayed
                for side, spent in enumerate((then, now)):
                    if beyond[side] is None and spent > budget.nusd:
                        beyond[side] = minute * 60
            if beyond != [None, None]:
                found.append(Spent(scope, budget, start_s, then, now, *beyond))
        return sorted(found, key=lambda each: (each.start_s, each.scope.id))
