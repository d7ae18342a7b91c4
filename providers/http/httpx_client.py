"""The port on httpx2: slower, for what our own client does not do (proxies from the environment). Chosen by `transport: httpx`.

A connection serves one request only: httpcore gives what an upstream sent after the end of an answer as the answer to the next request,
which our conformance suite found and which nobody may risk (docs/decisions/002).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from math import inf
from time import monotonic
from typing import Any

import httpx2

from contract.errors import AnswerTooLarge, AttemptTimeout, Clock, ConnectFailed, ConnectionLost, MalformedResponse, StreamCut
from providers.http.client import why_not
from providers.http.connection import DRAIN_S, HEAD_LIMIT
from providers.http.port import Clocks, Endpoint, Headers, Origin

LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=0)


class HttpxClient:
    """Implements `providers.http.port.HttpClient`. `ssl_context`: what TLS trusts; the system's authorities unless given."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._verify: ssl.SSLContext | bool = ssl_context or True
        self._client: httpx2.AsyncClient | None = None
        self._by_socket: dict[str, httpx2.AsyncClient] = {}
        self._releases: set[asyncio.Task[None]] = set()
        self._closed = False

    async def send(self, endpoint: Endpoint, body: bytes | AsyncIterator[bytes], clocks: Clocks) -> "HttpxResponse":
        """See `providers.http.port.HttpClient.send`. A body in pieces needs its content-length among the headers."""
        if self._closed:
            raise ConnectFailed("the gateway's HTTP client is closed")
        return await _Request(self._client_for(endpoint.origin), endpoint, body, clocks, self._releases).send()

    def _client_for(self, origin: Origin) -> httpx2.AsyncClient:
        if origin.uds is not None:
            if origin.uds not in self._by_socket:
                transport = httpx2.AsyncHTTPTransport(uds=origin.uds, limits=LIMITS)
                self._by_socket[origin.uds] = httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
            return self._by_socket[origin.uds]
        if self._client is None:
            self._client = httpx2.AsyncClient(verify=self._verify, http2=False, timeout=None, limits=LIMITS, follow_redirects=False)
        return self._client

    async def aclose(self) -> None:
        self._closed = True
        for task in list(self._releases):
            task.cancel()
        await asyncio.gather(*self._releases, return_exceptions=True)
        for client in (self._client, *self._by_socket.values()):
            if client is not None:
                await client.aclose()


