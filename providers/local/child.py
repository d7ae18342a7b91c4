"""What every engine's child process does alike: its stdout, its end with its parent, its socket, its first answer. Standard library alone."""

import contextlib
import ctypes
import http.client
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
READY = b'{"ready": true}\n'


class Terminated(BaseException):
    """SIGTERM came. Not an Exception: nothing on the way out may take it for an error."""


def settle_in() -> int:
    """Makes the process quiet and private; gives a file descriptor for stdout. Whatever the engine prints goes to stderr with its logs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the gateway's to answer; it stops us
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # prompts and the key stay out of core dumps
    own = os.dup(1)
    os.dup2(2, 1)
    return own


def die_with(parent_pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Asks the kernel to signal us when our parent dies, however it dies. Where there is no prctl, the end of stdin tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent_pid:  # it died before we asked
        sys.exit("the parent is gone")


def terminate(signum: int, frame: object) -> None:
    raise Terminated


def remove_socket(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
            Path(path).unlink()


def wait_until_it_answers(path: str, still_there: Callable[[], bool] = lambda: True) -> bool:
    """True once /health says 200; False when it is not there any more. How long that may take is for the parent to judge."""
    while still_there():
        connection = http.client.HTTPConnection("engine")
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(path)
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    return False
