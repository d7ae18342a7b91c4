"""Takes connections from the socket that all workers listen on, so that each has its share of them.

Whoever wakes first would have every connection of a burst, and clients keep them. So a worker takes one a turn of its loop, and who has more
than another lets that one go first, for a moment only: it may be busy, or hang.
"""

import asyncio
import socket
from time import monotonic

import structlog

from gateway.connection import ClientConnection
from gateway.server import Server
from gateway.workers.tally import ABSENT, Tally

MORE = 1  # connections that a worker may have more than another and still go first
POLITE_S = 0.01
IN_VAIN = 5  # times in a row that nobody else came: nobody is let go first any more
IMPATIENT_S = 1.0  # for so long
PAUSE_S = 1.0  # after an error that is not one connection's, such as too many open files
NOBODYS = (BlockingIOError, InterruptedError, ConnectionAbortedError)  # another worker was quicker, or the client is gone

log = structlog.get_logger("turnout.workers")


class Counting(ClientConnection):
    """A connection that is counted. `tally`, `place`: of this process, set before the first."""

    tally: Tally
    place: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.tally[self.place] = len(self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.tally[self.place] = len(self.connections)


class Acceptor:
    """Has what uvicorn asks of a server: `close` and `wait_closed`. The listener is its opener's to close."""

    def __init__(self, listener: socket.socket, server: Server, tally: Tally, place: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._server = server
        self._tally = tally
        self._place = place
        self._coming: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._closed = False
        self._in_vain = 0
        self._impatient_until = 0.0
        Counting.tally, Counting.place = tally, place
        tally[place] = 0
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        self._closed = True
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        self._tally[self._place] = ABSENT

    async def wait_closed(self) -> None:
        if self._coming:
            await asyncio.wait(self._coming)

    def _accept(self, polite: bool = True) -> None:
        if polite and monotonic() > self._impatient_until:
            fewest = self._tally.fewest_beside(self._place)
            if fewest is not None and len(self._server.server_state.connections) + len(self._coming) > fewest + MORE:
                self._rest(POLITE_S)
                return
        try:
            connection, _ = self._listener.accept()
        except NOBODYS:
            self._in_vain = 0
            return
        except OSError as exc:
            log.error("connections cannot be taken", error=str(exc), again_in_s=PAUSE_S)
            self._rest(PAUSE_S)
            return
        self._in_vain = 0 if polite else self._in_vain + 1
        if self._in_vain >= IN_VAIN:
            self._impatient_until = monotonic() + IMPATIENT_S
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._connect(connection))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        self._accept(polite=False)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            _, protocol = await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it was gone before it began
            connection.close()
            return
        if self._closed:  # meanwhile, when all others were told to end
            protocol.shutdown()

    def _protocol(self) -> Counting:
        return Counting(self._server.config, self._server.server_state, self._server.lifespan.state)