class _Request:
    """One request up to its response's head."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        endpoint: Endpoint,
        body: bytes | AsyncIterator[bytes],
        clocks: Clocks,
        releases: set[asyncio.Task[None]],
    ) -> None:
        origin = endpoint.origin
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        url = f"{'https' if origin.tls else 'http'}://{host}:{origin.port}{endpoint.path}"
        headers = [(b"accept-encoding", b"identity"), *endpoint.headers]
        if any(b"\r" in part or b"\n" in part or b"\0" in part for header in headers for part in header):
            raise ValueError("a header to be sent holds a line break or a null byte")
        timeout = httpx2.Timeout(None, connect=clocks.connect_s)
        self._client = client
        self._request = client.build_request(endpoint.method, url, content=body, headers=headers, timeout=timeout, extensions={"trace": self._trace})
        if not any(name.lower() == b"user-agent" for name, _ in endpoint.headers):
            del self._request.headers["user-agent"]
        self._clocks = clocks
        self._releases = releases
        self._loop = asyncio.get_running_loop()
        self._started = monotonic()
        self._connected_at = 0.0

    async def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event.endswith(".send_request_headers.started"):
            self._connected_at = monotonic()

    async def send(self) -> "HttpxResponse":
        clocks = self._clocks
        clock, limit_s = _shortest(clocks)
        try:
            async with asyncio.timeout(self._started + limit_s - monotonic()):
                response = await self._client.send(self._request, stream=True)
        except TimeoutError as exc:
            raise AttemptTimeout(clock, limit_s) from exc
        except (httpx2.ConnectTimeout, httpx2.PoolTimeout) as exc:
            raise AttemptTimeout("connect", clocks.connect_s) from exc
        except httpx2.ConnectError as exc:
            raise ConnectFailed(f"the gateway could not connect to the upstream: {why_not(_os_error(exc))}") from exc
        except (httpx2.LocalProtocolError, httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError, httpx2.CloseError) as exc:
            raise _before_the_body(exc) from exc
        answer = HttpxResponse(response, clocks, self._started, self._connected_at or monotonic(), self._releases)
        await answer.check()
        return answer


def _shortest(clocks: Clocks) -> tuple[Clock, float]:
    limits: list[tuple[float, Clock]] = [
        (clocks.headers_s or inf, "headers"),
        (clocks.total_s, "total"),
        (clocks.first_token_s, "first_token"),
    ]
    limit_s, clock = min(limits, key=lambda limit: limit[0])
    return clock, limit_s


def _os_error(exc: BaseException) -> OSError:
    """The operating system's error behind one of httpx2's."""
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause
        cause = cause.__cause__ or cause.__context__
    return OSError()


def _before_the_body(exc: Exception) -> MalformedResponse | ConnectionLost:
    """h11 names both a broken head and an end without one a protocol error; only the second comes without a byte of a response."""
    if isinstance(exc, httpx2.RemoteProtocolError) and "without sending" not in str(exc):
        return MalformedResponse("the upstream's answer is not valid HTTP")
    return ConnectionLost("the upstream closed the connection before it answered")


class HttpxResponse:
    """Implements `providers.http.port.HttpResponse`."""

    def __init__(self, response: httpx2.Response, clocks: Clocks, started: float, connected_at: float, releases: set[asyncio.Task[None]]) -> None:
        self._response = response
        self._clocks = clocks
        self._releases = releases
        self._loop = asyncio.get_running_loop()
        self._bytes: AsyncIterator[bytes] = response.aiter_raw()
        self._first_token_at = started + clocks.first_token_s
        self._total_at = started + clocks.total_s
        self._silent = False  # what was read last is no progress
        self._idle_from = started
        self._got_body = False
        self.taken: list[bytes] = []
        self._ended = False
        self._closing: asyncio.Task[None] | None = None
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self.connected_at = connected_at
        self.headers_at = monotonic()

    async def check(self) -> None:
        """Refuses a head that is too large, an encoding that was not asked for, a switch of protocols. Raises MalformedResponse."""
        fault = ""
        head = dict(self.headers)
        if sum(len(name) + len(value) for name, value in self.headers) > HEAD_LIMIT:
            fault = f"the head of the upstream's answer is larger than {HEAD_LIMIT} bytes"
        elif head.get(b"content-encoding", b"identity").lower() != b"identity":
            fault = "the upstream compressed its answer, which it was asked not to"
        elif b"content-length" in head and b"transfer-encoding" in head:
            fault = "the upstream's answer is not valid HTTP"
        elif self.status == 101:
            fault = "the upstream switched protocols unasked"
        if fault:
            await self._response.aclose()
            raise MalformedResponse(fault)

    async def chunk(self) -> bytes:
        if self._ended:
            return b""
        if not self._silent:
            self._idle_from = monotonic()
        self._silent = False
        at, clock, limit_s = self._deadline()
        try:
            async with asyncio.timeout(at - monotonic()):
                data = await anext(self._bytes, b"")
        except TimeoutError as exc:
            self.abort()
            raise AttemptTimeout(clock, limit_s) from exc
        except (httpx2.RemoteProtocolError, httpx2.ReadError) as exc:
            self.abort()
            if isinstance(exc, httpx2.RemoteProtocolError) and "peer closed" not in str(exc):
                raise MalformedResponse("the upstream's answer is not valid HTTP") from exc
            if self._got_body:
                raise StreamCut("the upstream closed the connection in the middle of its answer") from exc
            raise ConnectionLost("the upstream closed the connection before it answered") from exc
        self._got_body = True
        if not data:
            self._ended = True
        return data

    def _deadline(self) -> tuple[float, Clock, float]:
        clocks = self._clocks
        limits: list[tuple[float, Clock, float]] = [
            (self._idle_from + clocks.idle_s, "idle", clocks.idle_s),
            (self._total_at, "total", clocks.total_s),
            (self._first_token_at, "first_token", clocks.first_token_s),
        ]
        return min(limits, key=lambda limit: limit[0])

    async def read(self, limit: int) -> bytes:
        if (declared := self._response.headers.get("content-length", "")).isdecimal() and int(declared) > limit:
            raise self._too_large(limit)
        parts = self.taken
        size = 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                raise self._too_large(limit)
            parts.append(part)
        self.taken = []
        return b"".join(parts)

    def _too_large(self, limit: int) -> AnswerTooLarge:
        self.abort()
        return AnswerTooLarge.of("the upstream's answer", limit)

    def first_token(self) -> None:
        self._first_token_at = inf

    def no_progress(self) -> None:
        self._silent = True

    def release(self) -> None:
        self._end(self._drain())

    def abort(self) -> None:
        self._end(self._response.aclose())

    def _end(self, ending: Any) -> None:
        """Runs an ending once, as a task that the client owns: httpx2 can only close while it waits."""
        if self._closing is not None or self._ended:
            ending.close()
            return
        self._closing = self._loop.create_task(ending)
        self._releases.add(self._closing)
        self._closing.add_done_callback(self._releases.discard)

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(DRAIN_S):
                async for _ in self._bytes:
                    pass
        except (TimeoutError, httpx2.HTTPError):
            pass
        finally:
            await self._response.aclose()
