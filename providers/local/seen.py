"""Of an answer that its client gets whole and the engine gives piece by piece: the moment of its first token."""

from collections.abc import Callable

from providers.http.port import Headers, HttpResponse


class SeenFirst:
    """Implements `providers.http.port.HttpResponse`: another's, which tells `seen` of its first token."""

    def __init__(self, inner: HttpResponse, seen: Callable[[], None]) -> None:
        self._inner = inner
        self._seen = seen
        self.status: int = inner.status
        self.headers: Headers = inner.headers
        self.connected_at: float = inner.connected_at
        self.headers_at: float = inner.headers_at
        self.taken: list[bytes] = inner.taken
        self.chunk = inner.chunk
        self.read = inner.read
        self.no_progress = inner.no_progress
        self.release = inner.release
        self.abort = inner.abort

    def first_token(self) -> None:
        self._seen()
        self._inner.first_token()
