"""A meter with a real ledger behind it, and rows as requests leave them."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from contract.errors import StoreUnavailable
from gateway.metering.meter import LedgerSpent
from gateway.metering.redis_meter import RedisMeter
from ledger.store import Ledger
from policy.quota import Budget, Granted, Limits, Refused, Scope, Used, Want
from tests.gateway.redis_server import RedisServer
from tests.ledger.rows import row

WANT = Want(tokens=100, cost_nusd=1_000)
LEASE_S = 0.6
BUSY_S = 1.0  # a deadline that a busy machine keeps


def team(*budgets: Budget, **limits: int) -> Scope:
    return Scope("team", "red", Limits(**limits), budgets)


def levels(nusd: int) -> tuple[Scope, ...]:
    """An organisation, a team and a key with one budget each."""
    return tuple(Scope(kind, name, Limits(), (Budget(nusd, "month"),)) for kind, name in (("organisation", "acme"), ("team", "red"), ("key", "k")))


class Books:
    """The ledger of a gateway."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/turnout.db")
        self.spent = LedgerSpent(self.ledger)

    def charge(self, id: str, nusd: int, attempt: int = 1) -> None:
        self.ledger.append(row(id, attempt, started_at_us=time.time_ns() // 1000, organisation="acme", key_id="k", cost_nusd=nusd))

    async def sum(self) -> int:
        return await self.spent.since(team(), 0)


class Host:
    """A Redis, a ledger, and the meters of processes that share them. Whoever opens it closes it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="turnout-meter-")
        self.folder = Path(self._folder.name)
        self.redis = RedisServer(self.folder).start()
        self.books = Books(self.folder)
        self.meters: list[RedisMeter] = []

    async def process(self, on_loss: str = "local", lease_s: float = LEASE_S, deadline_s: float = BUSY_S) -> RedisMeter:
        meter = RedisMeter(self.redis.url, self.books.spent, on_loss, lease_s=lease_s, deadline_s=deadline_s)  # type: ignore[arg-type]
        await meter.start()
        self.meters.append(meter)
        return meter

    async def close(self) -> None:
        for meter in self.meters:
            await meter.stop()
        self.books.ledger.close()
        self.redis.kill()
        self._folder.cleanup()


def admitted(answer: Granted | Refused) -> Granted:
    assert isinstance(answer, Granted), answer
    return answer


async def spent(meter: RedisMeter, scope: Scope) -> tuple[int, int, int]:
    """Spent, reserved, running."""
    stands = await meter.standing(scope)
    return stands.budgets[0].spent_nusd, stands.budgets[0].reserved_nusd, stands.running


def ended(books: Books, meter: RedisMeter, granted: Granted, nusd: int) -> None:
    """A request's end as the gateway has it: the row, then what it used."""
    books.charge(granted.id, nusd)
    meter.settle(granted, Used(10, nusd))


async def until(holds: Callable[[], bool], seconds: float = 8.0) -> None:
    """Bounded."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold"
        await asyncio.sleep(0.01)


async def stands_at(meter: RedisMeter, scope: Scope, *values: int, seconds: float = 8.0) -> None:
    """Until spent, reserved and running are these."""
    end = time.monotonic() + seconds
    now: tuple[int, ...] = ()
    while now != values:
        assert time.monotonic() < end, f"{now} is not {values}"
        await asyncio.sleep(0.02)
        with suppress(StoreUnavailable):
            now = await spent(meter, scope)
