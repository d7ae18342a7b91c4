"""A worker's process: `python -I -m gateway.workers.worker PARENT CHANNEL LISTENER TALLY [ADMIN]`: its parent's id, inherited descriptors.

It imports everything, waits for its orders, and serves as one process alone would. SIGTERM lets its streams finish; SIGINT, which only the
parent sends, ends them.
"""

import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from types import FrameType

import uvicorn

from config.settings import Settings
from gateway import logs
from gateway.app import create_app
from gateway.client import Message, Receive, Scope, Send
from gateway.fastpath import App, FastPath
from gateway.runtime import build_runtime
from gateway.server import Server, Sockets, serve
from gateway.workers.acceptor import Acceptor
from gateway.workers.link import Link
from gateway.workers.messages import Listening, Orders, read_orders
from gateway.workers.tally import Tally
from providers.local.child import die_with


class _Server(Server):
    """Takes its share of the connections. A service manager may signal every process, and the parent does so too: that is one signal, not two."""

    def __init__(self, config: uvicorn.Config, on_listening: Callable[[], None], tally: Tally, place: int) -> None:
        super().__init__(config, on_listening)
        self._tally = tally
        self._place = place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for listener in sockets or ():
            listener.setblocking(False)  # the parent made it listen
        await super().startup([])
        self.servers += [Acceptor(listener, self, self._tally, self._place) for listener in sockets or ()]  # type: ignore[misc]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True
        self.force_exit = self.force_exit or sig == signal.SIGINT


def main() -> None:
    parent, *descriptors = map(int, sys.argv[1:])
    die_with(parent)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    channel, listener, tally, *admin = descriptors
    end = socket.socket(fileno=channel)
    orders = read_orders(end)
    if orders is not None:
        sockets = Sockets(socket.socket(fileno=listener), socket.socket(fileno=admin[0]) if admin else None)
        _serve(orders, end, sockets, Tally(tally))


def _serve(orders: Orders, end: socket.socket, sockets: Sockets, tally: Tally) -> None:
    logs.configure(worker=orders.worker)
    settings: Settings = pickle.loads(orders.settings)
    link = Link(end, orders, lambda: os.kill(os.getpid(), signal.SIGTERM))
    runtime = build_runtime(settings, orders.bootstrap_key, link.host, sockets.admin)
    app = FastPath(create_app(runtime, version("turnout")), runtime)

    def on_listening() -> None:
        link.say(Listening(runtime.example_model))

    serve(_linked(app, link), sockets.listener, on_listening, lambda config, told: _Server(config, told, tally, orders.worker))


def _linked(app: App, link: Link) -> App:
    """The app with the link to the parent, from before its start until after its end."""

    async def linked(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await app(scope, receive, send)

        async def ending(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):  # once that is told, nobody waits for us any more
                await link.stop()
            await send(message)

        await link.start()
        try:
            await app(scope, receive, ending)
        finally:
            await link.stop()

    return linked


if __name__ == "__main__":
    main()
