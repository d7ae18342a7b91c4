"""The upstream HTTP port: what a transport must do, whoever implements it.

Two implementations stand behind it and pass one conformance suite: `providers.http.client` (ours, the hot path) and
`providers.http.httpx_client` (httpx2, for what ours does not do). Errors raised are `contract.errors.AttemptError`s.
"""

from typing import Protocol

import msgspec

from contract.patience import Patience

Headers = list[tuple[bytes, bytes]]


class Clocks(msgspec.Struct, frozen=True):
    """The five clocks of one attempt, in seconds. `headers_s` None: as long as `total_s` allows.

    connect: until the connection (and TLS) stands. headers: from the request sent until the response's head. first_token: from the
    request sent until the caller says `first_token()`. idle: between two reads of body bytes, those apart
    that the caller says `no_progress()` of. total: from `send` to the end.
    """

    connect_s: float = 3.0
    headers_s: float | None = 60.0
    first_token_s: float = 60.0
    idle_s: float = 60.0
    total_s: float = 600.0


def within(clocks: Clocks, patience: Patience, streamed: bool) -> Clocks:
    """The clocks of one attempt. A unary answer shows no first token: what is true of it is true of its head, which comes with the answer."""
    p = patience
    headers_s = clocks.headers_s if p.headers_s is None else p.headers_s
    first_token_s = clocks.first_token_s if p.first_token_s is None or not streamed else p.first_token_s
    idle_s = clocks.idle_s if p.idle_s is None else p.idle_s
    total_s = clocks.total_s if p.total_s is None else p.total_s
    if p.left_s is not None:
        total_s = min(total_s, p.left_s)
    if p.first_output_s is not None:
        headers_s = p.first_output_s if headers_s is None else min(headers_s, p.first_output_s)
        first_token_s = min(first_token_s, p.first_output_s)
    if p.stall_s is not None:
        idle_s = min(idle_s, p.stall_s)
    return Clocks(clocks.connect_s if p.connect_s is None else p.connect_s, headers_s, first_token_s, idle_s, total_s)


class Origin(msgspec.Struct, frozen=True):
    """Where to connect. `uds` set: a unix socket, `host` then only names it in the Host header."""

    host: str
    port: int
    tls: bool = False
    uds: str | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """One method and path at one origin with its constant headers; built once per target, sent many times.

    `headers` excludes host, content-length, transfer-encoding, connection and accept-encoding: those are the transport's.
    """

    origin: Origin
    path: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    method: str = "POST"

    def __repr__(self) -> str:
        return f"Endpoint({self.method} {self.origin.host}:{self.origin.port}{self.path})"  # a key stands in the headers


class HttpResponse(Protocol):
    """A response whose head has come. The owner ends it with exactly one of: reading to the end, `release`, `abort`."""

    status: int
    headers: Headers  # names in lower case
    connected_at: float  # time.monotonic() when the connection stood ready (at once for a pooled one)
    headers_at: float  # time.monotonic() when the head was complete
    taken: list[bytes]  # what `read` has of a body whose end it has not got

    async def chunk(self) -> bytes:
        """The body bytes that came since the last call, at least one; b"" after a clean end. Raises AttemptError."""

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises MalformedResponse beyond `limit` bytes."""

    def first_token(self) -> None:
        """Stops the first-token clock; from here on the idle clock alone guards the gaps."""

    def no_progress(self) -> None:
        """What `chunk` gave last was a mere sign of life: the idle clock runs on as if it had not come."""

    def release(self) -> None:
        """The caller needs nothing more: the connection is reused if the body's clean end is here or comes within a second, else closed."""

    def abort(self) -> None:
        """Closes the connection now, whatever is in flight. Idempotent; harmless after the end."""


class HttpClient(Protocol):
    async def send(self, endpoint: Endpoint, body: bytes, clocks: Clocks) -> HttpResponse:
        """Sends one request and waits for the response's head.

        No redirect is followed. A pooled connection that its peer has closed is passed over before anything is sent on it. Once the request is
        on its way it may have been read: it is not sent again, but for a GET, once. Cancelling the call closes its connection at once.
        Raises ConnectFailed, AttemptTimeout, ConnectionLost, MalformedResponse.
        """

    async def aclose(self) -> None:
        """Closes idle connections and refuses new sends."""
