"""Of an answer that its client gets whole and the engine gives piece by piece: the moment of its first token."""

from collections.abc import Callable

from providers.http.port import HttpResponse
from providers.local.passing import Passing


class SeenFirst(Passing):
    """Tells `seen` of its first token."""

    def __init__(self, inner: HttpResponse, seen: Callable[[], None]) -> None:
        super().__init__(inner)
        self._seen = seen

    def first_token(self) -> None:
        self._seen()
        super().first_token()
