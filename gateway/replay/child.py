"""A replay in a process of its own: behind everybody else for the processor, ended when its time is over or its gateway is gone.

Reads a pickled `Job` and a path from its standard input; writes what it comes to, and how far it is, to that path.
"""

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.replay.asked import Job

LIMIT_S = 300
EVERY_S = 0.3  # between two words on how far it is


def main() -> None:
    os.nice(19)
    _first_to_go()
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LIMIT_S)
    job: Job
    job, path = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_until_alone, daemon=True).start()
    told = Told(Path(path), described(job))
    try:
        told.write(status="done", progress=1.0, result=_result(job, told))
    except TimeoutError:
        told.write(status="failed", error=f"it took longer than {LIMIT_S} s; ask for a shorter time")
    except Exception as exc:  # the last word of this process
        told.write(status="failed", error=f"it could not be done: {type(exc).__name__}")
        raise


class Told:
    """The file that says how a replay stands: always whole."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self._path = path
        self._about = about
        self._at = 0.0

    def write(self, **more: Any) -> None:
        import msgspec

        new = self._path.with_suffix(".part")
        new.write_bytes(msgspec.json.encode({**self._about, **more}))
        new.rename(self._path)

    def seen(self, progress: float) -> None:
        if time.monotonic() - self._at > EVERY_S:
            self._at = time.monotonic()
            self.write(status="running", progress=round(progress, 3))


def described(job: "Job") -> dict[str, Any]:
    from ledger.units import iso

    beside = {"status": "running", "progress": 0.0, "result": None, "error": None}
    return {"id": job.id, "object": "replay", "team": job.team, "since": job.since, "from": iso(job.from_us), "to": iso(job.to_us), **beside}


def _result(job: "Job", told: Told) -> dict[str, Any]:
    """As `turnout replay --json` prints it. A team sees of the budgets its own."""
    from gateway.replay.conditions import condition
    from gateway.replay.replaying import Span
    from gateway.replay.run import replay
    from ledger.database import open_engine

    ledger = open_engine(job.database)
    try:
        found = replay(job.settings, ledger, Span(job.from_us, job.to_us, job.team), job.evidence_s, seen=told.seen)
    finally:
        ledger.dispose()
    if job.own:
        found["budgets"] = [each for each in found["budgets"] if each["scope"] == f"team:{job.team}"]
    return {**found, "failures": [why for each in job.fail_if if (why := condition(each).fails(found)) is not None]}


def _first_to_go() -> None:
    """Where memory runs out, this process is ended and not its gateway."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _too_long(*_: object) -> None:
    raise TimeoutError


def _until_alone() -> None:
    """The gateway holds the other end of standard input for as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
