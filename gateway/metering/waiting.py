"""Requests that wait for room under a limit: one line for each scope, in fair turns (providers/fair.py), each only as long as the scope allows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

from contract.flow import Flow
from policy.quota import Granted, Refused, Scope
from providers.fair import Turns

MOST_WAITING = 1000  # in one line
POLL_S = 0.25  # how often the first looks again, where it is other processes that make room
SMOOTHING = 0.2  # weight of the newest turn in the average
WAITED_FOR = ("requests", "tokens", "concurrency")

Reserve = Callable[[], Awaitable[Granted | Refused]]


class _Place:
    """One who waits. `moved` is set when it may be first, or when there may be room."""

    __slots__ = ("flow", "moved", "shed")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.moved = asyncio.Event()
        self.shed = False


class _Line:
    def __init__(self) -> None:
        self.turns: Turns[_Place] = Turns()
        self.served_at: float | None = None
        self.gap_s: float | None = None  # smoothed time between two turns

    def served(self, place: _Place) -> None:
        self.turns.served(place)
        now = monotonic()
        if self.served_at is not None:
            gap_s = now - self.served_at
            self.gap_s = gap_s if self.gap_s is None else self.gap_s + SMOOTHING * (gap_s - self.gap_s)
        self.served_at = now
        self.wake()

    def wake(self) -> None:
        first = self.turns.first()
        if first is not None:
            first.moved.set()


class Lines:
    """For one event loop. A line is there while somebody waits in it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def behind(self, scopes: Iterable[Scope]) -> Scope | None:
        """The first of these scopes at which somebody waits already: who comes now goes behind."""
        if not self._lines:
            return None
        return next((scope for scope in scopes if scope.id in self._lines), None)

    def freed(self, scopes: Iterable[Scope]) -> None:
        """A request of these scopes ended: there may be room."""
        for scope in scopes:
            line = self._lines.get(scope.id)
            if line is not None:
                line.wake()

    async def wait(self, scope: Scope, flow: Flow, reserve: Reserve, left_s: float) -> Granted | Refused:
        """What `reserve` says when it is this one's turn; a refusal when that does not come in time, at once where it cannot be expected to.

        `left_s`: how long the request itself may wait.
        """
        until = monotonic() + min(scope.limits.max_wait_s, left_s)
        line = self._lines.setdefault(scope.id, _Line())
        if self._hopeless(line, flow, until):
            self._drop(scope, line)
            return await reserve()
        place = _Place(flow)
        line.turns.add(place, flow)
        try:
            return await self._turn(line, place, reserve, until)
        finally:
            if line.turns.leave(place):
                line.wake()
            self._drop(scope, line)

    async def _turn(self, line: _Line, place: _Place, reserve: Reserve, until: float) -> Granted | Refused:
        pause_s = 0.0
        while True:
            if line.turns.first() is place:
                answer = await reserve()
                if isinstance(answer, Granted):
                    line.served(place)
                    return answer
                if answer.dimension not in WAITED_FOR or answer.retry_after_s is None:
                    return answer
                pause_s = POLL_S if answer.dimension == "concurrency" else max(0.001, min(POLL_S, answer.retry_after_s))
            else:
                pause_s = until - monotonic()
            left_s = until - monotonic()
            if left_s <= 0 or place.shed:
                return await reserve()
            place.moved.clear()
            try:
                async with asyncio.timeout(min(pause_s, left_s)):
                    await place.moved.wait()
            except TimeoutError:
                continue

    def _hopeless(self, line: _Line, flow: Flow, until: float) -> bool:
        """Whoever would wait in vain is told so at once; where the line is full, the last of the batch work makes room for who is interactive."""
        if len(line.turns) >= MOST_WAITING:
            last = line.turns.last_behind(flow)
            if last is None:
                return True
            last.shed = True
            last.moved.set()
        return line.gap_s is not None and monotonic() + line.turns.ahead(flow) * line.gap_s > until

    def _drop(self, scope: Scope, line: _Line) -> None:
        if not len(line.turns) and self._lines.get(scope.id) is line:
            del self._lines[scope.id]
