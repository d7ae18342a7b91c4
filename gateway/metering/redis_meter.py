"""The meter of many processes: reserved and settled in Redis, one round trip a request; without Redis by each process's share.

Who is granted holds a lease, renewed while its process lives. A lease that ends is an orphan: some process looks up in the ledger what
that request was charged, and settles it so. What is not known in Redis (start, flush, failover) is read from the ledger before anybody is
admitted (docs/budgets.md says how it stays exact).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from secrets import token_hex
from time import monotonic
from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import replace

from contract.errors import LedgerUnavailable, StoreUnavailable
from gateway.metering.meter import Spent
from gateway.metering.redis_store import DEADLINE_S, RedisStore, StoreLost
from gateway.metering.share import Share
from policy.gcra import left, tighter
from policy.meter import Verdict
from policy.quota import Granted, Left, Refused, Scope, Spending, Standing, Used, Want

OnLoss = Literal["local", "closed", "open"]

PREFIX = "turnout:meter:1:"  # 1: the form of what is kept
LEASE_S = 30.0
START_S = 2.0  # that a process waits for Redis before it begins without it
PULSE_S = 0.25  # between two looks at Redis
MAX_PAUSE_S = 2.0  # where it is lost
WRITTEN_S = 0.1  # rows of what was settled are in the ledger by then, when its database is well
SEED_S = 5.0  # one process reads the ledger for a window, the others wait for it
POLL_S = 0.02
PATIENCE_S = 10.0  # of a request whose window is being read
SETTLES = 256  # in one exchange
MAX_SETTLES = 50_000  # that wait for Redis; of the oldest the lease ends, and the ledger tells
ORPHANS = 100  # settled at a time
MAX_COMMITTED = 100_000  # what was spent in windows that are remembered
UNLIMITED = -1
FAILED = Used(0, 0, answered=False)

log = structlog.get_logger("turnout.meter")


class _Live(msgspec.Struct):
    """A reservation of this process. `shared`: Redis has it, or may have. `share`: it was admitted by the process's share."""

    granted: Granted
    shared: bool
    share: Share | None = None


