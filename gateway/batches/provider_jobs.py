"""Providers' jobs of all batches: a follower for each that is open, started anew after a restart; stopped with their batch, or when they are late."""

import asyncio
from collections.abc import Mapping
from time import monotonic, time
from typing import NamedTuple

import structlog

from batch import jobs
from batch.folder import Folder
from batch.jobs import Job
from batch.states import CLOSING, Batch
from batch.store import Store
from gateway.batches.asking import Asking
from gateway.batches.books import Commits
from gateway.batches.clients import Clients
from gateway.batches.job_follower import JobFollower, Lost, World
from gateway.batches.parts import parts_of
from gateway.batches.planning import Planning
from gateway.batches.rendering import window_s
from gateway.batches.replanning import Replanning
from gateway.batches.upkeep import US, now_us
from gateway.runtime import Runtime
from policy.batch_late import must_move
from policy.batch_plan import Running, Way
from providers.batch.polling import Pace

PATIENCE_S = 600.0  # that a provider has for cancelling; then a batch ends without what it still does
FACTOR = 1.5
MOST_POLL_S = 300.0

log = structlog.get_logger("turnout.batches")


class Hands(NamedTuple):
    """An executor's own: who asks rows, who writes results, under which name. `alone`: no other host works with this database."""

    asking: Asking
    commits: Commits
    worker: str
    alone: bool


class ProviderJobs:
    """Whoever makes it stops it."""

    def __init__(self, runtime: Runtime, store: Store, folder: Folder, hands: Hands) -> None:
        settings = runtime.settings.batch
        self._store = store
        self._folder = folder
        self._alone = hands.alone
        self._lease_s = settings.lease_s
        self._clients = Clients(runtime.settings)
        self._replanning = Replanning(runtime, store.engine, settings.poll_s)
        self._planning = Planning(runtime, store.engine, self._replanning, settings.concurrency)
        pace = Pace(first_s=settings.poll_s, most_s=max(settings.poll_s, MOST_POLL_S), factor=FACTOR)
        self._world = World(runtime, store.engine, hands.worker, hands.asking, hands.commits, pace, settings.attempts, self._until)
        self._followers: dict[str, JobFollower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claimed_at = -1e9
        self._poll_s = settings.poll_s
        self._checked_at = monotonic()

    def _until(self) -> int:
        return now_us() + int(self._lease_s * US)

    # --- plans -----------------------------------------------------------------------------------------------------------
    def is_to_plan(self, batch: Batch) -> bool:
        return self._replanning.is_due(batch)

    def plan(self, batch: Batch) -> None:
        """Blocks."""
        again, began = self._replanning.begins(batch.id), monotonic()
        if not self._store.claim(batch.id, self._world.worker, now_us(), self._until()):
            return  # another worker does
        found = self._store.get(None, batch.id)
        if found is None or (found.plan is not None and not again):
            return
        left = self._planning.plan(found, str(self._folder.path(batch.source)))
        self._replanning.ended(batch.id, monotonic() - began)
        if left:
            log.info("rows of a batch are left to providers' jobs", batch=batch.id, rows=left)

    # --- jobs --------------------------------------------------------------------------------------------------------------
    async def look(self, active: Mapping[str, Batch]) -> None:
        """Jobs that nobody looks after are; those whose batch is to end are stopped."""
        now = monotonic()
        for job in await asyncio.to_thread(jobs.open_jobs, self._store.engine):
            if job.id not in self._tasks:
                await self._begin(job, active)
        if now - self._claimed_at >= self._lease_s / 4:
            self._claimed_at = now
            for id in list(self._tasks):
                if not await self._claim(id, False):
                    self._tasks[id].cancel()
        for follower in self._followers.values():
            batch = active.get(follower.batch.id)
            if batch is None or batch.status in CLOSING:
                follower.stop("its batch is to end", PATIENCE_S)
        if now - self._checked_at >= self._poll_s:
            self._checked_at = now
            for follower in self._followers.values():
                if not follower.stopping and (batch := active.get(follower.batch.id)) is not None:
                    self._move_if_late(follower, batch)
            await self._replanning.look(active)

    async def _claim(self, id: str, first: bool) -> bool:
        return await asyncio.to_thread(jobs.claim, self._store.engine, id, self._world.worker, now_us(), self._until(), self._alone and first)

    async def _begin(self, job: Job, active: Mapping[str, Batch]) -> None:
        batch = active.get(job.batch_id) or await asyncio.to_thread(self._store.get, None, job.batch_id)
        if batch is not None and not batch.ended and not self._folder.has(batch.source):
            return  # its file is on another host
        submitted = next((part.account for part in parts_of(job) or () if part.account is not None), None)
        places = self._clients.places(job.provider, submitted)
        if not await self._claim(job.id, True):
            return
        if batch is None or not places or not self._folder.has(batch.source):
            log.error("a provider's job cannot be looked after any more", job=job.id, provider=job.provider)
            await asyncio.to_thread(jobs.release, self._store.engine, job.id)
            await asyncio.to_thread(jobs.ended, self._store.engine, job.id)
            return
        follower = self._followers[job.id] = JobFollower(self._world, places, batch, job, self._folder.path(batch.source).parent)
        self._tasks[job.id] = asyncio.create_task(self._follow(follower), name=f"job {job.id}")

    async def _follow(self, follower: JobFollower) -> None:
        id = follower.job.id
        try:
            await follower.run()
        except Lost:
            log.warning("a provider's job is another worker's by now", job=id)
        except Exception as exc:  # the task's top: it is begun anew at the next look
            log.error("looking after a provider's job failed", job=id, exc_info=exc)
            await asyncio.sleep(self._poll_s)
        finally:
            self._followers.pop(id, None)
            self._tasks.pop(id, None)
        if follower.released:
            self._replanning.again(follower.batch.id)

    def _move_if_late(self, follower: JobFollower, batch: Batch) -> None:
        job = follower.job
        target = f"{job.provider}/{job.model}"
        ways = [way for (id, _), found in self._planning.ways.items() if id == batch.id for way in found]
        expected = next((way for way in ways if way.target == target and way.kind == "provider_batch"), None)
        way = expected or Way(target=target, kind="provider_batch", all_nusd=None, start_s=window_s(batch.window))
        elapsed_s, left_s = time() - job.made_at_us / US, batch.expires_at_us / US - time()
        share = Running(way=way, rows=job.rows, elapsed_s=elapsed_s, done=follower.done)
        if must_move(share, left_s, window_s(batch.window), ways):
            follower.stop("it is late", min(PATIENCE_S, max(0.0, left_s) / 4))

    async def stop(self) -> None:
        """What is under way goes on at the providers, and is taken up at the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._clients.aclose()
