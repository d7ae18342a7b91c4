"""Our pooled HTTP/1.1 client: the hot path's transport, behind `providers.http.port.HttpClient`."""

import asyncio
import errno
import socket
import ssl
from time import monotonic

from contract.errors import AttemptTimeout, ConnectFailed, ConnectionLost
from providers.http.connection import Connection
from providers.http.port import Clocks, Endpoint, Origin
from providers.http.response import Response

MAX_IDLE = 256  # unused connections kept for one origin
MAX_CACHED_HEADS = 1024
LARGE = 32 << 10  # bytes of a body, from which on it is not copied behind its head
SAFE_METHODS = ("GET",)  # a request may be sent twice: whether the first was read before its connection closed, nobody can tell
_Way = tuple[Endpoint, bytes, list[Connection]]


class PooledClient:
    """Keeps connections by origin, the last used first. One event loop. `ssl_context`: what TLS trusts; the system's authorities unless given."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context
        self._pools: dict[Origin, list[Connection]] = {}
        self._ways: dict[int, _Way] = {}  # by the endpoint's identity: it is kept, and to compare it costs more than to look
        self._closed = False

    async def send(self, endpoint: Endpoint, body: bytes, clocks: Clocks) -> Response:
        """See `providers.http.port.HttpClient.send`. Give a method whose response has a body unless its status says otherwise: not HEAD."""
        total_at = monotonic() + clocks.total_s
        way = self._ways.get(id(endpoint))
        if way is None or way[0] is not endpoint:
            way = self._way(endpoint)
        _, head, pool = way
        message = [b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body if len(body) < LARGE else b"")]
        if len(body) >= LARGE:
            message.append(body)
        while pool:
            connection = pool.pop()
            if not connection.usable():
                connection.abort()
                continue
            response = connection.send(message, clocks, total_at)
            try:
                await response.head()
            except ConnectionLost:
                if response.received or endpoint.method not in SAFE_METHODS:
                    raise
                break  # it was closed meanwhile: once more, on a fresh one
            return response
        connection = await self._connect(endpoint.origin, clocks)
        response = connection.send(message, clocks, total_at)
        await response.head()
        return response

    def _way(self, endpoint: Endpoint) -> _Way:
        """All of a request's head but its length, and where connections wait. Raises ValueError for a header that would break out of its line."""
        host = host_header(endpoint.origin).encode()
        lines = [f"{endpoint.method} {endpoint.path} HTTP/1.1".encode(), b"host: " + host, b"accept-encoding: identity"]
        lines += [name + b": " + value for name, value in endpoint.headers]
        if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
            raise ValueError("a path or header to be sent holds a line break or a null byte")
        head = b"\r\n".join(lines) + b"\r\n"
        if len(self._ways) >= MAX_CACHED_HEADS:
            self._ways.clear()
        way = self._ways[id(endpoint)] = endpoint, head, self._pools.setdefault(endpoint.origin, [])
        return way

    async def _connect(self, origin: Origin, clocks: Clocks) -> Connection:
        if self._closed:
            raise ConnectFailed("the gateway's HTTP client is closed")
        pool = self._pools.setdefault(origin, [])
        del pool[:-MAX_IDLE]
        loop = asyncio.get_running_loop()

        def protocol() -> Connection:
            return Connection(loop, pool)

        try:
            async with asyncio.timeout(min(clocks.connect_s, clocks.total_s)):
                if origin.uds is not None:
                    _, connection = await loop.create_unix_connection(protocol, origin.uds)
                elif origin.tls:
                    _, connection = await loop.create_connection(protocol, origin.host, origin.port, ssl=self._tls(), server_hostname=origin.host)
                else:
                    _, connection = await loop.create_connection(protocol, origin.host, origin.port)
        except TimeoutError as exc:
            raise _not_connected(clocks) from exc
        except OSError as exc:
            raise ConnectFailed(f"the gateway could not connect to the upstream: {why_not(exc)}") from exc
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    async def aclose(self) -> None:
        self._closed = True
        for pool in self._pools.values():
            for connection in pool:
                connection.transport.abort()
        await asyncio.sleep(0)  # the transports' ends are delivered

    def idle(self, origin: Origin) -> int:
        """How many unused connections are kept for an origin."""
        return len(self._pools.get(origin, ()))


def host_header(origin: Origin) -> str:
    """The Host header's value: the port is in it unless it is the scheme's own."""
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return host if origin.uds is not None or origin.port == (443 if origin.tls else 80) else f"{host}:{origin.port}"


def why_not(exc: OSError) -> str:
    """Why a connection failed, in our words; nothing that a server sent is in them."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return "its certificate is not trusted"
    if isinstance(exc, ssl.SSLError):
        return "TLS failed"
    if isinstance(exc, socket.gaierror):
        return "its name does not resolve"
    return {errno.ECONNREFUSED: "connection refused", errno.ENOENT: "its socket does not exist", errno.EHOSTUNREACH: "no route to it"}.get(
        exc.errno or 0, "the network refused"
    )


def _not_connected(clocks: Clocks) -> AttemptTimeout:
    """The clock that ran out: a deadline that leaves less than it takes to connect says nothing of the upstream."""
    if clocks.connect_s <= clocks.total_s:
        return AttemptTimeout("connect", clocks.connect_s)
    error = AttemptTimeout("total", clocks.total_s)
    error.sent = False
    return error