class RedisMeter:
    """Whoever starts it stops it."""

    def __init__(
        self,
        url: str,
        spent: Spent,
        on_loss: OnLoss = "local",
        *,
        lease_s: float = LEASE_S,
        written_s: float = WRITTEN_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.store = RedisStore(url, PREFIX, deadline_s)
        self.processes = 1  # last known
        self.workers = 1  # of this gateway: so many there are, whether they were seen or not
        self._spent = spent
        self._on_loss = on_loss
        self._lease_ms = int(lease_s * 1000)
        self._renew_s = lease_s / 3
        self._written_s = written_s
        self._own = token_hex(8)
        self._live: dict[str, _Live] = {}
        self._settles: dict[str, tuple[Granted, Used]] = {}
        self._sent: set[asyncio.Future[Any]] = set()
        self._stale: set[str] = set()  # scopes whose counters lack what was spent without Redis
        self._committed: dict[tuple[str, int], int] = {}  # (scope, window's start) -> spent and reserved, last known
        self._share: Share | None = None
        self._seeding: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    # --- the port ------------------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Waits for a Redis that starts at the same time, or answers late because everything does: what others hold there is not known without it."""
        self.store.open()
        until = monotonic() + START_S
        await self._look()
        while self.store.lost is not None and monotonic() < until:
            await asyncio.sleep(POLL_S)
            await self._look()
        self._task = asyncio.create_task(self._keep(), name="meter-leases")

    async def stop(self) -> None:
        """Idempotent. What cannot be settled by then ends with its lease."""
        tasks = [*self._seeding.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._send()
        await asyncio.gather(*self._sent, return_exceptions=True)
        with suppress(StoreLost):
            await self.store.ask("leave", [self._own])
        await self.store.close()

    def at_once(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused | None:
        """Other processes count there too."""
        return None

    async def reserve(self, id: str, scopes: tuple[Scope, ...], want: Want) -> Granted | Refused:
        if not scopes:
            return Granted(id, scopes, want)
        until = monotonic() + PATIENCE_S
        args = [id, want.tokens, want.cost_nusd, self._lease_ms, [_told(scope) for scope in scopes]]
        while self.store.lost is None:
            try:
                reply = await self._asked(id, scopes, want, args)
                if reply[0] == 2:
                    await self._seed(scopes, reply[1], until)
                    continue
            except StoreLost:
                return await self._without(id, scopes, want, maybe=True)
            return self._answer(id, scopes, want, reply)
        return await self._without(id, scopes, want, maybe=False)

    def settle(self, granted: Granted, used: Used) -> None:
        live = self._live.pop(granted.id, None)
        if live is None:
            return
        if live.share is not None:
            live.share.settle(granted.id, used)
        if live.shared:
            self._put(granted, used)
        else:
            self._stale.update(scope.id for scope in granted.scopes if scope.budgets)

    async def standing(self, scope: Scope) -> Standing:
        """Raises StoreUnavailable, LedgerUnavailable."""
        until = monotonic() + PATIENCE_S
        self._send()
        try:
            while (reply := await self.store.ask("reserve", ["", 0, 0, 0, [_told(scope)]]))[0] == 2:
                await self._seed((scope,), reply[1], until)
        except StoreLost as exc:
            raise StoreUnavailable("the store of limits and budgets does not answer just now") from exc
        ((requests, tokens, running, accounts),) = reply[2]
        spendings = tuple(Spending(budget, *map(int, account)) for budget, account in zip(scope.budgets, accounts, strict=True))
        rpm, tpm = scope.limits.rpm, scope.limits.tpm
        return Standing(scope, running, None if rpm is None else left(requests, rpm), None if tpm is None else left(tokens, tpm), spendings)

    def lost(self) -> bool:
        return self.store.lost is not None

    # --- one request -----------------------------------------------------------------------------------------------------
    async def _asked(self, id: str, scopes: tuple[Scope, ...], want: Want, args: Sequence[Any]) -> Any:
        self._send()
        try:
            return await self.store.ask("reserve", args)
        except asyncio.CancelledError:
            self._undo(Granted(id, scopes, want))  # nobody will settle what may have been granted
            raise

    def _answer(self, id: str, scopes: tuple[Scope, ...], want: Want, reply: Sequence[Any]) -> Granted | Refused:
        """`reply` tells how the scopes stood before; what was decided from it follows."""
        admitted, now, seen = reply
        taken_nusd = want.cost_nusd if admitted else 0
        if len(self._committed) > MAX_COMMITTED:
            self._committed.clear()
        for scope, (_, _, _, accounts) in zip(scopes, seen, strict=True):
            for start, spent, reserved in accounts:
                self._committed[scope.id, int(start)] = int(spent + reserved) + taken_nusd
        if not admitted:
            verdict = Verdict(want)
            for scope, (requests, tokens, running, accounts) in zip(scopes, seen, strict=True):
                verdict.limits(scope, requests, tokens, running)
                for budget, (_, spent, reserved) in zip(scope.budgets, accounts, strict=True):
                    verdict.budget(scope, budget, int(spent + reserved), now)
            return verdict.refusal()
        requests_left: Left | None = None
        tokens_left: Left | None = None
        for scope, (requests, tokens, _, _) in zip(scopes, seen, strict=True):
            if scope.limits.rpm is not None:
                requests_left = tighter(requests_left, left(requests + 1, scope.limits.rpm))
            if scope.limits.tpm is not None:
                tokens_left = tighter(tokens_left, left(tokens + want.tokens, scope.limits.tpm))
        granted = Granted(id, scopes, want, requests_left, tokens_left)
        self._live[id] = _Live(granted, shared=True)
        return granted

    async def _without(self, id: str, scopes: tuple[Scope, ...], want: Want, *, maybe: bool) -> Granted | Refused:
        """Redis is lost. `maybe`: it may have granted this one all the same. Raises StoreUnavailable, LedgerUnavailable."""
        granted = Granted(id, scopes, want, degraded=True)
        if self._on_loss == "local":
            if self._share is None:
                self._share = Share(max(self.workers, self.processes), self._committed, self._spent)
            share = self._share
            answer: Granted | Refused = await share.reserve(id, scopes, want)
        elif self._on_loss == "open":
            share, answer = None, granted
        else:
            if maybe:
                self._undo(granted)
            raise StoreUnavailable("limits and budgets cannot be checked just now", retry_after_s=1.0)
        if isinstance(answer, Granted):
            self._live[id] = _Live(answer, shared=maybe, share=share)
        elif maybe:
            self._undo(granted)
        return answer

    # --- what was spent so far ---------------------------------------------------------------------------------------------
    async def _seed(self, scopes: tuple[Scope, ...], unknown: Sequence[tuple[int, str, int]], until: float) -> None:
        """Once in a process at a time, and once over all of them. Raises StoreLost, LedgerUnavailable."""
        if monotonic() > until:
            raise LedgerUnavailable("what was spent so far is not known yet", retry_after_s=1.0)
        for at, window, start in unknown:
            key = (scopes[at].id, f"{window}:{start}")
            if key not in self._seeding:
                task = self._seeding[key] = asyncio.create_task(self._read(scopes[at], key[1]), name="meter-seed")
                task.add_done_callback(partial(self._seeded, key))
        tasks = [self._seeding[scopes[at].id, f"{window}:{start}"] for at, window, start in unknown]
        await asyncio.wait(tasks)  # one who leaves does not end it for the others
        for task in tasks:
            task.result()

    def _seeded(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._seeding[key]
        if not task.cancelled():
            task.exception()  # whoever waits raises it; perhaps nobody does any more

    async def _read(self, scope: Scope, field: str) -> None:
        """The ledger's sum, without what is still reserved: that is added when it is settled."""
        token, start = token_hex(8), int(field.rpartition(":")[2])
        what, ids = await self.store.ask("begin", [scope.id, field, token, int(SEED_S * 1000)])
        if what == 1:
            await asyncio.sleep(POLL_S)
        elif what == 2:
            await asyncio.sleep(self._written_s)
            spent = await self._spent.since(scope, start, list(ids.values() if isinstance(ids, dict) else ids))
            await self.store.ask("finish", [scope.id, field, token, str(spent)])

    # --- in the background ---------------------------------------------------------------------------------------------------
    def _undo(self, granted: Granted) -> None:
        """It never ran, and has no row: where it is not known nothing is missing."""
        self._put(replace(granted, scopes=tuple(replace(scope, budgets=()) for scope in granted.scopes)), FAILED)

    def _put(self, granted: Granted, used: Used) -> None:
        if len(self._settles) >= MAX_SETTLES:
            dropped, _ = self._settles.pop(next(iter(self._settles)))
            self._stale.update(scope.id for scope in dropped.scopes if scope.budgets)
        if not self._settles:
            asyncio.get_running_loop().call_soon(self._send)
        self._settles[granted.id] = (granted, used)

    def _send(self) -> None:
        """Posts what was settled; requests that ask from now on find it done. While Redis is lost it waits for `_look`."""
        with suppress(StoreLost):
            while self._settles and self.store.lost is None:
                batch = dict(islice(self._settles.items(), SETTLES))
                posted = self.store.post("settle", [_settled(granted, used) for granted, used in batch.values()])
                for id in batch:
                    del self._settles[id]
                self._sent.add(posted)
                posted.add_done_callback(partial(self._heard, batch))

    def _heard(self, batch: dict[str, tuple[Granted, Used]], posted: asyncio.Future[Any]) -> None:
        """What may have been settled already is sent again after a loss: nobody knows it then, and the ledger tells."""
        self._sent.discard(posted)
        if posted.cancelled() or posted.exception() is not None:
            self._settles = {**batch, **self._settles}
        else:
            self._stale.update(scope.id for id in posted.result() for scope in batch[id][0].scopes if scope.budgets)

    async def _keep(self) -> None:
        """Leases, orphans, and whether Redis is there and still knows this process."""
        pause_s, due = PULSE_S, monotonic() + self._renew_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                if self.store.lost is None and not self._stale and monotonic() < due and await self.store.ask("pulse", [self._own]):
                    continue
                await self._look()
                due = monotonic() + self._renew_s
                pause_s = PULSE_S if self.store.lost is None else min(MAX_PAUSE_S, pause_s * 2)
                await self._reap()
            except StoreLost:
                continue
            except LedgerUnavailable as exc:
                log.warning("reservations of a process that is gone wait for the ledger", error=exc.message)
            except Exception as exc:  # the task's top: one bad round must not end all later ones
                log.error("keeping reservations failed", exc_info=exc)

    async def _look(self) -> None:
        """Renews what runs here; what Redis does not know of it, it learns. After a loss that lets requests come to it again."""
        was_lost = self.store.lost is not None
        stale = set(self._stale)
        written = await self._written() if stale else True
        with suppress(StoreLost):
            live = [[id, each.granted.want.cost_nusd, [_told(scope) for scope in each.granted.scopes]] for id, each in self._live.items()]
            for each in self._live.values():
                each.shared = True
            args = [self._own, self._lease_ms, live, sorted(self._stale)]
            self.processes = max(1, await self.store.ask("renew", args, probe=True))
            if written:
                self._stale -= stale
            if was_lost and self.store.found():
                self._share = None
            self._send()

    async def _written(self) -> bool:
        """The ledger has the rows of what this process settled."""
        try:
            await self._spent.of([])
        except LedgerUnavailable:
            return False
        return True

    async def _reap(self) -> None:
        """Settles what nobody renewed, as the ledger has it."""
        ids = await self.store.ask("expired", [self._lease_ms, ORPHANS])
        if not ids:
            return
        costs = await self._spent.of(list(ids))
        await self.store.ask("settle", [[id, costs.get(id, 0), True, []] for id in ids])
        log.warning("reservations of a process that is gone were settled", reservations=len(ids), charged_nusd=sum(costs.values()))


def _told(scope: Scope) -> list[Any]:
    limits = scope.limits
    of_each = [UNLIMITED if limit is None else limit for limit in (limits.rpm, limits.tpm, limits.concurrency)]
    return [scope.id, *of_each, [[budget.window, budget.nusd] for budget in scope.budgets]]


def _settled(granted: Granted, used: Used) -> list[Any]:
    too_many = granted.want.tokens - used.tokens
    scopes = [[*_told(scope)[:3], too_many, bool(scope.budgets)] for scope in granted.scopes]
    return [granted.id, used.cost_nusd, used.answered, scopes]
