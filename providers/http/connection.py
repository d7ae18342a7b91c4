"""One HTTP/1.1 connection and the response on it: httptools parses, one lazily re-armed timer stands for the clocks.

The connection goes back to its pool the moment a response's clean end was read; the response keeps what is still to be taken.
"""

import asyncio
import select
import socket
from time import monotonic
from typing import cast

import httptools

from contract.errors import AttemptError, AttemptTimeout, ConnectionLost, MalformedResponse, StreamCut
from providers.http.port import Clocks, Headers
from providers.http.response import Response

HEAD_LIMIT = 64 << 10  # bytes of status line and headers, interim responses and trailers included
DRAIN_S = 1.0  # how long a released response may still come to its clean end
IDLE_EXPIRY_S = 60.0  # how long an unused connection is kept
TICK_S = 0.001  # uvloop's timers count whole milliseconds
LINE_COST = 16  # what an empty header or status line counts, so that a flood of them ends too


class Connection(asyncio.Protocol):
    """One connection; carries one response at a time. `pool` is the list that it rests in between two of them."""

    __slots__ = (
        "_body", "_extra", "_fault", "_head_size", "_headers", "_idle_since", "_keep_alive", "_message_ended", "_parser", "_pool", "_response",
        "_timer", "_timer_at", "_unparsed", "_waiting", "loop", "on_body", "transport",
    )  # fmt: skip
    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: list["Connection"]) -> None:
        self.loop = loop
        self._pool = pool
        self._body: list[bytes] = []  # of the response, in the read at hand
        self.on_body = self._body.append  # the parser's callback for each chunk: a function of ours would cost more than the rest of its reading
        self._parser = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._response: Response | None = None
        self._head_size = 0
        self._unparsed = 0
        self._headers: Headers = []
        self._message_ended = False
        self._keep_alive = False
        self._extra = False  # bytes that belong to no response we asked for
        self._idle_since = 0.0
        self._fault = ""  # why a parser callback gave up
        self._waiting = select.poll()  # what the loop has not taken from the socket yet

    # --- the client's side -------------------------------------------------------------------------------------------
    def send(self, message: list[bytes], clocks: Clocks, total_at: float) -> Response:
        now = monotonic()
        response = self._response = Response(self, clocks, total_at, now)
        self._head_size = self._unparsed = 0
        self._message_ended = False
        if len(message) == 1:
            self.transport.write(message[0])
        else:
            self.transport.writelines(message)
        at = total_at if total_at < response.first_token_at else response.first_token_at
        if clocks.headers_s is not None and now + clocks.headers_s < at:
            at = now + clocks.headers_s
        self._arm(at)
        return response

    def usable(self) -> bool:
        """Whether a request may be sent on it. One that the peer has closed, or sent something on, is none, though the loop does not know yet."""
        return not self.transport.is_closing() and not self._waiting.poll(0)

    def abort(self) -> None:
        """Closes at once; what was on it ends with an error."""
        self._finish(ConnectionLost("the connection to the upstream was closed by the gateway"))
        self.transport.abort()

    def drain(self) -> None:
        """Takes the rest of the response without keeping it, for a moment."""
        response = self._response
        if response is not None:
            response.draining = True
            response.total_at = monotonic() + DRAIN_S
            self.resume()
            self._arm(response.total_at)

    def resume(self) -> None:
        response = self._response
        if response is not None and response.paused:
            response.paused = False
            response.last_read = monotonic()
            self.transport.resume_reading()
            self._arm(response.last_read + response.clocks.idle_s)

    # --- clocks ------------------------------------------------------------------------------------------------------
    def heed(self, at: float) -> None:
        """A clock of the response in flight may run out as early as this."""
        if self._response is not None:
            self._arm(at)

    def _arm(self, at: float) -> None:
        """Makes the timer fire at `at` or before; one that fires too early arms itself again, which is cheaper than moving it each time."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self.loop.call_later(max(TICK_S, at - monotonic()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = monotonic()
        response = self._response
        if response is None:
            expires_at = self._idle_since + IDLE_EXPIRY_S
            if now >= expires_at:
                self.transport.abort()
            else:
                self._arm(expires_at)
            return
        at, clock, limit_s = response.deadline()
        if now < at:
            self._arm(at)
            return
        self._finish(AttemptTimeout(clock, limit_s))
        self.transport.abort()

    # --- asyncio.Protocol --------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        sock = transport.get_extra_info("socket")
        self._waiting.register(sock.fileno(), select.POLLIN)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked: whatever it is, this connection cannot be trusted with a request
            self.transport.abort()
            return
        response.received = True
        response.last_read = monotonic()
        failed = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            failed = True
        if not self._message_ended:
            response.take(self._body)
        self._body.clear()  # what came after the message's end belongs to none
        if failed:
            if not self._message_ended:
                self._finish(MalformedResponse(self._fault or "the upstream's answer is not valid HTTP"))
            self._extra = True
        if self._message_ended:
            self._ended(response)
            return
        if self._extra:
            self.transport.abort()
            return
        if not response.headers_at:
            self._unparsed += len(data)  # a line is counted by its callback, which comes only when it is whole
            if self._unparsed > HEAD_LIMIT:
                self._finish(MalformedResponse(f"the head of the upstream's answer is larger than {HEAD_LIMIT} bytes"))
                self.transport.abort()
            return
        response.wake()
        if response.full() and not response.paused:
            response.paused = True
            self.transport.pause_reading()

    def _ended(self, response: Response) -> None:
        """The response's clean end: back to the pool if both sides are done with it and agree to go on.

        Not after a 500: a server that failed may close the connection without a word of it (uvicorn does).
        """
        reusable = self._keep_alive and not self._extra and not self.transport.is_closing() and response.status != 500
        reusable = reusable and not self.transport.get_write_buffer_size()
        if response.paused:
            self.transport.resume_reading()
        self._finish(None)
        if not reusable:
            self.transport.close()
            return
        self._idle_since = response.last_read
        self._pool.append(self)
        if self._timer is None:
            self._arm(self._idle_since + IDLE_EXPIRY_S)

    def _finish(self, error: AttemptError | None) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.finish(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        response = self._response
        if response is None:
            if self in self._pool:
                self._pool.remove(self)
        elif response.until_eof and exc is None:
            self._finish(None)
        elif response.started:
            self._finish(StreamCut("the upstream closed the connection in the middle of its answer"))
        else:
            self._finish(ConnectionLost("the upstream closed the connection before it answered"))

    # --- httptools callbacks -----------------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self._message_ended:
            self._extra = True
        self._headers = []

    def on_status(self, status: bytes) -> None:
        self._head_size += len(status) + LINE_COST
        if self._head_size > HEAD_LIMIT:
            self._too_long()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size = size = self._head_size + len(name) + len(value) + LINE_COST
        if size > HEAD_LIMIT:
            self._too_long()
        self._headers.append((name.lower(), value))

    def _too_long(self) -> None:
        self._fault = f"the head of the upstream's answer is larger than {HEAD_LIMIT} bytes"
        raise ValueError

    def on_headers_complete(self) -> None:
        response = self._response
        status = self._parser.get_status_code()
        if response is None or self._message_ended or 100 <= status < 200:
            if status == 101:
                self._fault = "the upstream switched protocols unasked"
                raise ValueError
            return
        response.status = status
        response.headers = self._headers
        framed = False
        for name, value in self._headers:
            if name == b"content-length":
                response.length, framed = int(value), True
            elif name == b"transfer-encoding":
                framed = True
                if value.strip().lower() != b"chunked":
                    self._fault = "the upstream's answer has a transfer encoding other than chunked"
                    raise ValueError
            elif name == b"content-encoding" and value.strip().lower() not in (b"identity", b""):
                self._fault = "the upstream compressed its answer, which it was asked not to"
                raise ValueError
        response.until_eof = not framed and status not in (204, 304)
        response.headers_at = response.last_read
        self._arm(response.headers_at + response.clocks.idle_s)

    def on_message_complete(self) -> None:
        response = self._response
        if response is not None and response.headers_at and not self._message_ended:
            response.take(self._body)
            self._message_ended = True
            self._keep_alive = self._parser.should_keep_alive()
