"""Whether a target may be tried now: its circuit breaker, and its budget for retries. One of each per (backend, model); pure, told the time.

    closed --failures in a row, or half of the last 30 s--> open --2, 4, 8, 15 s--> half-open: one probe
    half-open --the probe's first output--> closed        half-open --the probe fails--> open, for longer

Times are seconds of one monotonic clock.
"""

from collections import deque
from typing import Literal

from contract.errors import (
    AttemptError,
    AttemptTimeout,
    ConnectFailed,
    ConnectionLost,
    MalformedResponse,
    StreamCut,
    UpstreamError,
)

State = Literal["closed", "open", "half_open", "cooling"]

CELL_S = 3
CELLS = 10  # the rolling window: 27 to 30 s
LEAST_FAILURES = 5  # in the window, and at least as many as successes
ROW = 3  # failures without a success between them, where the window holds few requests
FEW = 20  # beyond so many requests, chance alone makes three in a row of a target that fails now and then: then it takes LEAST_FAILURES
FIRST_OPEN_S = 2.0
MAX_OPEN_S = 15.0
SPREAD = 0.2  # of the time it stays open is left to the jitter, which shortens it
MAX_COOL_S = 300.0
PROBE_TAKES_S = 1.0  # what a caller is told to wait while a probe is out
STRAY = -1  # the pass of an attempt that began when none should: its end says nothing

COUNTED = (ConnectFailed, ConnectionLost, StreamCut, MalformedResponse, UpstreamError)


def counts_as_failure(error: AttemptError) -> bool:
    """Whether an error says that its target is unwell.

    No 4xx does: a 429 cools its key, and the rest is the fault of the request or the key. Nor does the end of all the time there is: that may
    be the caller's own deadline, and a target that is silent runs out of another clock first. Nor does the loss of an engine of ours: its
    supervisor knows better than any breaker when it is back.
    """
    if isinstance(error, AttemptTimeout):
        return error.clock != "total"
    status = error.upstream_status
    return isinstance(error, COUNTED) and not (status is not None and 400 <= status < 500)


class Breaker:
    """One target's. Every `begin` gives a pass; the attempt hands it in with its end: exactly one of `succeeded`, `failed`, `gave_up`.

    A pass of before the last opening is void, so that an attempt that began before an outage says nothing of what came after.
    """

    __slots__ = ("_cool_until", "_era", "_open", "_openings", "_probing", "_row", "_until", "_window")

    def __init__(self) -> None:
        self._era = 0  # counts the openings; in an open one only the probe holds its number
        self._open = False
        self._openings = 0  # in succession, without a whole answer since
        self._until = 0.0
        self._probing = False
        self._cool_until = 0.0
        self._row: deque[float] = deque(maxlen=LEAST_FAILURES)
        self._window = _Window()

    def state(self, now: float) -> State:
        if now < self._cool_until:
            return "cooling"
        if not self._open:
            return "closed"
        return "open" if now < self._until else "half_open"

    def available(self, now: float) -> bool:
        """Whether an attempt may begin."""
        if now < self._cool_until:
            return False
        return not self._open or (now >= self._until and not self._probing)

    def retry_at(self, now: float) -> float:
        """When an attempt may begin; `now`, when it may at once."""
        if self.available(now):
            return now
        opens_at = self._until if self._open else now
        if self._probing:
            opens_at = now + PROBE_TAKES_S
        return max(opens_at, self._cool_until)

    def begin(self, now: float) -> int:
        """An attempt begins; takes the probe's place when half-open. Gives the attempt's pass."""
        if not self._open:
            return self._era
        if self._probing or now < self._until:
            return STRAY
        self._probing = True
        return self._era

    def answered(self, held: int) -> bool:
        """The attempt's first output came. That ends a probe, and then it is True; until an answer is whole, one failure opens again."""
        probe = held == self._era and self._open
        if probe:
            self._close()
        return probe

    def succeeded(self, now: float, held: int) -> None:
        """The answer is whole."""
        if held != self._era:
            return
        if self._open:
            self._close()
        self._openings = 0
        self._row.clear()
        self._window.add(now, failed=False)

    def failed(self, now: float, held: int, jitter: float) -> None:
        """It ended in an error that counts (`counts_as_failure`). `jitter` in [0, 1), drawn by the caller."""
        if held != self._era:
            return
        row, window = self._row, self._window
        window.add(now, failed=True)
        row.append(now)
        needed = ROW if window.total <= FEW else LEAST_FAILURES
        in_a_row = len(row) >= needed and now - row[-needed] <= CELLS * CELL_S
        if self._openings or in_a_row or (window.failures >= LEAST_FAILURES and window.failures * 2 >= window.total):
            self._trip(now, jitter)

    def gave_up(self, held: int) -> None:
        """It ended without saying anything of the target: cancelled, or an error that does not count. Frees the probe's place."""
        if held == self._era:
            self._probing = False

    def renew(self) -> None:
        """The target is another one from now on: nothing that was seen of it counts, nor what began before."""
        self._close()
        self._openings = 0
        self._era += 1

    def cool(self, now: float, wait_s: float) -> None:
        """The target asked to be left alone for so long; at most MAX_COOL_S. No failure."""
        self._cool_until = max(self._cool_until, now + min(wait_s, MAX_COOL_S))

    def _close(self) -> None:
        self._open = self._probing = False
        self._row.clear()
        self._window = _Window()

    def _trip(self, now: float, jitter: float) -> None:
        length_s = min(MAX_OPEN_S, FIRST_OPEN_S * 2.0 ** min(self._openings, 9))
        self._until = now + length_s * (1.0 - SPREAD * jitter)
        self._open, self._probing = True, False
        self._openings += 1
        self._era += 1


