"""A managed API as a backend: one provider's routes, address, key and clocks over the shared HTTP client."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

import msgspec

from contract.call import Call, Dialect, Drop
from contract.errors import AttemptError, MalformedResponse, TargetCannot
from contract.patience import Patience
from providers.address import HeaderTuple
from providers.exchange import JSON, RawExchange, ReadyExchange, StreamExchange, UnaryExchange
from providers.http.client import host_header
from providers.http.port import Clocks, Endpoint, HttpClient, HttpResponse, Origin, within
from providers.keys import ApiKey, Key, KeyRing
from providers.passed import read_passed
from providers.pool import Pool
from providers.port import Exchange, Marks
from providers.reading import Reading
from providers.routes import Prepared, ReadError, Route, by_status

ERROR_BODY_LIMIT = 1 << 20
MAX_ENDPOINTS = 1024


class Signer(Protocol):
    """Headers that depend on the request: a signature, or a token that must be renewed."""

    async def headers(self, host: str, path: str, body: bytes) -> HeaderTuple:
        """Raises AttemptError when no valid credentials can be had."""


class ProviderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One configured provider. `unary_clocks` are `clocks` with what a unary answer cannot show (a first token) given all the time there is.

    `keys`: one at least, with the headers of every request. `signer`: what adds those that each request needs its own of.
    """

    name: str
    origin: Origin
    base_path: str
    keys: tuple[ApiKey, ...]
    clocks: Clocks
    unary_clocks: Clocks
    routes: Mapping[Dialect, Route]
    dialect_paths: Mapping[Dialect, str]
    signer: Signer | None = None
    max_body: int = 64 << 20


class HttpBackend:
    """Implements `providers.port.Backend` for any provider over HTTP. `pool`: what tells how loaded it is, where it does."""

    def __init__(self, spec: ProviderSpec, client: HttpClient, pool: Pool | None = None) -> None:
        self.name = spec.name
        self._pool = pool
        self._spec = spec
        self._client = client
        self._keys = KeyRing(spec.name, spec.keys)

    async def open(self, call: Call, model: str, marks: Marks, drop: Drop, patience: Patience | None = None) -> Exchange:
        spec = self._spec
        route = spec.routes.get(call.dialect)
        if route is None:
            raise TargetCannot(f"the provider {self.name!r} has nothing like {call.path or call.dialect}")
        prepared = route.prepare(call, model, drop)
        marks.admitted = marks.started
        if prepared.ready is not None:
            return ReadyExchange(prepared.ready, marks, prepared.notes)
        marks.bytes_sent = len(prepared.body)
        key = self._keys.sole
        if key is None:
            key = self._keys.take(model, marks.started)
            marks.key_id = key.id
        endpoint = self._endpoint(prepared.path, call, key)
        if spec.signer is not None:
            signed = await spec.signer.headers(host_header(spec.origin), endpoint.path, prepared.body)
            endpoint = Endpoint(endpoint.origin, endpoint.path, (*endpoint.headers, *signed))
        if marks.trace:
            endpoint = Endpoint(endpoint.origin, endpoint.path, (*endpoint.headers, *marks.trace))
        clocks = spec.clocks if prepared.tap is not None else spec.unary_clocks
        if patience is not None:
            clocks = within(clocks, patience, prepared.tap is not None)
        response = await self._client.send(endpoint, prepared.body, clocks)
        marks.connected, marks.headers = response.connected_at, response.headers_at
        if response.status != 200:
            raise await read_error(response, prepared.error)
        if key.rests:
            self._keys.succeeded(key, model, marks.started)
        if prepared.read is not None and prepared.tap is None:
            return UnaryExchange(response, prepared.read, marks, spec.max_body, prepared.notes)
        return await self._exchange(response, prepared, marks)

    async def _exchange(self, response: HttpResponse, prepared: Prepared, marks: Marks) -> Exchange:
        """Of a stream, or of an answer that nobody reads."""
        if prepared.tap is not None:
            if not media_type(response).startswith(prepared.stream_type):
                raise await _not_a_stream(response, prepared)
            return StreamExchange(response, prepared.tap, marks, prepared.notes)
        kind = media_type(response)
        if kind.startswith(JSON):
            return UnaryExchange(response, read_passed, marks, self._spec.max_body, prepared.notes)
        if kind.startswith(b"text/html"):  # no endpoint's answer: a page that says that something is wrong
            response.abort()
            raise MalformedResponse("the upstream answered with a page of HTML")
        return RawExchange(response, kind or b"application/octet-stream", marks)

    async def manage(self, method: str, dialect: Dialect, suffix: str) -> bytes:
        """What the provider answers about something that it keeps, below the path of that dialect. Raises AttemptError."""
        spec = self._spec
        path = spec.base_path + spec.dialect_paths[dialect] + suffix
        headers = self._keys.take("", monotonic()).headers
        if method != "GET":
            headers = ((b"content-type", JSON), *headers)
        response = await self._client.send(Endpoint(spec.origin, path, headers, method), b"", spec.unary_clocks)
        if response.status != 200:
            raise await read_error(response, by_status)
        return await response.read(spec.max_body)

    def _endpoint(self, path: str, call: Call, key: Key) -> Endpoint:
        like = (path, call.headers, call.content_type)
        found = key.endpoints.get(like)
        if found is None:
            spec = self._spec
            headers = ((b"content-type", call.content_type), *(h for h in key.headers if h[0] not in dict(call.headers)), *call.headers)
            found = Endpoint(spec.origin, spec.base_path + path, headers)
            if len(key.endpoints) >= MAX_ENDPOINTS:
                key.endpoints.clear()
            key.endpoints[like] = found
        return found

    def ready_at(self, model: str, now: float) -> float:
        return 0.0 if self._keys.sole is not None else self._keys.ready_at(model)

    def wait_s(self) -> float:
        return 0.0

    def load(self) -> int:
        if self._pool is None or (seen := self._pool.reading) is None:
            return 0
        return (seen.running or 0) + (seen.waiting or 0)

    def reading(self) -> Reading | None:
        return None if self._pool is None else self._pool.reading

    def failed(self, model: str, marks: Marks, error: AttemptError) -> None:
        self._keys.failed(marks.key_id, model, error, marks.started, monotonic())

    async def aclose(self) -> None:
        """The HTTP client is shared and closed by its owner."""


async def _not_a_stream(response: HttpResponse, prepared: Prepared) -> AttemptError:
    """A 200 that is no event stream: an error object, a page of HTML, or a server that does not stream."""
    try:
        body = await response.read(ERROR_BODY_LIMIT)
        if prepared.read is not None:
            prepared.read(body)
    except AttemptError as error:
        return error
    return MalformedResponse("the upstream answered a streamed request with a unary body")


def media_type(response: HttpResponse) -> bytes:
    """The response's content type, in lower case; empty when it names none."""
    for name, value in response.headers:
        if name == b"content-type":
            return value.lower()
    return b""


async def read_error(response: HttpResponse, decode: ReadError) -> AttemptError:
    """The error that a response other than 200 means. Its body is read to the limit; one that cannot be read classifies by status alone."""
    try:
        body = await response.read(ERROR_BODY_LIMIT)
    except AttemptError:
        body = b""
    except asyncio.CancelledError:
        response.abort()
        raise
    return decode(response.status, dict(response.headers), body)
