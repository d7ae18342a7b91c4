"""One client's connection: uvicorn's protocol, with a request's head bounded in size and time, and errors of HTTP itself in our shape."""

import asyncio
import json
from time import monotonic

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.identity import new_request_id

HEAD_LIMIT = 64 << 10  # bytes of request line and headers; one read of the socket may go beyond it


class ClientConnection(HttpToolsProtocol):
    """What uvicorn makes for each connection. `_head_since`: when the head began that is not yet whole; 0: none is under way."""

    head_s = 10.0  # how long a head may take from its first byte, and a new connection until it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._head_since = monotonic()
        self._head_size = 0
        self._head_timer = self.loop.call_later(self.head_s, self._look_at_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_since:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self._refuse("431 Request Header Fields Too Large", "request_head_too_large", f"the request's head is larger than {HEAD_LIMIT} bytes")

    def on_message_begin(self) -> None:
        self._head_since = monotonic()
        self._head_size = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since = 0.0
        super().on_headers_complete()

    def _look_at_head(self) -> None:
        if self._head_since and monotonic() - self._head_since >= self.head_s:
            self._refuse("408 Request Timeout", "request_timeout", f"the request's head did not come within {self.head_s:g} s")
        else:
            self._head_timer = self.loop.call_later(self.head_s, self._look_at_head)

    def send_400_response(self, msg: str) -> None:
        self._refuse("400 Bad Request", "invalid_http", "the request is not valid HTTP/1.1")

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
