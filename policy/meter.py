"""Limits and budgets of one process, in memory: a request's upper bound is reserved at all of its scopes or at none, and settled once.

Time is an argument: `now` in seconds of a clock that only goes on, `wall` in Unix seconds. Never negative: what is reserved and what runs.
"""

from dataclasses import dataclass
from math import inf
from typing import get_args

import msgspec

from policy.gcra import DAY_S, SLACK, Bucket, left, tighter, wait_s, window_end, window_start
from policy.quota import Budget, Dimension, Granted, Left, Refused, Scope, Spending, Standing, Used, Want, Window

BUSY_RETRY_S = 1.0  # nobody knows when one of those that run will end


MOST_TOGETHER = 10_000


@dataclass(slots=True)
class Account:
    """A budget's window. `reserved_nusd`: the upper bound of what runs."""

    start_s: int
    spent_nusd: int
    reserved_nusd: int = 0


class Unseeded(msgspec.Struct, frozen=True):
    """What was spent in this window is not known yet; `Meter.seed` tells it."""

    scope: Scope
    window: Window
    start_s: int


@dataclass(slots=True)
class _Tally:
    """One scope's."""

    requests: Bucket
    tokens: Bucket
    accounts: dict[Window, Account]
    running: int = 0


class _Level:
    """A scope's limits beside what is counted there: a request looks at each of them more than once, so they stand in slots."""

    __slots__ = ("accounts", "concurrency", "day", "requests", "rpm", "scope", "tally", "tokens", "tpm")

    def __init__(self, scope: Scope, tally: _Tally) -> None:
        self.scope = scope
        self.tally = tally
        self.rpm, self.tpm, self.concurrency = scope.limits.rpm, scope.limits.tpm, scope.limits.concurrency
        self.requests, self.tokens = tally.requests, tally.tokens
        self.accounts: tuple[tuple[Account, int], ...] = ()  # of its budgets' windows, with their budgets, on `day`
        self.day = -1.0

    def enter(self, day: float, starts: dict[Window, int]) -> Unseeded | None:
        """A day begins, and perhaps a window."""
        accounts = []
        for budget in self.scope.budgets:
            account = self.tally.accounts.get(budget.window)
            if account is None or account.start_s < starts[budget.window]:
                return Unseeded(self.scope, budget.window, starts[budget.window])
            accounts.append((account, budget.nusd))
        self.accounts, self.day = tuple(accounts), day
        return None


_Levels = tuple[_Level, ...]


