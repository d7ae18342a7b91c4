"""One provider's addresses, key and clocks for its batch API: small requests, files sent, and lines read as they come."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from hashlib import sha256
from typing import Protocol, TypeVar

import msgspec

from contract.errors import AttemptError, AttemptTimeout, ConnectionLost, MalformedResponse, StreamCut
from providers.address import HeaderTuple, page_address
from providers.backend import read_error
from providers.http.client import host_header
from providers.http.httpx_client import HttpxClient
from providers.http.port import Clocks, Endpoint, Headers, HttpClient, HttpResponse, Origin
from providers.http.upload import FileBody, send_file
from providers.routes import ReadError

PAGE_LIMIT = 16 << 20  # bytes of a page that tells of jobs
LINE_LIMIT = 64 << 20  # bytes of one result
ELSEWHERE = (301, 302, 303, 307, 308)
EMPTY_SHA256 = sha256(b"").hexdigest()
RESUMES = 3  # of one download that come no further than those before
PAGE_CLOCKS = Clocks(connect_s=10.0, headers_s=60.0, first_token_s=60.0, idle_s=60.0, total_s=120.0)
FILE_CLOCKS = Clocks(connect_s=10.0, headers_s=120.0, first_token_s=120.0, idle_s=120.0, total_s=4 * 3600.0)

T = TypeVar("T")


class Signer(Protocol):
    """What each request needs of its own: a signature. `body_sha256`: in hexadecimal."""

    def headers(self, method: str, host: str, path: str, body_sha256: str) -> HeaderTuple: ...


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """The two clients that everybody shares: `pages` for what is asked, `files` for what is sent.

    A pooled connection that proves dead is replaced, and its request sent once more (`providers.http.port.HttpClient.send`). The request that
    makes a job must not be: it goes by `files`, whose connections serve one request each.
    """

    pages: HttpClient
    files: HttpxClient


class Session:
    """`base_path`: what stands before every path. `headers`: on every request, the key among them. Everything raises AttemptError."""

    def __init__(
        self,
        channel: Channel,
        origin: Origin,
        base_path: str,
        headers: HeaderTuple,
        error: ReadError,
        signer: Signer | None = None,
    ) -> None:
        self._channel = channel
        self._headers = headers
        self._error = error
        self._signer = signer
        self.origin = origin
        self.base_path = base_path

    def _endpoint(self, method: str, path: str, headers: HeaderTuple, body_sha256: str = EMPTY_SHA256) -> Endpoint:
        path = self.base_path + path
        signed = () if self._signer is None else self._signer.headers(method, host_header(self.origin), path, body_sha256)
        return Endpoint(self.origin, path, (*self._headers, *headers, *signed), method)

    async def call(self, method: str, path: str, body: object = None, headers: HeaderTuple = ()) -> bytes:
        """What the provider answers, whole. `body`: sent as JSON; None: none is."""
        return (await self.exchange(method, path, body, headers))[1]

    async def exchange(self, method: str, path: str, body: object = None, headers: HeaderTuple = ()) -> tuple[Headers, bytes]:
        """The same, with the response's headers."""
        sent = b"" if body is None else msgspec.json.encode(body)
        if body is not None:
            headers = ((b"content-type", b"application/json"), *headers)
        endpoint = self._endpoint(method, path, headers, sha256(sent).hexdigest())
        client = self._channel.files if method == "POST" else self._channel.pages
        return await self._whole(await client.send(endpoint, sent, PAGE_CLOCKS))

    async def send_file(self, method: str, path: str, body: FileBody, headers: HeaderTuple, body_sha256: str = "") -> bytes:
        """Sends a file once. `body_sha256`: of the whole body, where requests are signed."""
        endpoint = self._endpoint(method, path, headers, body_sha256)
        try:
            response = await send_file(self._channel.files, endpoint, body, FILE_CLOCKS)
        except OSError as exc:
            raise ConnectionLost("the gateway could not read the file that it was sending") from exc
        return (await self._whole(response))[1]

    async def _whole(self, response: HttpResponse) -> tuple[Headers, bytes]:
        if not 200 <= response.status < 300:
            raise await read_error(response, self._error)
        try:
            return response.headers, await response.read(PAGE_LIMIT)
        except asyncio.CancelledError:
            response.abort()
            raise

    async def lines(self, path: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file, none of them empty. A download that is cut begins anew, and lines come again: in another order, for all we know."""
        furthest = failures = 0
        while True:
            count = 0
            try:
                async with aclosing(self._lines_once(path)) as lines:
                    async for line in lines:
                        count += 1
                        yield line
                return
            except (StreamCut, ConnectionLost, AttemptTimeout):
                failures = 1 if count > furthest else failures + 1
                furthest = max(furthest, count)
                if failures > RESUMES:
                    raise

    async def _lines_once(self, path: str) -> AsyncGenerator[bytes, None]:
        endpoint = self._endpoint("GET", path, ())
        response = await self._channel.pages.send(endpoint, b"", FILE_CLOCKS)
        if response.status in ELSEWHERE:
            response.abort()
            response = await self._channel.pages.send(_elsewhere(endpoint, response.headers), b"", FILE_CLOCKS)
        if response.status != 200:
            raise await read_error(response, self._error)
        response.first_token()
        ended = False
        held = bytearray()
        try:
            while chunk := await response.chunk():
                searched = len(held)
                held += chunk
                begin = 0
                while (end := held.find(b"\n", max(begin, searched))) >= 0:
                    if line := bytes(held[begin:end]).strip():
                        yield line
                    begin = end + 1
                del held[:begin]
                if len(held) > LINE_LIMIT:
                    raise MalformedResponse(f"the provider's file has a line of more than {LINE_LIMIT} bytes")
            ended = True
        finally:
            if not ended:
                response.abort()
        if line := bytes(held).strip():
            yield line


def _elsewhere(endpoint: Endpoint, headers: Headers) -> Endpoint:
    """Where a file lies that the provider keeps in somebody's store: asked for without our key, and with TLS if the provider itself has it."""
    origin, path = page_address(header(headers, b"location").decode("ascii", "replace"))
    if not origin.host or (endpoint.origin.tls and not origin.tls):
        raise MalformedResponse("the provider named no address that a file may be taken from")
    return Endpoint(origin, path, tuple(pair for pair in endpoint.headers if pair[0] == b"user-agent"), "GET")


def decoded(body: bytes, type_: type[T]) -> T:
    """A page as what it should be. Raises MalformedResponse."""
    try:
        return msgspec.json.decode(body, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedResponse("the provider told of its batches in a way that we do not know") from exc


def answered(error: AttemptError, *statuses: int) -> bool:
    """Whether the provider answered with one of those."""
    return error.upstream_status in statuses


def header(headers: Headers, name: bytes) -> bytes:
    return dict(headers).get(name, b"")


def form(fields: Mapping[str, str], filename: str, boundary: str) -> tuple[bytes, bytes, HeaderTuple]:
    """What stands before and after a file that is sent as a form's field `file`, and the header that says so (RFC 7578)."""
    mark = f"--{boundary}\r\n"
    parts = "".join(f'{mark}content-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
    file = f'{mark}content-disposition: form-data; name="file"; filename="{filename}"\r\ncontent-type: application/jsonl\r\n\r\n'
    kind = f"multipart/form-data; boundary={boundary}"
    return (parts + file).encode(), f"\r\n--{boundary}--\r\n".encode(), ((b"content-type", kind.encode()),)
