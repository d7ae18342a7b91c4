"""An engine's time, divided among the requests in it: at every moment each has an equal share, so that all shares together are the busy time."""

from contract.flow import Flow

SMOOTHING = 0.2  # weight of the newest request in its flow's average
MOST_FLOWS = 1000
UNTOLD_S = 1.0  # of a request, before one has ended


class Work:
    """Seconds. `at` rises, while requests are in the engine, by the time that passes over their number: what a request takes is what it rises by
    meanwhile. `busy_s`: the time in which there were any. Told of every change; pure.
    """

    __slots__ = ("_at", "_now", "asleep", "asleep_s", "busy_s", "running", "up", "up_s")

    def __init__(self, now: float) -> None:
        self._now = now
        self._at = 0.0
        self.busy_s = 0.0
        self.up_s = 0.0  # in which it was ready to work
        self.asleep_s = 0.0  # in which it slept, or woke
        self.running = 0
        self.up = True  # an engine that is down does nothing for those that wait for it
        self.asleep = False

    def at(self, now: float) -> float:
        passed_s, self._now = max(0.0, now - self._now), max(now, self._now)
        if not self.up:
            self.asleep_s += passed_s if self.asleep else 0.0
            return self._at
        self.up_s += passed_s
        if self.running:
            self._at += passed_s / self.running
            self.busy_s += passed_s
        return self._at

    def changed(self, now: float, running: int) -> float:
        at = self.at(now)
        self.running = running
        return at

    def told(self, now: float, at: float, running: int, up: bool) -> None:
        """How it is by another process's books, which count; between two such looks it is carried on by ourselves."""
        self._now, self._at, self.running, self.up = now, at, running, up

    def turned(self, now: float, up: bool, asleep: bool = False) -> None:
        self.at(now)
        self.up, self.asleep = up, asleep


class Typical:
    """What a request takes of an engine, by its flow: whose turn it is depends on it before the request itself has shown anything."""

    def __init__(self) -> None:
        self._all_s: float | None = None
        self._flows: dict[str, float] = {}

    def of(self, flow: Flow) -> float:
        known = self._flows.get(flow.name, self._all_s)
        return UNTOLD_S if known is None else known

    def took(self, flow: Flow, engine_s: float) -> None:
        known = self._flows.pop(flow.name, engine_s)
        self._flows[flow.name] = known + SMOOTHING * (engine_s - known)
        self._all_s = engine_s if self._all_s is None else self._all_s + SMOOTHING * (engine_s - self._all_s)
        if len(self._flows) > MOST_FLOWS:
            del self._flows[next(iter(self._flows))]
