"""The processes in which vLLM computes, as Linux shows them: its server outlives them by seconds, and says that it is well while they are stopped.

Elsewhere, and of any other engine, none are known, and nothing is said of them.
"""

from typing import NamedTuple

from providers.local.computing import PROC, members, process_ns

TITLE = b"VLLM::"  # of all of vLLM's processes since 0.10: EngineCore, EngineCore_DP0, Worker, Worker_TP1, DPCoordinator …
SERVERS = b"VLLM::APIServer"  # which compute nothing
ENDED, STOPPED = "ZX", "T"


class Core(NamedTuple):
    """`began`: when, in the kernel's ticks: a later process with the same number began later."""

    pid: int
    began: str
    title: str
    parent: int


class Cores:
    """Those of one engine, as they were when it was ready. All times in monotonic seconds."""

    def __init__(self, cores: tuple[Core, ...] = ()) -> None:
        self._cores = cores
        self._stopped_since: float | None = None
        self._still_since: float | None = None
        self._computed_ns: int | None = None

    @classmethod
    def of(cls, group: int) -> "Cores":
        """Those of a process group. What one of them has forked bears its title until it begins another program, and is none of them."""
        found = {core.pid: core for pid in members(group) if (core := _core(pid)) is not None}
        return cls(tuple(core for core in found.values() if (parent := found.get(core.parent)) is None or parent.title != core.title))

    @property
    def titles(self) -> tuple[str, ...]:
        return tuple(core.title for core in self._cores)

    def gone(self) -> str | None:
        """That one of them ended; None: they all live."""
        for core in self._cores:
            if _state(core) in ENDED:
                return f"its process {core.title} ended"
        return None

    def stopped(self, now: float, for_s: float) -> str | None:
        """That one of them has been stopped (SIGSTOP) at each look for so long; None: none has."""
        title = next((core.title for core in self._cores if _state(core) == STOPPED), None)
        if title is None:
            self._stopped_since = None
            return None
        if self._stopped_since is None:
            self._stopped_since = now
        return f"hung: its process {title} was stopped for {for_s:g} s" if now - self._stopped_since >= for_s else None

    def still(self, now: float, for_s: float, answering: bool) -> str | None:
        """That none of them had processor time at any look for so long, `answering` all the while; None: one had, or none needed it."""
        computed_ns = sum(process_ns(core.pid) or 0 for core in self._cores) if answering and self._cores else None
        if computed_ns is None or computed_ns != self._computed_ns or self._still_since is None:
            self._computed_ns, self._still_since = computed_ns, now
            return None
        return f"hung: requests ran in it, and it computed nothing for {for_s:g} s" if now - self._still_since >= for_s else None


def _core(pid: int) -> Core | None:
    try:
        title = (PROC / str(pid) / "cmdline").read_bytes().partition(b"\0")[0].rstrip()
        fields = _fields(pid)
    except OSError:
        return None
    known = title.startswith(TITLE) and not title.startswith(SERVERS)
    return Core(pid, fields[19], title.decode(errors="replace"), int(fields[1])) if known else None


def _state(core: Core) -> str:
    """As in proc_pid_stat(5); X also of one that is not there."""
    try:
        fields = _fields(core.pid)
    except OSError:
        return "X"
    return fields[0] if fields[19] == core.began else "X"


def _fields(pid: int) -> list[str]:
    """Of /proc/PID/stat, from the third, the state, on. Raises OSError."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
