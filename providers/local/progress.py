"""What llama.cpp tells of a prompt while it reads it, an event for each of its batches, which the client did not ask for.

It is asked for it so that it writes while it reads: only then does it find out, at the next batch, that nobody waits any more. Otherwise it reads
the whole prompt first (it looks at the connection once a second without an answer, and each look at its `/slots` begins that second anew).
"""

import msgspec
from msgspec import Raw

from contract.call import Call
from providers.http.port import Headers, HttpResponse

FIELD = "return_progress"
TOLD = b'"prompt_progress":'  # no text of an answer has it unescaped
EVENT_END = b"\n\n"


def with_progress(call: Call) -> tuple[Call, bool]:
    """The call that asks for it, and whether that is ours to take out of the answer; a client that says something of it has what he asked for."""
    if FIELD in call.fields:
        return call, False
    fields = {**call.fields, FIELD: Raw(b"true")}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields)), True


class WithoutProgress:
    """Implements `providers.http.port.HttpResponse`: another's, less the events of progress, which come before all others of a stream."""

    def __init__(self, inner: HttpResponse) -> None:
        self._inner = inner
        self._begin: bytes | None = b""  # of an event that is not whole yet; None: the answer itself has begun
        self.status: int = inner.status
        self.headers: Headers = inner.headers
        self.connected_at: float = inner.connected_at
        self.headers_at: float = inner.headers_at
        self.taken: list[bytes] = inner.taken

    async def chunk(self) -> bytes:
        while self._begin is not None:
            piece = await self._inner.chunk()
            seen = self._begin + piece
            event, end, rest = seen.partition(EVENT_END)
            while end and TOLD in event:
                event, end, rest = rest.partition(EVENT_END)
            begun = event + end + rest
            if end or not piece:
                self._begin = None
                return begun
            self._begin = begun
        return await self._inner.chunk()

    async def read(self, limit: int) -> bytes:
        return await self._inner.read(limit)

    def first_token(self) -> None:
        self._inner.first_token()

    def no_progress(self) -> None:
        self._inner.no_progress()

    def release(self) -> None:
        self._inner.release()

    def abort(self) -> None:
        self._inner.abort()
