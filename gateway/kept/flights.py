"""An answer under way, and everybody who waits for it. It goes on while anybody does, and ends when nobody is left."""

import asyncio
from contextlib import aclosing

from cache.flight import Tape
from cache.port import Kept
from contract.errors import ServerShuttingDown
from contract.head import HeaderList
from gateway.client import Receiver
from gateway.job import Job
from ledger.row import CacheUse


class Flight:
    """The answer that the request `job` leads to. `found`: it had been kept; `use`: how it was found.

    `saved_nusd`: what it cost, once it is whole and that is known.
    """

    __slots__ = ("_waiting", "found", "job", "saved_nusd", "tape", "task", "use")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tape = Tape(job.client.started_at)
        self.found: Kept | None = None
        self.use: CacheUse = "hit"
        self.saved_nusd: int | None = None
        self.task: asyncio.Task[None] | None = None
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many wait for it, whoever leads included."""
        return self._waiting

    def join(self) -> None:
        self._waiting += 1

    def leave(self, client_left: bool) -> None:
        """Whoever is the last ends it, unless there is an outcome already, which is only being kept."""
        self._waiting -= 1
        if not self._waiting and not self.tape.ended and not self.tape.closed and self.task is not None:
            self.tape.left = client_left
            self.task.cancel()

    async def over(self) -> BaseException | None:
        """Waits until nothing of it runs any more. Returns what ended it, if it did not come to its end."""
        task = self.task
        if task is None:
            return None
        if not task.done():
            await asyncio.wait({task})
        return ServerShuttingDown("the server is shutting down") if task.cancelled() else task.exception()

    async def hear(self, client: Receiver, headers: HeaderList) -> None:
        """The answer as it flows, once it has begun. An answer that broke off ends without an end."""
        tape, ended = self.tape, False
        await client.start(tape.status, headers)
        async with aclosing(tape.heard()) as pieces:
            async for piece, last in pieces:
                ended = last
                await (client.end(piece) if last else client.write(piece))
        if tape.ended and not ended:
            await client.end()
