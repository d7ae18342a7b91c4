"""Works at batches: leases rows, asks so many at once, leads each batch to its end.

Over PostgreSQL every process asks rows, and one of each host, its leader, does what is done with whole batches; over SQLite the leader does all.

Everything that must not be lost is in the database: a process that dies at any moment leaves rows that are leased for a while and then wait again.
"""

import asyncio
import inspect
import os
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import cycle, islice
from time import monotonic
from typing import NamedTuple

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from batch import leases
from batch.checking import body_of
from batch.folder import Folder
from batch.states import Batch, Leased, Outcome, RowState
from batch.store import Store
from gateway.batches.asking import Asking, RowClient
from gateway.batches.books import Commits, Result
from gateway.batches.leader import Leader
from gateway.batches.provider_jobs import Hands, ProviderJobs
from gateway.batches.ray_launcher import RayLauncher
from gateway.batches.upkeep import US, Upkeep, headers_of, now_us
from gateway.batches.webhook_delivery import WebhookDelivery
from gateway.batches.worker_lock import WorkerLock
from gateway.runtime import Runtime
from ledger.database import said

LOOK_S = 0.25  # between two looks at what batches there are, and whether one was cancelled
FAILED_S = 1.0  # until the database is asked again after it failed
TIDY_S = 60.0
WEBHOOK, TIDYING = "webhook", "tidying"
STEP, STEP_S = 2, 0.001  # rows that are begun together, and the time until the next ones are
MOST_LATE_S = 0.1
MOST_BYTES = 64 << 20  # of the rows that are asked at once; one alone may be larger
AHEAD = 2  # leased rows, those that are asked included, as a multiple of the rows asked at once

log = structlog.get_logger("turnout.batches")


Do = Callable[[], object]
Work = Callable[[Batch], object]


class _Running(NamedTuple):
    batch: Batch
    row: Leased
    client: RowClient


def share_of(runtime: Runtime, alone: bool) -> int:
    """How many rows this process may ask at once: where several serve over one PostgreSQL, together they ask `batch.concurrency`."""
    if runtime.settings.batch.executor == "ray":
        return 0
    most, workers = runtime.settings.batch.concurrency, runtime.settings.server.workers
    if alone or runtime.worker is None:
        return most
    return most // workers + (runtime.worker <= most % workers)


