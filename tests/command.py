"""The `turnout` command in a process of its own, forked from one that has imported it already: what it does, without its second of imports.

The installed command itself is run by tests/gateway/test_command.py.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PATIENCE_S = 100
PACKAGES = ("gateway.cli", "config", "ledger")  # what the verbs import only when they run


def turnout(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """As subprocess.run with its output captured as text, and with nothing on stdin."""
    server = _server()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        asked = json.dumps({"args": args, "cwd": str(cwd), "env": dict(os.environ if env is None else env)})
        socket.send_fds(server, [asked.encode()], [out.fileno(), err.fileno()])
        code = int(server.recv(16))
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(args, code, out.read(), err.read())


@functools.cache
def _server() -> socket.socket:
    """It ends when its socket is closed: with the tests."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen([sys.executable, "-I", __file__, str(its.fileno())], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)
    its.close()
    ours.settimeout(PATIENCE_S)
    atexit.register(_end, process, ours)
    return ours


def _end(process: "subprocess.Popen[bytes]", server: socket.socket) -> None:
    server.close()
    process.wait(PATIENCE_S)


@contextlib.contextmanager
def on_one_cpu() -> Iterator[None]:
    """For a child whose engine takes every CPU that it may: on a busy machine its threads would spin while they wait for one another."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {random.choice(sorted(mine))})
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def serve(requests: socket.socket) -> None:
    """Forks for each request. Returns in the fork, which is then to be the command; the server itself never does."""
    while True:
        data, files, _, _ = socket.recv_fds(requests, 1 << 20, 2)
        if not data:
            sys.exit()
        child = os.fork()
        if not child:
            requests.close()
            become(json.loads(data), files)
            return
        for file in files:
            os.close(file)
        requests.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def become(asked: dict[str, object], files: list[int]) -> None:
    for file, place in zip(files, (1, 2), strict=True):
        os.dup2(file, place)
        os.close(file)
    os.chdir(str(asked["cwd"]))
    os.environ.clear()
    os.environ.update(asked["env"])  # type: ignore[call-overload]
    sys.argv = ["turnout", *asked["args"]]  # type: ignore[misc]


if __name__ == "__main__":
    for package in map(importlib.import_module, PACKAGES):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    gc.freeze()  # else the collection at each fork's end copies all that it shares
    serve(socket.socket(fileno=int(sys.argv[1])))
    importlib.import_module("gateway.cli").main()
