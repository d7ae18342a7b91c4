"""Limits and budgets of one process, in memory: a request's upper bound is reserved at all of its scopes or at none, and settled once.

Time is an argument: `now` in seconds of a clock that only goes on, `wall` in Unix seconds. Never negative: what is reserved and what runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import get_args

import msgspec

from policy.gcra import DAY_S, MINUTE_S, SLACK, Bucket, left, tighter, wait_s, window_end, window_start, with_room
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


_Limit = tuple[Bucket, float, float, int]  # what drains out of it each second, and what it holds, as both kinds of number
_Charged = tuple[Account, int]  # and its budget, in nano-dollars


class _Path:
    """What a key's requests count at, laid out flat from the organisation down: a request goes along it when it comes and when it ends.

    `tallies`: each scope's. `capped`: of those that limit how many requests run at once, with that limit. `requests`, `tokens`: the buckets of the
    scopes that limit them.
    `accounts`: of all budgets' windows on `day`. `held`: what a request that is granted on that day holds until it ends.
    """

    __slots__ = ("accounts", "capped", "day", "held", "levels", "requests", "scopes", "tallies", "tokens")

    def __init__(self, scopes: tuple[Scope, ...], tallies: Sequence[_Tally]) -> None:
        self.scopes = scopes
        self.levels = tuple(zip(scopes, tallies, strict=True))
        self.tallies = tuple(tallies)
        self.capped = tuple([(tally, most) for scope, tally in self.levels if (most := scope.limits.concurrency) is not None])
        self.requests: list[_Limit] = []
        self.tokens: list[_Limit] = []
        for scope, tally in self.levels:
            if (rpm := scope.limits.rpm) is not None:
                self.requests.append((tally.requests, rpm / MINUTE_S, float(rpm), rpm))
            if (tpm := scope.limits.tpm) is not None:
                self.tokens.append((tally.tokens, tpm / MINUTE_S, float(tpm), tpm))
        self.accounts: tuple[_Charged, ...] = ()
        self.held: _Held = (self, ())
        self.day = -1.0

    def enter(self, day: float, starts: dict[Window, int]) -> Unseeded | None:
        """A day begins, and perhaps a window."""
        accounts = []
        for scope, tally in self.levels:
            for budget in scope.budgets:
                account = tally.accounts.get(budget.window)
                if account is None or account.start_s < starts[budget.window]:
                    return Unseeded(scope, budget.window, starts[budget.window])
                accounts.append((account, budget.nusd))
        self.accounts, self.day = tuple(accounts), day
        self.held = self, self.accounts
        return None


_Held = tuple[_Path, tuple[_Charged, ...]]


class Meter:
    """Bounded by the number of scopes and of requests that run."""

    def __init__(self) -> None:
        self._tallies: dict[str, _Tally] = {}
        self._paths: dict[int, _Path] = {}  # by the identity of a key's scopes, which are kept with it
        self._live: dict[str, _Held] = {}
        self._day = -1.0
        self._starts: dict[Window, int] = {}

    def reserve(self, request_id: str, scopes: tuple[Scope, ...], want: Want, now: float, wall: float) -> Granted | Refused | Unseeded:
        """All or nothing. An id that has a reservation keeps it, and is granted again."""
        path, day = self._paths.get(id(scopes)), wall // DAY_S
        if path is None or path.scopes is not scopes:
            path = self._path_of(scopes)
        if path.day != day and (missing := path.enter(day, self._window_starts(day, wall))) is not None:
            return missing
        room, rpm = _tightest(path.requests, now)
        token_room, tpm = _tightest(path.tokens, now)
        units, taken, cost = 1.0, 0.0 + want.tokens, want.cost_nusd
        if request_id in self._live:
            units = taken = 0.0
        elif not (room >= 1.0 - SLACK and token_room >= taken - SLACK and _may_run(path, cost)):
            return _refusal(path, want, wall)
        else:
            for tally in path.tallies:
                tally.running += 1
            for bucket, _, _, _ in path.requests:
                bucket.level += 1.0
            for bucket, _, _, _ in path.tokens:
                bucket.level += taken
            for account, _ in path.accounts:
                account.reserved_nusd += cost
            self._live[request_id] = path.held
        return Granted(
            request_id,
            scopes,
            want,
            None if rpm is None else with_room(room - units, rpm),
            None if tpm is None else with_room(token_room - taken, tpm),
        )

    def settle(self, granted: Granted, used: Used, now: float) -> bool:
        """False: it was settled before, or was never granted here. `now` matters where more was used than reserved, or nothing was answered."""
        held = self._live.pop(granted.id, None)
        if held is None:
            return False
        path, accounts = held
        want = granted.want
        too_few = used.tokens - want.tokens
        for tally in path.tallies:
            tally.running -= 1
        if not used.answered:
            for bucket, _, _, rpm in path.requests:
                bucket.correct(-1, rpm, now)
        for bucket, _, _, tpm in path.tokens:
            if too_few > 0:
                bucket.correct(too_few, tpm, now)
            else:  # what is taken out drains no more: it comes to the same before and after draining
                bucket.level = level if (level := bucket.level + too_few) > 0.0 else 0.0
        cost, used_nusd = want.cost_nusd, used.cost_nusd
        for account, _ in accounts:
            account.reserved_nusd -= cost
            account.spent_nusd += used_nusd
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

    def _path_of(self, scopes: tuple[Scope, ...]) -> _Path:
        if len(self._paths) >= MOST_TOGETHER:
            self._paths.clear()
        path = self._paths[id(scopes)] = _Path(scopes, [self._tally(scope) for scope in scopes])
        return path

    def _tally(self, scope: Scope) -> _Tally:
        tally = self._tallies.get(scope.id)
        if tally is None:
            tally = self._tallies[scope.id] = _Tally(Bucket(), Bucket(), {})
        return tally


def _tightest(limits: list[_Limit], now: float) -> tuple[float, int | None]:
    """Brings them up to `now`, as `Bucket.drain` does. What fits into the one with the least room, and its limit; None: there is none."""
    least, its = inf, None
    for bucket, rate, size, limit in limits:
        level = bucket.level
        if (passed_s := now - bucket.at) > 0.0:
            level -= passed_s * rate
            bucket.level = level = level if level > 0.0 else 0.0
            bucket.at = now
        if (room := size - level) < least:
            least, its = room, limit
    return least, its


def _may_run(path: _Path, cost: int) -> bool:
    """Whether every scope has a place and the money. What costs nothing needs no budget."""
    for tally, most in path.capped:
        if tally.running >= most:
            return False
    if cost:
        for account, nusd in path.accounts:
            if account.spent_nusd + account.reserved_nusd + cost > nusd:
                return False
    return True


def _refusal(path: _Path, want: Want, wall: float) -> Refused:
    verdict = Verdict(want)
    for scope, tally in path.levels:
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
