"""Our own queue before an engine's slots, in fair turns (providers/fair.py): llama.cpp has neither a limit on its queue nor a way to leave it."""

import asyncio
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from contract.errors import EngineBusy, EngineError
from contract.flow import NOBODY, Flow
from providers.fair import Turns

MIN_RETRY_AFTER_S = 1.0
LIVE_SHARE = 8  # of so many slots batch work leaves one free, and one at least: who is interactive finds it at once
SMOOTHING = 0.2  # weight of the newest hand-over in the average


class _Waiter(NamedTuple):
    """`most`: slots that may be in use once it runs."""

    slots: int
    most: int
    timer: asyncio.TimerHandle


class Admission:
    """`slots` requests run, `max_queue` more wait, each at most `max_wait_s`. For one event loop.

    A request may need several slots (`n` choices); it then waits until it is first in the queue and that many are free. Where the queue is full
    of batch work, one who is interactive takes the place of the last of it.
    """

    def __init__(self, slots: int, max_queue: int, max_wait_s: float) -> None:
        self._slots = slots
        self._for_batch = slots - max(1, slots // LIVE_SHARE) if slots > 1 else slots
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._running = 0
        self._waiting: dict[asyncio.Future[None], _Waiter] = {}
        self._turns: Turns[asyncio.Future[None]] = Turns()
        self._released_at: float | None = None
        self._gap_s = MIN_RETRY_AFTER_S  # smoothed time between two releases while others wait

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def wait_s(self) -> float:
        """An estimate of how long one who came now would wait; 0 while a slot is free."""
        if not self._waiting and self._running < self._slots:
            return 0.0
        return min(self._gap_s * (len(self._waiting) + 1), self._max_wait_s)

    @property
    def place_in_s(self) -> float:
        """An estimate of how long until one who comes is not refused; 0 while the queue has room."""
        full = len(self._waiting) >= self._max_queue and (self._waiting or self._running >= self._slots)
        return min(self._gap_s, self._max_wait_s) if full else 0.0

    @property
    def retry_after_s(self) -> float:
        """What one who is refused now is told to wait."""
        return max(MIN_RETRY_AFTER_S, self.wait_s)

    async def acquire(self, slots: int = 1, wait_s: float = inf, flow: Flow = NOBODY) -> None:
        """Takes `slots` slots (all of them, when it asks for more than there are), waiting in turn; give the same number to `release`.

        Raises EngineBusy at once when the queue is full, and after `max_wait_s` in it, or `wait_s`. Cancelling leaves nothing behind.
        """
        slots, most = min(slots, self._slots), self._most(flow)
        if not self._waiting and self._running + slots <= max(slots, most):
            self._running += slots
            return
        if len(self._waiting) >= self._max_queue:
            last = self._turns.last_behind(flow)
            if last is None:
                raise self._full()
            self._leave(last)
            if not last.done():
                last.set_exception(self._full())
        await self._wait(slots, min(wait_s, self._max_wait_s), flow)

    def _most(self, flow: Flow) -> int:
        """Slots that may be in use once one of this flow runs."""
        return self._for_batch if flow.priority == "batch" else self._slots

    def _full(self) -> EngineBusy:
        return EngineBusy(f"the engine's queue of {self._max_queue} is full", retry_after_s=self.retry_after_s)

    async def _wait(self, slots: int, wait_s: float, flow: Flow) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._turns.add(turn, flow, slots)
        self._waiting[turn] = _Waiter(slots, max(slots, self._most(flow)), loop.call_later(wait_s, self._time_out, turn, wait_s))
        self._hand_over()  # a slot may be free that the batch work before it had to leave
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(slots)  # its turn came and the cancellation too: the slots go on to the next
            else:
                self._leave(turn)
            raise

    def release(self, slots: int = 1) -> None:
        """Gives back what one `acquire(slots)` took; whose turn it is in the queue has it before anyone who comes later."""
        self._running -= min(slots, self._slots)
        if self._waiting:
            self._measure()
        self._hand_over()

    def fail_waiting(self, error: Callable[[], EngineError]) -> None:
        """Ends the wait of all in the queue, each with an error of its own."""
        waiting, self._waiting = self._waiting, {}
        self._turns = Turns()
        for turn, waiter in waiting.items():
            waiter.timer.cancel()
            if not turn.done():
                turn.set_exception(error())

    def _hand_over(self) -> None:
        while (turn := self._turns.first()) is not None:
            waiter = self._waiting[turn]
            given_up = turn.done()  # cancelled, and its task has not run since
            if not given_up and self._running + waiter.slots > waiter.most:
                return
            del self._waiting[turn]
            waiter.timer.cancel()
            if given_up:
                self._turns.leave(turn)
                continue
            self._turns.served(turn)
            self._running += waiter.slots
            turn.set_result(None)

    def _leave(self, turn: asyncio.Future[None]) -> None:
        """Out of the queue before its turn; whoever was held up by it may go."""
        if waiter := self._waiting.pop(turn, None):
            waiter.timer.cancel()
            self._turns.leave(turn)
            self._hand_over()

    def _time_out(self, turn: asyncio.Future[None], wait_s: float) -> None:
        if not turn.done():
            turn.set_exception(EngineBusy(f"waited {wait_s:g} s in the engine's queue", retry_after_s=self.retry_after_s))
            self._leave(turn)

    def _measure(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._released_at is not None:
            self._gap_s += SMOOTHING * (min(now - self._released_at, self._max_wait_s) - self._gap_s)
        self._released_at = now
