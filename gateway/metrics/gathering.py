"""The metrics of the whole gateway: of this process, or of all that serve beside it, which their parent asks."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.metrics.counts import Counts
from gateway.metrics.seen import Shared, process_seen
from gateway.metrics.snapshot import Snapshot, together
from gateway.routes import RouteTable
from ledger.store import Ledger
from providers.local.port import Supervisor
from providers.pool import Pool

Pages = Mapping[str, str]  # an owned engine's name, or a pool's -> its own metrics, as they were read


class Paged(NamedTuple):
    """Who has metrics of their own. Pools are looked at by every process, engines by the one that started them."""

    engines: Mapping[str, Supervisor]
    pools: Sequence[Pool]


class Others(Protocol):
    """What the others counted. `own`, `changes` are set by whoever counts here: what it tells the others, and whether that is new."""

    own: Callable[[], Snapshot]
    changes: Callable[[], int]

    def all(self) -> Awaitable[tuple[Snapshot, Pages]]: ...


class Gathering:
    """`others` None: this process serves alone."""

    def __init__(self, counts: Counts, routes: RouteTable, ledger: Ledger, shared: Shared, paged: Paged, others: Others | None) -> None:
        self._counts = counts
        self._routes = routes
        self._ledger = ledger
        self._shared = shared
        self._paged = paged
        self._others = others
        if others is not None:
            others.own = self.own
            others.changes = lambda: counts.changes

    def own(self) -> Snapshot:
        """Of this process."""
        return together([self._counts.snapshot(), process_seen(self._routes, self._ledger)])

    async def all(self) -> tuple[Snapshot, Pages]:
        """Of the gateway, and its engines' and pools' own pages."""
        if self._others is None:
            counted, pages = self.own(), {name: engine.page for name, engine in self._paged.engines.items() if engine.page}
        else:
            counted, pages = await self._others.all()  # type: ignore[assignment]
        pages = {**pages, **{pool.name: pool.page for pool in self._paged.pools if pool.page}}
        return together([counted, await self._shared.seen()]), pages
