"""The admin API's own server, beside the gateway's in its process and on its loop, started and stopped with the runtime."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from config.tenancy import AdminSettings
from gateway.admin.api import create_admin_app
from gateway.admin.edge import AdminEdge
from gateway.admin.gate import Gate
from gateway.admin.reports import View
from gateway.connection import ClientConnection
from gateway.key_watch import KeyWatch
from gateway.metering.meter import MeterPort
from gateway.replay.jobs import Jobs
from gateway.server import url_of
from providers.http.port import HttpClient

GRACE_S = 5  # for what runs when the gateway stops


class _Server(uvicorn.Server):
    """Signals are the gateway's server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class AdminServer:
    """`url`: where it listens. `listener`: bound already, and perhaps shared with other workers."""

    def __init__(self, admin: AdminSettings, watch: KeyWatch, client: HttpClient, meter: MeterPort, view: View, listener: socket.socket) -> None:
        self._listener = listener
        self.url = url_of(listener)
        self._replays = Jobs(watch.settings.state.database)
        app = create_admin_app(watch, Gate(admin, client, watch.store.engine), meter, view, self._replays)
        config = uvicorn.Config(
            AdminEdge(app),
            http=ClientConnection,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve([self._listener]), name="admin")
        while not self._server.started:
            if self._task.done():
                await self._task
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Idempotent."""
        self._server.should_exit = True
        await asyncio.to_thread(self._replays.stop)
        if self._task is not None:
            await self._task
        self._listener.close()
