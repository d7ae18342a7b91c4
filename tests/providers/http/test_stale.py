"""Pooled connections that their peer closed: passed over before anything is sent; what may have been read is not sent again."""

import socket
import threading

import pytest

from contract.errors import ConnectionLost
from providers.http.client import PooledClient
from providers.http.port import Clocks, Endpoint, HttpClient, Origin
from tests.providers.http.conftest import Peer, Script, Server

CLOCKS = Clocks(connect_s=5, headers_s=5, first_token_s=5, idle_s=5, total_s=10)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world"


async def fetch(client: HttpClient, endpoint: Endpoint, body: bytes = b"{}") -> bytes:
    response = await client.send(endpoint, body, CLOCKS)
    return await response.read(1 << 20)


class Closer:
    """A server of its own thread: what it closes is closed though the test's loop does not run. Answers one request on a connection."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.origin = Origin("127.0.0.1", self._listening.getsockname()[1])
        self.requests = 0
        self._may_close, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for _ in range(2):
            connection, _ = self._listening.accept()
            with connection:
                while connection.recv(65536):
                    self.requests += 1
                    connection.sendall(ANSWER)
                    if self._may_close.wait(5):
                        break
            self._closed.set()

    def close_first(self) -> None:
        """Returns when it has; the loop stands still."""
        self._may_close.set()
        assert self._closed.wait(5)

    def stop(self) -> None:
        self._thread.join(5)
        self._listening.close()


async def test_nothing_is_sent_on_a_connection_that_its_peer_closed_a_moment_ago(client: HttpClient) -> None:
    """The loop has not heard of it yet; the kernel has."""
    closer = Closer()
    endpoint = Endpoint(closer.origin, "/v1/x")
    assert await fetch(client, endpoint) == b"hello world"
    closer.close_first()
    assert await fetch(client, endpoint) == b"hello world"
    closer.stop()
    assert closer.requests == 2


def lost_once_read(counted: list[int]) -> Script:
    """Its first connection resets when it has read its second request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        counted.append(peer.number)
        if peer.number == 0:
            await peer.send(ANSWER)
            await peer.request()
            counted.append(peer.number)
            peer.reset()
        await peer.send(ANSWER)
        await peer.closed()

    return script


async def test_a_request_that_may_have_been_read_is_not_sent_again(server: Server) -> None:
    client, counted = PooledClient(), list[int]()
    server.script = lost_once_read(counted)
    await fetch(client, server.endpoint())
    with pytest.raises(ConnectionLost):
        await fetch(client, server.endpoint())
    assert counted == [0, 0]
    await client.aclose()


async def test_one_that_only_asks_is_sent_once_more_on_a_fresh_connection(server: Server) -> None:
    client, counted = PooledClient(), list[int]()
    server.script = lost_once_read(counted)
    await fetch(client, server.endpoint(method="GET"), b"")
    assert await fetch(client, server.endpoint(method="GET"), b"") == b"hello world"
    assert counted == [0, 0, 1]
    await client.aclose()