class Executor:
    """Whoever starts it stops it. `alone`: over this database only the leader works, so that leases of others are of the dead."""

    def __init__(self, runtime: Runtime, store: Store, folder: Folder, leader: Leader, worker_lock: WorkerLock, alone: bool) -> None:
        settings = runtime.settings.batch
        self._store = store
        self._folder = folder
        self._leader = leader
        self._worker_lock = worker_lock
        self._alone = alone
        self._leads = False
        self._concurrency = share_of(runtime, alone)
        self._lease_s = settings.lease_s
        self.worker = worker_lock.worker
        self._asking = Asking(runtime, settings.attempts)
        self.upkeep = Upkeep(store, folder, runtime, self.worker)
        self._commits = Commits(runtime.ledger, self.worker, self._go_on)
        self._jobs = ProviderJobs(runtime, store, folder, Hands(self._asking, self._commits, self.worker, alone))
        self._webhook = None if settings.webhook is None else WebhookDelivery(settings.webhook, runtime.clients[0], store)
        self._launcher = RayLauncher(settings.ray) if settings.executor == "ray" and settings.ray is not None else None
        self._active: dict[str, Batch] = {}
        self._ready: dict[str, deque[Leased]] = defaultdict(deque)  # leased, not asked yet
        self._running: dict[asyncio.Task[None], _Running] = {}
        self._work: dict[str, asyncio.Task[None]] = {}  # whole batches that are checked or finished
        self._resting: dict[str, float] = {}  # batch -> when its rows are asked again
        self._files: dict[str, int] = {}
        self._filling: asyncio.TimerHandle | None = None
        self._bytes = 0  # of the rows that are asked
        self._late_s = 0.0
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = False
        self._looked_at = self._kept_at = self._tidied_at = -1e9

    async def start(self) -> None:
        with suppress(OSError):  # a disk that is full: leases alone tell then who lives
            await asyncio.to_thread(self._worker_lock.hold)
        self._task = asyncio.create_task(self._run(), name="batches")

    async def stop(self) -> None:
        """Rows that are asked are given back; what is known of the others is written, within bounds."""
        self._stopping = self.upkeep.stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._launcher is not None:
            await self._launcher.stop()
        if self._filling is not None:
            self._filling.cancel()
        for task in (*self._running, *[work for name, work in self._work.items() if name == WEBHOOK]):
            task.cancel()
        await asyncio.gather(*self._running, *self._work.values(), return_exceptions=True)
        await self._jobs.stop()
        if self._webhook is not None:
            await self._webhook.stop()
        for rows in self._ready.values():
            self._give_back(rows)
        with suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self._commits.all_there()
        for fd in self._files.values():
            os.close(fd)
        self._leader.close()
        self._worker_lock.close()

    def look(self) -> None:
        """A batch was made or cancelled here: it is seen at once."""
        self._looked_at = -1e9
        self._wake.set()

    # --- the turn --------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        failing = False
        while not self._stopping:
            pause_s = LOOK_S
            try:
                self._leads = self._leader.leads()
                if self._leads and self._launcher is not None:
                    self._launcher.keep()
                if self._leads or not self._alone:
                    await self._turn()
                failing = False
            except (SQLAlchemyError, OSError) as exc:
                if not failing:
                    log.warning("batches wait for their database", error=said(exc))
                failing, pause_s = True, FAILED_S
            except Exception as exc:  # the task's top: one bad turn must not end all later ones
                log.error("a turn of the batches failed", exc_info=exc)
                pause_s = FAILED_S
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()

    async def _turn(self) -> None:
        now = monotonic()
        looks = now - self._looked_at >= LOOK_S
        if looks:
            self._looked_at = now
            found = await asyncio.to_thread(self._store.active)
            self._active = {batch.id: batch for batch in found if batch.status != "validating" or self._folder.has(batch.source)}
            self._let_go()
            await self._keep(now)
            if self._leads:
                await self._jobs.look(self._active)
        await self._lease()
        self._fill()
        if looks and self._leads:
            await self._lead_on()
        if self._leads and self._webhook is not None and self._webhook.due() and WEBHOOK not in self._work:
            self._start_work(WEBHOOK, self._webhook.tell)

    async def _keep(self, now: float) -> None:
        """Its own leases are held, others' that ran out come back, batches that are late expire."""
        ids, due, first = list(self._active), now - self._kept_at >= self._lease_s / 4, self._kept_at < 0
        if due:
            await asyncio.to_thread(self._store.expire, now_us())
            if ids:
                await asyncio.to_thread(leases.heartbeat, self._store.engine, self.worker, ids, self._until())
            self._kept_at = now
        if self._leads:
            dead = await asyncio.to_thread(self._worker_lock.dead)
            if ids and (due or dead):
                back = await asyncio.to_thread(leases.reclaim, self._store.engine, self.worker, ids, now_us(), dead, self._alone and first)
                if back:
                    log.warning("rows of a worker that is gone are asked again", rows=back)
            self._worker_lock.bury(dead)
        if self._leads and now - self._tidied_at >= TIDY_S and TIDYING not in self._work:
            self._tidied_at = now
            self._start_work(TIDYING, self.upkeep.tidy)

    def _until(self) -> int:
        return now_us() + int(self._lease_s * US)

    def _let_go(self) -> None:
        """What is not to be asked any more is stopped at once, or given back."""
        for task, running in self._running.items():
            batch = self._active.get(running.batch.id)
            if (batch is None or batch.status in ("cancelling", "expiring")) and not running.client.left:
                running.client.left = True
                task.cancel()
        for id in list(self._ready):
            batch = self._active.get(id)
            if batch is None or batch.status != "in_progress":
                self._give_back(self._ready.pop(id))
        self._asking.forget(self._active)
        self._resting = {id: until for id, until in self._resting.items() if id in self._active}
        asked = {running.batch.id for running in self._running.values()}
        for id in [id for id in self._files if id not in self._active and id not in asked]:
            os.close(self._files.pop(id))

    def _give_back(self, rows: deque[Leased]) -> None:
        while rows:
            self._commits.add(Result(Outcome(row=rows.popleft(), state="pending"), []))

    # --- rows ------------------------------------------------------------------------------------------------------
    async def _lease(self) -> None:
        """Rows for the places that will be free: alike from every team, and from each of its batches."""
        waiting = sum(len(rows) for rows in self._ready.values() if self._fits(rows))
        if waiting > self._concurrency // 2 or not self._concurrency:
            return
        wanted = AHEAD * self._concurrency - waiting - len(self._running)
        now, teams = monotonic(), defaultdict(list)
        for batch in self._active.values():
            if batch.status == "in_progress" and batch.plan is not None and self._resting.get(batch.id, 0.0) <= now and self._can_read(batch):
                if (rows := self._ready.get(batch.id)) and not self._fits(rows):
                    continue  # its next row waits for the bytes of others: no more of it are taken
                teams[batch.team].append(batch)
        for left, of_team in zip(range(len(teams), 0, -1), teams.values(), strict=True):
            share = max(1, wanted // left)
            for others, batch in zip(range(len(of_team), 0, -1), of_team, strict=True):
                if share <= 0:
                    break
                some = max(1, share // others)
                got = await asyncio.to_thread(leases.lease, self._store.engine, batch.id, self.worker, some, now_us(), self._until())
                self._ready[batch.id].extend(got)
                share -= len(got)
                wanted -= len(got)

    def _can_read(self, batch: Batch) -> bool:
        if batch.id not in self._files:
            if not self._folder.has(batch.source):
                return False  # it is on another host
            self._files[batch.id] = os.open(self._folder.path(batch.source), os.O_RDONLY)
        return True

    @property
    def _places(self) -> int:
        """How many more rows may be asked. What was answered and is not written yet counts: it would be asked again if this process died."""
        running = len(self._running)
        return min(self._concurrency - running, AHEAD * self._concurrency - running - self._commits.pending)

    def _fits(self, rows: deque[Leased]) -> bool:
        """Whether the bytes in hand leave room for the next of them."""
        return not rows or not self._bytes or self._bytes + rows[0].size <= MOST_BYTES

    def _fill(self) -> None:
        """Batches in turn, a row each, while places are free; a few at a time, so that live requests have their turn between them."""
        if self._filling is not None:
            return
        now = monotonic()
        open_ids = [id for id, rows in self._ready.items() if rows and self._resting.get(id, 0.0) <= now and id in self._active]
        places = 0 if self._stopping else min(self._places, STEP)
        before = len(self._running)
        for id in islice(cycle(open_ids), max(0, places)):
            if (rows := self._ready[id]) and self._fits(rows):
                self._begin(self._active[id], rows.popleft())
        if len(self._running) > before and places == STEP:
            self._filling = asyncio.get_running_loop().call_later(STEP_S + self._late_s, self._fill_on, now + STEP_S + self._late_s)

    def _fill_on(self, due: float) -> None:
        """A loop that is late has others waiting: rows leave it as much time as it was late."""
        self._filling, self._late_s = None, min(MOST_LATE_S, max(0.0, monotonic() - due))
        self._fill()

    def _begin(self, batch: Batch, row: Leased) -> None:
        client = RowClient()
        task = asyncio.create_task(self._ask(batch, row, client), name=f"{batch.id} {row.line}")
        self._running[task] = _Running(batch, row, client)
        self._bytes += row.size
        task.add_done_callback(self._over)

    async def _ask(self, batch: Batch, row: Leased, client: RowClient) -> None:
        try:
            body = body_of(batch.dialect, os.pread(self._files[batch.id], row.size, row.at))
        except (KeyError, OSError, msgspec.MsgspecError) as exc:
            log.error("a row of a batch cannot be read", batch=batch.id, line=row.line, error=type(exc).__name__)
            self._commits.add(Result(Outcome(row=row, state="errored", counts=True), []))
            return
        result, again = await self._asking.ask(batch, headers_of(batch), row, body, client)
        self._commits.add(result)
        if again is not None and again.rests:
            self._resting[batch.id] = monotonic() + again.after_s
            self._give_back(self._ready[batch.id])

    def _over(self, task: asyncio.Task[None]) -> None:
        running = self._running.pop(task)
        self._bytes -= running.row.size
        if task.cancelled():  # before its first step: nothing was sent
            state: RowState = "cancelled" if running.client.left else "pending"
            self._commits.add(Result(Outcome(row=running.row, state=state), []))
        elif (error := task.exception()) is not None:
            log.error("asking a row of a batch failed", exc_info=error)
            self._commits.add(Result(Outcome(row=running.row, state="errored", counts=True), []))
        self._go_on()

    def _go_on(self) -> None:
        """A place may be free, or a batch may be at its end."""
        self._fill()
        if not self._running and not self._commits.pending:
            self._looked_at = -1e9
        self._wake.set()

    # --- whole batches -----------------------------------------------------------------------------------------------
    async def _lead_on(self) -> None:
        """Batches whose file waits are checked; those of which nothing is left to do come to their end."""
        busy = {running.batch.id for running in self._running.values()} | {id for id, rows in self._ready.items() if rows}
        for batch in list(self._active.values()):
            if batch.id in self._work:
                continue
            if self._jobs.is_to_plan(batch) and self._folder.has(batch.source):
                self._begin_work(batch, self._jobs.plan)
                continue
            if batch.id in busy:
                continue
            if batch.status == "validating":
                self._begin_work(batch, self.upkeep.check)
                continue
            if batch.status in ("cancelling", "expiring"):
                await asyncio.to_thread(self._store.end_pending, batch, now_us())
            if not await asyncio.to_thread(self._store.open_rows, batch.id):
                self._begin_work(batch, self.upkeep.finish)

    def _begin_work(self, batch: Batch, do: Work) -> None:
        if batch.id not in self._work:
            self._start_work(batch.id, partial(do, batch))

    def _start_work(self, name: str, do: Do) -> None:
        task = self._work[name] = asyncio.create_task(self._worked(name, do), name=f"batches {name}")
        task.add_done_callback(lambda _: self._work.pop(name, None))

    async def _worked(self, name: str, do: Do) -> None:
        try:
            await (do() if inspect.iscoroutinefunction(do) else asyncio.to_thread(do))
        except (SQLAlchemyError, OSError) as exc:
            log.warning("a batch waits for its database or its disk", batch=name, error=said(exc))
            await asyncio.sleep(FAILED_S)
        except Exception as exc:  # the task's top
            log.error("work at a batch failed", batch=name, exc_info=exc)
            await asyncio.sleep(FAILED_S)
        self.look()
