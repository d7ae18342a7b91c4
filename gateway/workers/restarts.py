"""When a worker that died is started again, and when no more."""

from collections import deque

QUICK_S = 5.0  # who lives so long does not die at once
WINDOW_S = 60.0
MOST = 5  # such deaths within the window: given up
MAX_BACKOFF_S = 4.0


class Restarts:
    """Of one place among the workers. A death that comes late is made good at once and counts for nothing."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def pause_s(self, lived_s: float, now: float) -> float | None:
        """How long to wait before the next start after a worker that served for `lived_s`: 0, 1, 2, 4; None: it is given up."""
        if lived_s >= QUICK_S:
            self._deaths.clear()
            return 0.0
        self._deaths.append(now)
        while self._deaths[0] < now - WINDOW_S:
            self._deaths.popleft()
        deaths = len(self._deaths)
        if deaths >= MOST:
            return None
        return 0.0 if deaths == 1 else min(MAX_BACKOFF_S, 2.0 ** (deaths - 2))
