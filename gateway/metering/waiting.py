"""Requests that wait for room under a limit: one line for each scope, in fair turns (providers/fair.py), each only as long as the scope allows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic

import msgspec

from contract.flow import Flow
from policy.gcra import MINUTE_S
from policy.quota import Granted, Refused, Scope
from providers.fair import Turns

MOST_WAITING = 1000  # in one line
POLL_S = 0.25  # how often the first looks again, where it is other processes that make room
SMOOTHING = 0.2  # weight of the newest turn, and of the newest request's length, in their averages
MIN_RETRY_S = 0.1  # nobody is asked to come again sooner
WAITED_FOR = ("requests", "tokens", "concurrency")

Reserve = Callable[[], Awaitable[Granted | Refused]]


class _Place:
    """One who waits until `until` at most. `moved` is set when it may be first, when there may be room, and when it is `refused`."""

    __slots__ = ("flow", "moved", "refused", "until")

    def __init__(self, flow: Flow, until: float) -> None:
        self.flow = flow
        self.until = until
        self.moved = asyncio.Event()
        self.refused: Refused | None = None


class _Line:
    """`ready_at`: when the first may pass, as far as is known. `gap_s`: the smoothed time between two turns."""

    def __init__(self, refused: Refused) -> None:
        self.turns: Turns[_Place] = Turns()
        self.refused = refused
        self.ready_at = 0.0
        self.served_at: float | None = None
        self.gap_s = 0.0
        self._looked_at = 0.0
        self.told(refused)

    def told(self, refused: Refused) -> None:
        """Why the first does not pass yet. When one of those that run will end nobody knows."""
        self.refused = refused
        self.ready_at = monotonic() + (0.0 if refused.dimension == "concurrency" else refused.retry_after_s or 0.0)

    def served(self, place: _Place) -> None:
        self.turns.served(place)
        now = monotonic()
        if self.served_at is not None:
            gap_s = now - self.served_at
            self.gap_s = gap_s if not self.gap_s else self.gap_s + SMOOTHING * (gap_s - self.gap_s)
        self.served_at = now
        self.wake()

    def wake(self) -> None:
        first = self.turns.first()
        if first is not None:
            first.moved.set()

    def expected_s(self, ahead: int, turn_s: float) -> float:
        """Until one has its turn that has so many before it."""
        return max(0.0, self.ready_at - monotonic()) + ahead * max(turn_s, self.gap_s)

    def refusal(self, ahead: int, turn_s: float) -> Refused:
        """For one with so many before it: to come again when these will have had their turns."""
        return msgspec.structs.replace(self.refused, retry_after_s=max(MIN_RETRY_S, self.expected_s(ahead, turn_s)))

    def shed(self, turn_s: float) -> None:
        """Those that cannot have a turn in time any more are told so now, not at the end of their wait."""
        now = monotonic()
        if now - self._looked_at < POLL_S:
            return
        self._looked_at = now
        ahead = 0
        for place in self.turns.in_order():
            if now + self.expected_s(ahead, turn_s) > place.until:
                place.refused = self.refusal(ahead, turn_s)
                place.moved.set()
            else:
                ahead += 1


class Lines:
    """For one event loop. A line is there while somebody waits in it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        self._held_s: dict[str, float] = {}  # how long a request holds its place, of each scope that counts places and lets wait

    def behind(self, scopes: Iterable[Scope]) -> tuple[Scope, Refused] | None:
        """The first of these scopes at which somebody waits already, and why: who comes now goes behind."""
        if self._lines:
            for scope in scopes:
                if (line := self._lines.get(scope.id)) is not None:
                    return scope, line.refused
        return None

    def freed(self, scopes: Iterable[Scope], held_s: float) -> None:
        """A request of these scopes ended: there may be room."""
        for scope in scopes:
            if not scope.limits.max_wait_s:
                continue
            if scope.limits.concurrency is not None:
                known_s = self._held_s.setdefault(scope.id, held_s)
                self._held_s[scope.id] = known_s + SMOOTHING * (held_s - known_s)
            line = self._lines.get(scope.id)
            if line is not None:
                line.wake()

    async def wait(self, scope: Scope, refused: Refused, flow: Flow, reserve: Reserve, left_s: float) -> Granted | Refused:
        """What `reserve` says when it is this one's turn; a refusal when that does not come in time, at once where it cannot be expected to.

        `refused`: why nobody passes now. `left_s`: how long the request itself may wait.
        """
        place = _Place(flow, monotonic() + min(scope.limits.max_wait_s, left_s))
        line = self._lines.get(scope.id)
        if line is None:
            line = self._lines[scope.id] = _Line(refused)
        ahead, turn_s = line.turns.ahead(flow), self._turn_s(scope)
        if monotonic() + line.expected_s(ahead, turn_s) > place.until or not _has_room(line, flow, turn_s):
            self._drop(scope, line)
            return line.refusal(ahead, turn_s)
        line.turns.add(place, flow)
        try:
            return await self._turn(scope, line, place, reserve)
        finally:
            if line.turns.leave(place):
                line.wake()
            self._drop(scope, line)

    async def _turn(self, scope: Scope, line: _Line, place: _Place, reserve: Reserve) -> Granted | Refused:
        while place.refused is None:
            pause_s = left_s = place.until - monotonic()
            if line.turns.first() is place:
                answer = await reserve()
                if isinstance(answer, Granted):
                    line.served(place)
                    line.shed(self._turn_s(scope))
                    return answer
                if answer.dimension not in WAITED_FOR or answer.retry_after_s is None:
                    return answer
                line.told(answer)
                line.shed(self._turn_s(scope))
                pause_s = POLL_S if answer.dimension == "concurrency" else max(0.001, min(POLL_S, answer.retry_after_s))
            if left_s <= 0:
                return line.refusal(len(line.turns), self._turn_s(scope))
            place.moved.clear()
            if place.refused is not None:
                break
            try:
                async with asyncio.timeout(min(pause_s, left_s)):
                    await place.moved.wait()
            except TimeoutError:
                continue
        return place.refused

    def _turn_s(self, scope: Scope) -> float:
        """The least time between two turns that its limits leave, at the length that its requests had."""
        limits = scope.limits
        by_requests = MINUTE_S / limits.rpm if limits.rpm else 0.0
        by_places = self._held_s.get(scope.id, 0.0) / limits.concurrency if limits.concurrency else 0.0
        return max(by_requests, by_places)

    def _drop(self, scope: Scope, line: _Line) -> None:
        if not len(line.turns) and self._lines.get(scope.id) is line:
            del self._lines[scope.id]


def _has_room(line: _Line, flow: Flow, turn_s: float) -> bool:
    """Where the line is full, the last of the batch work makes room for who is interactive."""
    if len(line.turns) < MOST_WAITING:
        return True
    last = line.turns.last_behind(flow)
    if last is None:
        return False
    last.refused = line.refusal(MOST_WAITING, turn_s)
    last.moved.set()
    return True
