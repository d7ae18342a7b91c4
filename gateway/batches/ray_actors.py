"""Keeps workers of batches on a Ray cluster. In Ray's own interpreter: standard library and Ray.

Each actor runs a gateway of its own, which leases rows from the database that all share. Ray chooses its node, and starts it anew when it dies.
Ends when its standard input does. Writes `{"actors": N}` when the number of those that run has changed.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]  # Python puts it first; its modules are none of Ray's

LOOK_S = 1.0
STOP_S = 60.0
PR_SET_PDEATHSIG = 1


class Worker:
    """A gateway on whatever node Ray put it, with a folder of its own there, which the next with its number takes over."""

    def __init__(self, orders: dict[str, Any], number: int) -> None:
        folder = Path(orders["folder"]).expanduser() / str(number)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        set_death_signal = ctypes.CDLL(None, use_errno=True).prctl
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                orders["command"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=lambda: set_death_signal(PR_SET_PDEATHSIG, signal.SIGTERM),  # the gateway does not outlive its actor
            )

    def runs(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)


class Actors:
    """All of them. The handle of one stays the same when Ray starts it anew."""

    def __init__(self, orders: dict[str, Any]) -> None:
        import ray

        self._ray = ray
        made = ray.remote(num_cpus=orders["cpus"], num_gpus=orders["gpus"], max_restarts=-1)(Worker)
        self._actors = [made.remote(orders, number) for number in range(orders["actors"])]
        self._asked: dict[Any, Any] = {}  # by the actor: what it has not answered yet

    def look(self) -> int:
        """How many run. One whose gateway has ended is started anew."""
        for actor in self._actors:
            self._asked.setdefault(actor, actor.runs.remote())
        answers = {answer: actor for actor, answer in self._asked.items()}
        there, _ = self._ray.wait(list(answers), num_returns=len(answers), timeout=LOOK_S)
        return sum(self._runs(answers[answer], answer) for answer in there)

    def _runs(self, actor: Any, answer: Any) -> bool:
        del self._asked[actor]
        try:
            runs = bool(self._ray.get(answer))
        except self._ray.exceptions.RayError:  # it died; Ray starts it anew
            return False
        if not runs:
            self._ray.kill(actor, no_restart=False)
        return runs

    def stop(self) -> None:
        self._ray.wait([actor.stop.remote() for actor in self._actors], num_returns=len(self._actors), timeout=STOP_S)


def main() -> None:
    orders: dict[str, Any] = json.loads(sys.argv[1])
    import ray

    stopping = threading.Event()

    def read_on() -> None:
        sys.stdin.buffer.read()
        stopping.set()

    threading.Thread(target=read_on, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    ray.init(address=orders["address"] or "local", include_dashboard=False, log_to_driver=False, namespace="turnout")
    actors, told = Actors(orders), -1
    while not stopping.wait(LOOK_S):
        running = actors.look()
        if running != told:
            told = running
            sys.stdout.write(json.dumps({"actors": running}) + "\n")
            sys.stdout.flush()
    actors.stop()
    ray.shutdown()
    os._exit(0)  # Ray's threads have nothing left to do


if __name__ == "__main__":
    main()
