"""The HTTP server under the gateway: uvicorn with httptools and uvloop, no access log (docs/decisions/003)."""

import gc
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from gateway.client import App
from gateway.connection import ClientConnection

GC_THRESHOLD = 10_000  # new container objects between two collections; the default of 700 costs a request some microseconds
GRACE_S = 120  # how long a stopping gateway lets streams finish


class _Server(uvicorn.Server):
    """Tells once when the socket listens. The first signal lets streams finish, the second ends them."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError when the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: App, listener: socket.socket, on_listening: Callable[[], None]) -> None:
    """Serves until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        app,
        http=ClientConnection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # nothing of ours reads the client's address or scheme
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
    )
    server = _Server(config, on_listening)

    def leave(*_: object) -> None:
        if not server.should_exit:  # before uvicorn's own handlers stand
            raise SystemExit(0)

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not write keys and prompts to a file
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # uvicorn raises the signal again once it has stopped: a clean end is exit code 0
    gc.collect()
    gc.freeze()  # what was built at the start lives as long as the process: the collector need not look at it again
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    server.run([listener])
