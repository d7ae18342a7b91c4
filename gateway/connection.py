"""One client's connection: uvicorn's protocol, with a request's head bounded in size and time, and errors of HTTP itself in our shape."""

import asyncio
import json
import urllib.parse
from collections import deque
from time import monotonic
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from gateway.cycle import EXTENSION, Cycle
from gateway.endpoints import ENDPOINTS
from gateway.flow import Flow
from gateway.identity import new_request_id

_PATHS = {path.encode(): (path, path.encode(), b"") for path in ENDPOINTS}
_NO_PIPELINE: deque[Any] = deque()  # of uvicorn's, which ours does not use: a deque takes as much memory as a request's headers
HEAD_LIMIT = 64 << 10  # bytes of request line and headers; one read of the socket may go beyond it


class ClientConnection(HttpToolsProtocol):
    """What uvicorn makes for each connection. `_head_since`: when the head began that is not yet whole; 0: none is under way.

    One timer a connection looks at its head and at how long it rests: moving timers with each request would cost more than the request's parsing.
    """

    head_s = 10.0  # how long a head may take from its first byte, and a new connection until it
    __slots__ = ("_head_since", "_head_size", "_rests_since", "_timer", "_waiting")  # uvicorn's attributes are nearly as many as a small dict holds
    cycle: Cycle  # type: ignore[assignment]
    flow: Flow  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.connections.add(self)
        self.flow = Flow(self.transport)
        self.server, self.client = get_local_addr(self.transport), get_remote_addr(self.transport)
        self.scheme = "https" if is_ssl(self.transport) else "http"
        self.pipeline = _NO_PIPELINE
        self._head_since = monotonic()
        self._head_size = 0
        self._waiting: list[Cycle] | None = None  # of requests that came before the answer to the one before them was whole
        self._rests_since = 0.0  # when the last answer was whole and nothing came since
        self._timer = self.loop.call_later(self.head_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self.connections.discard(self)
        self.flow.resume_writing()
        if self.cycle is not None:
            self.cycle.lost()
        for cycle in self._waiting or ():
            cycle.lost()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._rests_since = 0.0
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse("400 Bad Request", "invalid_http", "the request is not valid HTTP/1.1")
            return
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        if self.cycle is not None and self.cycle.overfull():
            self.flow.pause_reading()
        if self._head_since:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self._refuse("431 Request Header Fields Too Large", "request_head_too_large", f"the request's head is larger than {HEAD_LIMIT} bytes")

    def on_message_begin(self) -> None:
        self._head_since = monotonic()
        self._head_size = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._head_since = 0.0
        parser = self.parser
        version = parser.get_http_version()
        path, raw_path, query = _PATHS.get(self.url) or _split(self.url)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        before = self.cycle
        cycle = self.cycle = Cycle(self, scope, version != "1.0" and parser.should_keep_alive(), self.expect_100_continue)
        scope["extensions"] = {EXTENSION: cycle}
        if before is None or before.response_complete:
            self._begin(cycle)
        else:
            self.flow.pause_reading()
            self._waiting = [*(self._waiting or ()), cycle]

    def _begin(self, cycle: Cycle) -> None:
        task = cycle.task = self.loop.create_task(cycle.run(self.app))
        self.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self.cycle.take(body)

    def on_message_complete(self) -> None:
        if not self.cycle.response_complete:
            self.cycle.took_all()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._waiting:
            self._begin(self._waiting.pop(0))
        else:
            self._rests_since = monotonic()

    def default_lines(self) -> bytes:
        """The headers that every answer has: `date`, which uvicorn renews each second."""
        headers = self.server_state.default_headers
        if headers is not _told.headers:
            _told.headers, _told.lines = headers, b"".join(b"%b: %b\r\n" % pair for pair in headers)
        return _told.lines

    def _look(self) -> None:
        now = monotonic()
        if self._head_since and now - self._head_since >= self.head_s:
            self._refuse("408 Request Timeout", "request_timeout", f"the request's head did not come within {self.head_s:g} s")
        elif self._rests_since and now - self._rests_since >= self.timeout_keep_alive:
            self.transport.close()
        else:
            self._timer = self.loop.call_later(self.head_s, self._look)

    def _refuse(self, status: str, code: str, message: str) -> None:
        """Answers and closes; only closes while the answer to an earlier request is under way, into which nothing may be written."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            request_id = new_request_id()
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": code, "request_id": request_id, "attempts": 0}
            body = json.dumps({"error": error})
            lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", f"x-request-id: {request_id}"]
            self.transport.write("\r\n".join([*lines, "x-should-retry: false", "connection: close", "", body]).encode())
        self.transport.close()


class _Told:
    """The headers of every answer, and the same as lines."""

    headers: list[tuple[bytes, bytes]] | None = None
    lines = b""


_told = _Told()


def _split(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, the same as it came, query. Raises httptools' error for no URL."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return urllib.parse.unquote(path) if "%" in path else path, parsed.path, parsed.query or b""
