"""Limits and budgets of one process, in memory: a request's upper bound is reserved at all of its scopes or at none, and settled once.

Time is an argument: `now` in seconds of a clock that only goes on, `wall` in Unix seconds. Never negative: what is reserved and what runs.
"""

import msgspec

from policy.gcra import Bucket, left, tighter, wait_s, window_end, window_start
from policy.quota import Budget, Dimension, Granted, Left, Refused, Scope, Spending, Standing, Used, Want, Window

BUSY_RETRY_S = 1.0  # nobody knows when one of those that run will end


class Account(msgspec.Struct):
    """A budget's window. `reserved_nusd`: the upper bound of what runs."""

    start_s: int
    spent_nusd: int
    reserved_nusd: int = 0


class Unseeded(msgspec.Struct, frozen=True):
    """What was spent in this window is not known yet; `Meter.seed` tells it."""

    scope: Scope
    window: Window
    start_s: int


class _Tally(msgspec.Struct):
    """One scope's."""

    requests: Bucket
    tokens: Bucket
    accounts: dict[Window, Account]
    running: int = 0


class Meter:
    """Bounded by the number of scopes and of requests that run."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._live: dict[str, tuple[list[_Tally], list[Account]]] = {}

    def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want, now: float, wall: float) -> Granted | Refused | Unseeded:
        """All or nothing. An id that has a reservation keeps it, and is granted again."""
        verdict = Verdict(want)
        tallies: list[_Tally] = []
        accounts: list[Account] = []
        for scope in scopes:
            tally = self._tally(scope)
            tallies.append(tally)
            verdict.limits(scope, tally.requests, tally.tokens, tally.running, now)
            for budget in scope.budgets:
                start = window_start(budget.window, wall)
                account = tally.accounts.get(budget.window)
                if account is None or account.start_s < start:
                    return Unseeded(scope, budget.window, start)
                accounts.append(account)
                verdict.budget(scope, budget, account.spent_nusd + account.reserved_nusd, wall)
        if id in self._live:
            return Granted(id, scopes, want, verdict.requests, verdict.tokens)
        if verdict.refused is not None:
            return verdict.refusal()
        for tally in tallies:
            tally.running += 1
        for account in accounts:
            account.reserved_nusd += want.cost_nusd
        self._live[id] = (tallies, accounts)
        requests = tokens = None
        for scope, tally in zip(scopes, tallies, strict=True):
            if scope.limits.rpm is not None:
                tally.requests.pour(1)
                requests = tighter(requests, left(tally.requests.level, scope.limits.rpm))
            if scope.limits.tpm is not None:
                tally.tokens.pour(want.tokens)
                tokens = tighter(tokens, left(tally.tokens.level, scope.limits.tpm))
        return Granted(id, scopes, want, requests, tokens)

    def settle(self, granted: Granted, used: Used, now: float) -> bool:
        """False: it was settled before, or was never granted here."""
        found = self._live.pop(granted.id, None)
        if found is None:
            return False
        tallies, accounts = found
        for scope, tally in zip(granted.scopes, tallies, strict=True):
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

    def _tally(self, scope: Scope) -> _Tally:
        tally = self._tallies.get(scope.id)
        if tally is None:
            tally = self._tallies[scope.id] = _Tally(Bucket(), Bucket(), {})
        return tally


class Verdict:
    """Gathers what stands against a request, and keeps what counts most: what never fits, then a budget, then the longest wait.

    Of budgets one that rejects counts more than one that leaves the gateway's own engines.
    """

    def __init__(self, want: Want) -> None:
        self.want = want
        self.requests: Left | None = None
        self.tokens: Left | None = None
        self.refused: Refused | None = None
        self._weight = (0, 0.0)

    def limits(self, scope: Scope, requests: Bucket, tokens: Bucket, running: int, now: float) -> None:
        limits = scope.limits
        if limits.rpm is not None:
            level = requests.drain(limits.rpm, now)
            self.requests = tighter(self.requests, left(level, limits.rpm))
            self._waits(scope, "requests", wait_s(level, 1, limits.rpm))
        if limits.tpm is not None:
            level = tokens.drain(limits.tpm, now)
            self.tokens = tighter(self.tokens, left(level, limits.tpm))
            self._waits(scope, "tokens", wait_s(level, self.want.tokens, limits.tpm))
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
