"""A managed API as a backend: one provider's wire, endpoint, key and clocks over the shared HTTP client."""

import asyncio

import msgspec

from contract.call import Call
from contract.errors import AttemptError, MalformedResponse
from providers.exchange import StreamExchange, UnaryExchange
from providers.http.port import Clocks, Endpoint, HttpClient, HttpResponse
from providers.port import Exchange, Marks
from providers.wires.port import Wire

ERROR_BODY_LIMIT = 1 << 20


class ProviderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One configured provider. `unary_clocks` are `clocks` with what a unary answer cannot show (a first token) given all the time there is."""

    name: str
    endpoint: Endpoint
    clocks: Clocks
    unary_clocks: Clocks
    asks_stream_usage: bool
    max_body: int = 64 << 20


class HttpBackend:
    """Implements `providers.port.Backend` for any provider that speaks `wire` over HTTP."""

    def __init__(self, spec: ProviderSpec, client: HttpClient, wire: Wire) -> None:
        self.name = spec.name
        self._spec = spec
        self._client = client
        self._wire = wire

    async def open(self, call: Call, model: str, marks: Marks) -> Exchange:
        spec, stream = self._spec, call.stream
        ask_usage = stream and spec.asks_stream_usage
        body = self._wire.rewrite_request(call, model, stream=stream, ask_usage=ask_usage)
        marks.admitted = marks.started
        marks.bytes_sent = len(body)
        response = await self._client.send(spec.endpoint, body, spec.clocks if stream else spec.unary_clocks)
        marks.connected, marks.headers = response.connected_at, response.headers_at
        if response.status != 200:
            raise await read_error(response, self._wire)
        if not stream:
            return UnaryExchange(response, self._wire, marks, spec.max_body)
        if not is_event_stream(response):
            raise await self._not_a_stream(response)
        return StreamExchange(response, self._wire.stream_tap(call, ask_usage and not call.include_usage), marks)

    async def _not_a_stream(self, response: HttpResponse) -> AttemptError:
        """A 200 that is no event stream: an error object, a page of HTML, or a server that does not stream."""
        try:
            self._wire.read_unary(await response.read(ERROR_BODY_LIMIT))
        except AttemptError as error:
            return error
        return MalformedResponse("the upstream answered a streamed request with a unary body")

    async def aclose(self) -> None:
        """The HTTP client is shared and closed by its owner."""


def is_event_stream(response: HttpResponse) -> bool:
    """True when the response says it is `text/event-stream`."""
    return any(name == b"content-type" and value.lower().startswith(b"text/event-stream") for name, value in response.headers)


async def read_error(response: HttpResponse, wire: Wire) -> AttemptError:
    """The error that a response other than 200 means. Its body is read to the limit; one that cannot be read classifies by status alone."""
    try:
        body = await response.read(ERROR_BODY_LIMIT)
    except AttemptError:
        body = b""
    except asyncio.CancelledError:
        response.abort()
        raise
    return wire.decode_error(response.status, dict(response.headers), body)