class _Window:
    """How many attempts ended in the last 30 s, and how many of them failed."""

    __slots__ = ("_cell", "_failures", "_totals", "failures", "total")

    def __init__(self) -> None:
        self._cell = 0
        self._totals = [0] * CELLS
        self._failures = [0] * CELLS
        self.total = 0
        self.failures = 0

    def add(self, now: float, failed: bool) -> None:
        cell = int(now // CELL_S)
        if cell > self._cell:
            for stale in range(max(self._cell + 1, cell - CELLS + 1), cell + 1):
                self._forget(stale % CELLS)
            self._cell = cell
        at = self._cell % CELLS
        self._totals[at] += 1
        self.total += 1
        if failed:
            self._failures[at] += 1
            self.failures += 1

    def _forget(self, at: int) -> None:
        self.total -= self._totals[at]
        self.failures -= self._failures[at]
        self._totals[at] = self._failures[at] = 0


FLOOR_PER_S = 3.0
HALF_LIFE_S = 10.0


class RetryBudget:
    """How many retries a target may get: a share of its recent requests, and 3 a second however few they are."""

    __slots__ = ("_at", "_floor", "_share")

    def __init__(self) -> None:
        self._at: float | None = None
        self._share = 0.0  # what recent requests have earned; halves every HALF_LIFE_S
        self._floor = FLOOR_PER_S

    def request(self, now: float, share: float) -> None:
        """A request's first attempt at the target begins; it earns `share` (0 … 1) of a retry."""
        self._age(now)
        self._share += share

    def allows(self, now: float) -> bool:
        self._age(now)
        return self._share >= 1.0 or self._floor >= 1.0

    def spend(self, now: float) -> None:
        """A retry at the target begins."""
        self._age(now)
        if self._share >= 1.0:
            self._share -= 1.0
        else:
            self._floor = max(0.0, self._floor - 1.0)

    def _age(self, now: float) -> None:
        passed_s = 0.0 if self._at is None else now - self._at
        if passed_s > 0.0:
            self._share *= 2.0 ** (-passed_s / HALF_LIFE_S)
            floor = self._floor + FLOOR_PER_S * passed_s
            self._floor = floor if floor < FLOOR_PER_S else FLOOR_PER_S
        self._at = now