class Meter:
    """Bounded by the number of scopes and of requests that run."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._together: dict[int, tuple[tuple[Scope, ...], _Levels]] = {}  # by the identity of a key's scopes, which are kept with it
        self._live: dict[str, tuple[_Levels, list[Account]]] = {}
        self._day = -1.0
        self._starts: dict[Window, int] = {}

    def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want, now: float, wall: float) -> Granted | Refused | Unseeded:
        """All or nothing. An id that has a reservation keeps it, and is granted again."""
        fits, tokens, cost, day = True, want.tokens, want.cost_nusd, wall // DAY_S
        accounts: list[Account] = []
        levels = self._levels_of(scopes)
        for level in levels:
            tally = level.tally
            if (rpm := level.rpm) is not None and level.requests.drain(rpm, now) + 1 - rpm > SLACK:
                fits = False
            if (tpm := level.tpm) is not None and level.tokens.drain(tpm, now) + tokens - tpm > SLACK:
                fits = False
            if (most := level.concurrency) is not None and tally.running >= most:
                fits = False
            if level.day != day and (missing := level.enter(day, self._window_starts(day, wall))) is not None:
                return missing
            for account, nusd in level.accounts:
                accounts.append(account)
                if cost and account.spent_nusd + account.reserved_nusd + cost > nusd:
                    fits = False
        if id not in self._live:
            if not fits:
                return _refusal(levels, want, wall)
            for level in levels:
                level.tally.running += 1
                if level.rpm is not None:
                    level.requests.level += 1
                if level.tpm is not None:
                    level.tokens.level += tokens
            for account in accounts:
                account.reserved_nusd += cost
            self._live[id] = levels, accounts
        return Granted(id, scopes, want, *_left(levels))

    def settle(self, granted: Granted, used: Used, now: float) -> bool:
        """False: it was settled before, or was never granted here."""
        found = self._live.pop(granted.id, None)
        if found is None:
            return False
        levels, accounts = found
        want = granted.want
        too_few = used.tokens - want.tokens
        for level in levels:
            level.tally.running -= 1
            if level.rpm is not None and not used.answered:
                level.requests.correct(-1, level.rpm, now)
            if level.tpm is not None:
                level.tokens.correct(too_few, level.tpm, now)
        for account in accounts:
            account.reserved_nusd -= want.cost_nusd
            account.spent_nusd += used.cost_nusd
        return True

    def seed(self, missing: Unseeded, spent_nusd: int) -> None:
        """A window begins with what was spent in it so far. One that is known already stays, also where the clock went back over its beginning."""
        accounts = self._tally(missing.scope).accounts
        known = accounts.get(missing.window)
        if known is None or known.start_s < missing.start_s:
            accounts[missing.window] = Account(missing.start_s, spent_nusd)

    def standing(self, scope: Scope, now: float, wall: float) -> Standing | Unseeded:
        tally, limits = self._tally(scope), scope.limits
        spendings = []
        for budget in scope.budgets:
            start = window_start(budget.window, wall)
            account = tally.accounts.get(budget.window)
            if account is None or account.start_s < start:
                return Unseeded(scope, budget.window, start)
            spendings.append(Spending(budget, start, account.spent_nusd, account.reserved_nusd))
        requests = None if limits.rpm is None else left(tally.requests.drain(limits.rpm, now), limits.rpm)
        tokens = None if limits.tpm is None else left(tally.tokens.drain(limits.tpm, now), limits.tpm)
        return Standing(scope, tally.running, requests, tokens, tuple(spendings))

    @property
    def running(self) -> int:
        """Reservations that are not settled."""
        return len(self._live)

    def _window_starts(self, day: float, wall: float) -> dict[Window, int]:
        """Worked out once a day."""
        if day != self._day:
            self._day, self._starts = day, {window: window_start(window, wall) for window in get_args(Window)}
        return self._starts

    def _levels_of(self, scopes: tuple[Scope, ...]) -> _Levels:
        known = self._together.get(id(scopes))
        if known is None or known[0] is not scopes:
            if len(self._together) >= MOST_TOGETHER:
                self._together.clear()
            known = self._together[id(scopes)] = scopes, tuple(_Level(scope, self._tally(scope)) for scope in scopes)
        return known[1]

    def _tally(self, scope: Scope) -> _Tally:
        tally = self._tallies.get(scope.id)
        if tally is None:
            tally = self._tallies[scope.id] = _Tally(Bucket(), Bucket(), {})
        return tally


def _left(levels: _Levels) -> tuple[Left | None, Left | None]:
    """Of requests and of tokens, at the scopes that have the least."""
    requests = tokens = None
    fewest_requests = fewest_tokens = inf
    for level in levels:
        if (rpm := level.rpm) is not None and (room := rpm - level.requests.level) < fewest_requests:
            fewest_requests, requests = room, level
        if (tpm := level.tpm) is not None and (room := tpm - level.tokens.level) < fewest_tokens:
            fewest_tokens, tokens = room, level
    return (
        None if requests is None else left(requests.requests.level, requests.rpm or 0),
        None if tokens is None else left(tokens.tokens.level, tokens.tpm or 0),
    )


def _refusal(levels: _Levels, want: Want, wall: float) -> Refused:
    verdict = Verdict(want)
    for level in levels:
        tally, scope = level.tally, level.scope
        verdict.limits(scope, tally.requests.level, tally.tokens.level, tally.running)
        for budget in scope.budgets:
            account = tally.accounts[budget.window]
            verdict.budget(scope, budget, account.spent_nusd + account.reserved_nusd, wall)
    return verdict.refusal()


class Verdict:
    """Why a request is refused: gathers what stands against it, and keeps what counts most: what never fits, then a budget, then the longest wait.

    Of budgets one that rejects counts more than one that leaves the gateway's own engines.
    """

    def __init__(self, want: Want) -> None:
        self.want = want
        self.requests: Left | None = None
        self.tokens: Left | None = None
        self.refused: Refused | None = None
        self._weight = (0, 0.0)

    def limits(self, scope: Scope, requests: float, tokens: float, running: int) -> None:
        """What is in its buckets now, and how many run."""
        limits = scope.limits
        if limits.rpm is not None:
            self.requests = tighter(self.requests, left(requests, limits.rpm))
            self._waits(scope, "requests", wait_s(requests, 1, limits.rpm))
        if limits.tpm is not None:
            self.tokens = tighter(self.tokens, left(tokens, limits.tpm))
            self._waits(scope, "tokens", wait_s(tokens, self.want.tokens, limits.tpm))
        if limits.concurrency is not None and running >= limits.concurrency:
            self._waits(scope, "concurrency", BUSY_RETRY_S)

    def budget(self, scope: Scope, budget: Budget, committed_nusd: int, wall: float) -> None:
        """What costs nothing needs no budget."""
        cost = self.want.cost_nusd
        if cost == 0 or committed_nusd + cost <= budget.nusd:
            return
        end = window_end(budget.window, wall) if cost <= budget.nusd else None
        weight = (2 if budget.on_exhausted == "local" else 3, 0.0)
        self._keep(weight, Refused(scope, "budget", None if end is None else end - wall, budget))

    def refusal(self) -> Refused:
        assert self.refused is not None
        return msgspec.structs.replace(self.refused, requests=self.requests, tokens=self.tokens)

    def _waits(self, scope: Scope, dimension: Dimension, seconds: float | None) -> None:
        if seconds is None:
            self._keep((4, 0.0), Refused(scope, dimension, None))
        elif seconds > 0:
            self._keep((1, seconds), Refused(scope, dimension, seconds))

    def _keep(self, weight: tuple[int, float], refused: Refused) -> None:
        if weight > self._weight:
            self._weight, self.refused = weight, refused
