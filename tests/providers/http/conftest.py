"""A scripted raw-socket server, and the two clients that every conformance test runs against."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trustme
import uvloop

from providers.http.client import PooledClient
from providers.http.httpx_client import HttpxClient
from providers.http.port import Endpoint, HttpClient, Origin


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on the loop that the gateway runs on, and on the standard library's."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One accepted connection, `number` counting from 0. `request` reads one request and gives head and body."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def request(self) -> tuple[bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        return head, await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> None:
        """Waits until the client closed its side."""
        while await self.reader.read(65536):
            pass

    def reset(self) -> None:
        self.writer.transport.abort()


class Server:
    """Runs `script` on every connection; `gone` is set when a script saw its connection closed by the client."""

    def __init__(self) -> None:
        self.connections = 0
        self.script: Script
        self.gone = asyncio.Event()
        self.origin: Origin
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, *, tls: ssl.SSLContext | None = None, uds: str | None = None) -> "Server":
        if uds:
            self._server = await asyncio.start_unix_server(self._connection, uds)
            self.origin = Origin("engine", 80, uds=uds)
            return self
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls)
        port = self._server.sockets[0].getsockname()[1]
        self.origin = Origin("localhost" if tls else "127.0.0.1", port, tls=tls is not None)
        return self

    def endpoint(self, **fields: Any) -> Endpoint:
        return Endpoint(self.origin, fields.pop("path", "/v1/x"), **fields)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        number, self.connections = self.connections, self.connections + 1
        try:
            await self.script(Peer(number, reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # the last is uvloop's word for a transport that is closed
            self.gone.set()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = await Server().start()
    yield server
    await server.stop()


@pytest.fixture(params=[PooledClient, HttpxClient], ids=["ours", "httpx2"])
async def client(request: pytest.FixtureRequest, authority: trustme.CA) -> AsyncIterator[HttpClient]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's certificates, which take long to read
    authority.configure_trust(context)
    client: HttpClient = request.param(context)
    yield client
    await client.aclose()
