"""Limits and budgets of one process, in memory: a request's upper bound is reserved at all of its scopes or at none, and settled once.

Time is an argument: `now` in seconds of a clock that only goes on, `wall` in Unix seconds. Never negative: what is reserved and what runs.
"""

from dataclasses import dataclass
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


_Tallies = list[tuple[Scope, _Tally]]


class Meter:
    """Bounded by the number of scopes and of requests that run."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._together: dict[int, tuple[tuple[Scope, ...], _Tallies]] = {}  # by the identity of a key's scopes, which are kept with it
        self._live: dict[str, tuple[_Tallies, list[Account]]] = {}
        self._day = -1.0
        self._starts: dict[Window, int] = {}

    def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want, now: float, wall: float) -> Granted | Refused | Unseeded:
        """All or nothing. An id that has a reservation keeps it, and is granted again."""
        fits, cost, starts = True, want.cost_nusd, self._window_starts(wall)
        accounts: list[Account] = []
        tallies = self._tallies_of(scopes)
        for scope, tally in tallies:
            limits = scope.limits
            if limits.rpm is not None and tally.requests.drain(limits.rpm, now) + 1 - limits.rpm > SLACK:
                fits = False
            if limits.tpm is not None and tally.tokens.drain(limits.tpm, now) + want.tokens - limits.tpm > SLACK:
                fits = False
            if limits.concurrency is not None and tally.running >= limits.concurrency:
                fits = False
            for budget in scope.budgets:
                account = tally.accounts.get(budget.window)
                if account is None or account.start_s < starts[budget.window]:
                    return Unseeded(scope, budget.window, starts[budget.window])
                accounts.append(account)
                if cost and account.spent_nusd + account.reserved_nusd + cost > budget.nusd:
                    fits = False
        if id not in self._live:
            if not fits:
                return _refusal(tallies, want, wall)
            self._take(id, tallies, accounts, want)
        return Granted(id, scopes, want, *_left(tallies))

    def _take(self, id: str, tallies: _Tallies, accounts: list[Account], want: Want) -> None:
        for scope, tally in tallies:
            tally.running += 1
            if scope.limits.rpm is not None:
                tally.requests.pour(1)
            if scope.limits.tpm is not None:
                tally.tokens.pour(want.tokens)
        for account in accounts:
            account.reserved_nusd += want.cost_nusd
        self._live[id] = (tallies, accounts)

    def settle(self, granted: Granted, used: Used, now: float) -> bool:
        """False: it was settled before, or was never granted here."""
        found = self._live.pop(granted.id, None)
        if found is None:
            return False
        tallies, accounts = found
        for scope, tally in tallies:
            tally.running -= 1
            if scope.limits.rpm is not None and not used.answered:
                tally.requests.drain(scope.limits.rpm, now)
                tally.requests.pour(-1)
            if scope.limits.tpm is not None:
                tally.tokens.drain(scope.limits.tpm, now)
                tally.tokens.pour(used.tokens - granted.want.tokens)
        for account in accounts:
            account.reserved_nusd -= granted.want.cost_nusd
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

    def _window_starts(self, wall: float) -> dict[Window, int]:
        """Worked out once a day."""
        if (day := wall // DAY_S) != self._day:
            self._day, self._starts = day, {window: window_start(window, wall) for window in get_args(Window)}
        return self._starts

    def _tallies_of(self, scopes: tuple[Scope, ...]) -> _Tallies:
        known = self._together.get(id(scopes))
        if known is None or known[0] is not scopes:
            if len(self._together) >= MOST_TOGETHER:
                self._together.clear()
            known = self._together[id(scopes)] = scopes, [(scope, self._tally(scope)) for scope in scopes]
        return known[1]

    def _tally(self, scope: Scope) -> _Tally:
        tally = self._tallies.get(scope.id)
        if tally is None:
            tally = self._tallies[scope.id] = _Tally(Bucket(), Bucket(), {})
        return tally


def _left(tallies: _Tallies) -> tuple[Left | None, Left | None]:
    """Of requests and of tokens, at the scopes that have the least."""
    requests = tokens = None
    for scope, tally in tallies:
        rpm, tpm = scope.limits.rpm, scope.limits.tpm
        if rpm is not None and (requests is None or rpm - tally.requests.level < requests[0]):
            requests = rpm - tally.requests.level, tally.requests.level, rpm
        if tpm is not None and (tokens is None or tpm - tally.tokens.level < tokens[0]):
            tokens = tpm - tally.tokens.level, tally.tokens.level, tpm
    return None if requests is None else left(requests[1], requests[2]), None if tokens is None else left(tokens[1], tokens[2])


def _refusal(tallies: _Tallies, want: Want, wall: float) -> Refused:
    verdict = Verdict(want)
    for scope, tally in tallies:
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
