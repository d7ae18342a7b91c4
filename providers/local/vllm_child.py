"""vLLM as an engine's child: starts its server on a unix socket and ends with it. Run as `python -I -m providers.local.vllm_child`.

A process of ours between the gateway and vLLM's own: vLLM runs in another environment, with another Python, spawns processes of its own, and
exits with code 0 when its core was killed (seen with 0.26 and 0.32). Orders come as one JSON line on stdin; `{"ready": true}` goes to stdout once
its server answers. Whatever ends, all of the process group ends: vLLM's exit, SIGTERM, the end of stdin, the gateway's death.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from functools import partial

import msgspec

from providers.local.child import READY, Terminated, die_with, remove_socket, settle_in, terminate, wait_until_it_answers

GRACE_S = 3.0  # for vLLM to end by itself, which gives a GPU's memory back in order
FAILED = 70  # EX_SOFTWARE of <sysexits.h>: vLLM ended, whatever its own code was


class VllmOrders(msgspec.Struct, frozen=True, kw_only=True):
    """What the child reads from stdin. `environment`: all that vLLM's processes get, the key for its server among it."""

    socket_path: str
    command: tuple[str, ...]
    environment: dict[str, str]
    parent_pid: int


def main() -> None:
    ready = settle_in()
    orders = msgspec.json.decode(sys.stdin.buffer.readline(), type=VllmOrders)
    die_with(orders.parent_pid, signal.SIGTERM)
    signal.signal(signal.SIGTERM, terminate)
    remove_socket(orders.socket_path)
    code, engine = FAILED, None
    with contextlib.suppress(Terminated):
        engine = subprocess.Popen(
            orders.command, stdin=subprocess.DEVNULL, env=orders.environment, cwd="/", preexec_fn=partial(die_with, os.getpid())
        )
        threading.Thread(target=_end_at_end_of, args=(sys.stdin.buffer,), daemon=True).start()
        if wait_until_it_answers(orders.socket_path, lambda: engine.poll() is None):
            os.chmod(orders.socket_path, 0o600)  # noqa: PTH101
            os.write(ready, READY)
        sys.stderr.write(f"vLLM exited with code {engine.wait()}\n")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if engine is not None and engine.poll() is None:
        code = 0
        os.killpg(0, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            engine.wait(GRACE_S)
    remove_socket(orders.socket_path)
    sys.stderr.flush()
    _end_the_others()
    os._exit(code)


def _end_at_end_of(orders: object) -> None:
    """The gateway holds the other end for as long as it lives."""
    while orders.read(4096):  # type: ignore[attr-defined]
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _end_the_others() -> None:
    """SIGKILL to every process of the group but this one: vLLM's core and workers may outlive its server."""
    for pid in _group():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _group() -> list[int]:
    found, mine = [], os.getpgrp()
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112, PTH208
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if os.getpgid(int(entry)) == mine:
                    found.append(int(entry))
    return found


if __name__ == "__main__":
    main()
