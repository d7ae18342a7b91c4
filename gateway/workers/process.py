"""One worker's process as its parent sees it, from spawn to exit."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from time import monotonic

from gateway.server import Sockets
from gateway.workers.messages import Channel, Up
from gateway.workers.tally import Tally

COMMAND = (sys.executable, "-I", "-m", "gateway.workers.worker")  # a fresh interpreter, which nothing of the working folder gets into


class WorkerProcess:
    """A process that was spawned and may have got its orders. Whoever spawned it sees to its end with `end`."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel[Up]) -> None:
        self.channel = channel
        self.listening_at: float | None = None  # in time.monotonic() seconds
        self._process = process

    @classmethod
    async def spawn(cls, sockets: Sockets, tally: Tally) -> "WorkerProcess":
        """In a session of its own, so that the terminal's signals reach the parent alone. Raises OSError."""
        ours, theirs = socket.socketpair()
        inherited = (theirs.fileno(), sockets.listener.fileno(), tally.descriptor, *(() if sockets.admin is None else (sockets.admin.fileno(),)))
        try:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                *map(str, (os.getpid(), *inherited)),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=inherited,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, Channel(*await asyncio.open_unix_connection(sock=ours), Up))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.returncode is None

    @property
    def lived_s(self) -> float:
        """How long it has served."""
        return 0.0 if self.listening_at is None else monotonic() - self.listening_at

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, grace_s: float) -> int:
        """Kills it when it has not ended by itself within `grace_s`; its exit code, negative for the signal that killed it."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    return await self._process.wait()
        finally:
            self.signal(signal.SIGKILL)
            self.channel.close()
        return await self._process.wait()


def end_of(code: int) -> str:
    """An exit in words."""
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"was killed by signal {-code}"
