"""Which budgets the replayed spending would have gone beyond, and when: the configuration's organisations and teams, window by window."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import Engine

from config.settings import Settings
from gateway.scopes import scope_of
from ledger.spent import spent_nusd
from policy.gcra import window_start
from policy.quota import Budget, Scope


class Spent(msgspec.Struct):
    """One budget in one window, in nano-dollars; `*_beyond_us`: when it was exceeded, Unix time."""

    scope: Scope
    budget: Budget
    start_s: int
    recorded_nusd: int = 0
    replayed_nusd: int = 0
    recorded_beyond_us: int | None = None
    replayed_beyond_us: int | None = None

    def paid(self, at_us: int, recorded_nusd: int, replayed_nusd: int) -> None:
        self.recorded_nusd += recorded_nusd
        self.replayed_nusd += replayed_nusd
        if self.recorded_beyond_us is None and self.recorded_nusd > self.budget.nusd:
            self.recorded_beyond_us = at_us
        if self.replayed_beyond_us is None and self.replayed_nusd > self.budget.nusd:
            self.replayed_beyond_us = at_us


class Budgets:
    """`since_us`: where the replay begins. What a window holds from before that is read from the ledger, and the same on both sides."""

    def __init__(self, settings: Settings, ledger: Engine, since_us: int) -> None:
        self._ledger = ledger
        self._since_s = since_us // 1_000_000
        self._teams: Mapping[str, Scope] = {name: scope_of("team", name, team) for name, team in settings.teams.items()}
        self._organisations = {name: scope_of("organisation", name, told) for name, told in settings.organisations.items()}
        self._of = {name: team.organisation for name, team in settings.teams.items()}
        self._spent: dict[tuple[str, Budget, int], Spent] = {}

    def paid(self, team: str, at_us: int, recorded_nusd: int, replayed_nusd: int) -> None:
        """By a request that began then."""
        scopes = (self._teams.get(team), self._organisations.get(self._of.get(team) or ""))
        for scope in scopes:
            for budget in () if scope is None else scope.budgets:
                assert scope is not None
                self._window(scope, budget, at_us).paid(at_us, recorded_nusd, replayed_nusd)

    def _window(self, scope: Scope, budget: Budget, at_us: int) -> Spent:
        start_s = window_start(budget.window, at_us // 1_000_000)
        key = (scope.id, budget, start_s)
        if key not in self._spent:
            before = 0
            if start_s < self._since_s:
                kind = scope.kind
                before = spent_nusd(self._ledger, kind, scope.name, start_s) - spent_nusd(self._ledger, kind, scope.name, self._since_s)
            self._spent[key] = Spent(scope, budget, start_s, before, before)
        return self._spent[key]

    @property
    def exceeded(self) -> list[Spent]:
        """Those that either side went beyond."""
        found = [each for each in self._spent.values() if each.replayed_beyond_us is not None or each.recorded_beyond_us is not None]
        return sorted(found, key=lambda each: (each.start_s, each.scope.id))
