"""The HTTP server under the gateway: uvicorn with httptools and uvloop, no access log (docs/decisions/003)."""

import gc
import resource
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

import uvicorn

from config.tenancy import AdminSettings
from gateway.client import App
from gateway.connection import ClientConnection

GC_THRESHOLD = 10_000  # new container objects between two collections; the default of 700 costs a request some microseconds
BACKLOG = 2048  # connections that wait to be taken
GRACE_S = 120  # how long a stopping gateway lets streams finish


class Server(uvicorn.Server):
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


class Sockets(NamedTuple):
    """What a gateway listens on, bound before anything else is done. `admin` None: it has no admin API."""

    listener: socket.socket
    admin: socket.socket | None

    @property
    def admin_url(self) -> str | None:
        return None if self.admin is None else url_of(self.admin)

    def close(self) -> None:
        self.listener.close()
        if self.admin is not None:
            self.admin.close()


MakeServer = Callable[[uvicorn.Config, Callable[[], None]], Server]


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


def bind_admin(admin: AdminSettings) -> socket.socket:
    """The admin API's socket. Raises OSError that says what to do."""
    try:
        return bind(admin.host, admin.port)
    except (OSError, UnicodeError, TypeError) as exc:
        why = getattr(exc, "strerror", None) or "not an address"
        raise OSError(f"the admin API cannot listen on {admin.host}:{admin.port}: {why}; choose another admin.port") from exc


def url_of(listener: socket.socket) -> str:
    """Where a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(app: App, listener: socket.socket, on_listening: Callable[[], None], make: MakeServer = Server) -> None:
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
        backlog=BACKLOG,
    )
    server = make(config, on_listening)

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
