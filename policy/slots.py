"""An owned engine's queue as a replay plays it: so many requests at once, each for as long as it was measured to take, the others in turn. Pure.

What it leaves out: the KV cache, time to read prompts, turns by weight and priority, answers that want several slots.
"""

from heapq import heapify, heappop, heappush, heapreplace

SMOOTHING = 0.05  # weight of the newest time in the mean
FIRST_GUESS_S = 5.0


class Slots:
    """Seconds. `max_queue` more may wait, each at most `max_wait_s`."""

    def __init__(self, slots: int, max_queue: int, max_wait_s: float) -> None:
        self._slots = slots
        self._max_queue = max_queue
        self._max_wait_s = max_wait_s
        self._free_at = [0.0] * slots
        self._ends: list[float] = []
        self._mean_s = FIRST_GUESS_S
        heapify(self._free_at)

    def there(self, now: float) -> int:
        """Requests that run or wait."""
        while self._ends and self._ends[0] <= now:
            heappop(self._ends)
        return len(self._ends)

    def full(self, now: float) -> bool:
        """Whether one who came would be refused."""
        return self.there(now) >= self._slots + self._max_queue

    def expected_wait_s(self, now: float) -> float:
        """What one who came would be told: the engine knows its queue, not how long those who run will."""
        there = self.there(now)
        return 0.0 if there < self._slots else min(self._max_wait_s, (there - self._slots + 1) / self._slots * self._mean_s)

    def enter(self, now: float, takes_s: float) -> float | None:
        """How long it waits for its turn; None: it is refused, at once or after `max_wait_s`."""
        wait_s = max(0.0, self._free_at[0] - now)
        if self.full(now) or wait_s > self._max_wait_s:
            return None
        heapreplace(self._free_at, now + wait_s + takes_s)
        heappush(self._ends, now + wait_s + takes_s)
        self._mean_s += SMOOTHING * (takes_s - self._mean_s)
        return wait_s
