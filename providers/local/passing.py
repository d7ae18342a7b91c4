"""An engine's response that passes as it comes; what looks at its beginning is made of it."""

from providers.http.port import Headers, HttpResponse


class Passing:
    """Implements `providers.http.port.HttpResponse`: another's."""

    def __init__(self, inner: HttpResponse) -> None:
        self._inner = inner
        self.status: int = inner.status
        self.headers: Headers = inner.headers
        self.connected_at: float = inner.connected_at
        self.headers_at: float = inner.headers_at
        self.taken: list[bytes] = inner.taken

    async def chunk(self) -> bytes:
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
