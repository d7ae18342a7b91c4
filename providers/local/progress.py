"""What llama.cpp tells of a prompt while it reads it, an event for each of its batches, which the client did not ask for.

It is asked for it so that it writes while it reads: only then does it find out, at the next batch, that nobody waits any more. Otherwise it reads
the whole prompt first (it looks at the connection once a second without an answer, and each look at its `/slots` begins that second anew).
"""

import msgspec
from msgspec import Raw

from contract.call import Call
from providers.http.port import HttpResponse
from providers.local.passing import Passing

FIELD = "return_progress"
TOLD = b'"prompt_progress":'  # no text of an answer has it unescaped
EVENT_END = b"\n\n"


def with_progress(call: Call) -> tuple[Call, bool]:
    """The call that asks for it, and whether that is ours to take out of the answer; a client that says something of it has what he asked for."""
    if FIELD in call.fields:
        return call, False
    fields = {**call.fields, FIELD: Raw(b"true")}
    return msgspec.structs.replace(call, fields=fields, body=msgspec.json.encode(fields)), True


class WithoutProgress(Passing):
    """Less the events of progress, which come before all others of a stream."""

    def __init__(self, inner: HttpResponse) -> None:
        super().__init__(inner)
        self._begin: bytes | None = b""  # of an event that is not whole yet; None: the answer itself has begun

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
