"""Looks after one provider's job from its submission to its results, also after a restart; what it did not answer waits again.

A submission stands in the database before it is sent. Whether one that may have been sent became a job is asked of the provider (`find`) before
it is sent again, and it is sent again only when the provider did not know of it for a while.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

import msgspec
import structlog
from sqlalchemy import Engine

from batch import jobs
from batch.jobs import Job
from batch.states import Batch, Leased
from contract.call import Call
from contract.errors import AttemptError, QuotaExhausted, RateLimited, TurnoutError, UpstreamAuthFailed
from gateway.batches.asking import Asking
from gateway.batches.books import Commits
from gateway.batches.clients import JobPlace
from gateway.batches.job_budget import JobBudget
from gateway.batches.parts import JobRows, Known, PartState, parts_of
from gateway.batches.results import Booking, request_id_of
from gateway.batches.upkeep import US
from gateway.runtime import Runtime
from providers.batch.polling import PASSING, Pace, watch
from providers.batch.port import NotYetKnown, Part, RowResult, row_id, row_number

GROUP = 100  # results that are booked together
AHEAD = 500  # results that may wait for the database
SETTLES = 4.0  # in polls: how long a provider is asked for a submission that it does not know before it is sent again
TRIES = 3  # to submit a part
HOUR_S = 3600

T = TypeVar("T")

log = structlog.get_logger("turnout.batches")


class World(msgspec.Struct, frozen=True):
    """What every job shares. `most`: attempts that a row has; `until`: the end of a lease that begins now."""

    runtime: Runtime
    engine: Engine
    worker: str
    asking: Asking
    commits: Commits
    pace: Pace
    most: int
    until: Callable[[], int]


class JobFollower:
    """One job's. `run` ends when nothing more of it is to come; `stop` has the provider cancel it.

    `places`: to submit it to, in turn while the key is refused.
    """

    def __init__(self, world: World, places: Sequence[JobPlace], batch: Batch, job: Job, folder: Path) -> None:
        self._world = world
        self._account, self._client, self._limits = places[0]
        self._further = list(places[1:])
        self.batch = batch
        self.job = job
        self._folder = folder
        self._parts: list[PartState] = parts_of(job) or []
        self._rows = JobRows(world.runtime, world.asking, batch, job, str(folder / batch.source))
        endpoint, engines = world.asking.endpoints[batch.endpoint], world.runtime.engines
        self._booking = Booking(job, batch, endpoint, self._limits, world.most, engines)
        self._nudge = asyncio.Event()
        self._stopped = asyncio.Event()
        self._cancels: set[asyncio.Task[None]] = set()
        self._begun = monotonic()
        self._budget = JobBudget(world.runtime, world.asking, batch, job)
        self._known: dict[int, Known] = {}
        self.released = 0  # rows that wait again
        self.stopping = ""

    @property
    def done(self) -> int | None:
        """Rows that the provider says it has done; None: it does not say."""
        told = [part.done for part in self._parts]
        return None if not told or None in told else sum(count or 0 for count in told)

    def stop(self, why: str, patience_s: float) -> None:
        """At once; what was done until then is still read. After `patience_s` its rows wait for nothing any more."""
        if self.stopping:
            return
        self.stopping = why
        log.info("a provider's job is stopped", job=self.job.id, batch=self.batch.id, why=why)
        for part in self._parts:
            self._cancel(part)
        self._stopped.set()
        self._nudge.set()
        self._keep_task(self._give_up(patience_s))

    # --- from its making to its end ----------------------------------------------------------------------------------
    async def run(self) -> None:
        try:
            if await self._submitted():
                await self._budget.follow()
            await asyncio.gather(*(self._ended(part) for part in self._parts if not part.over))
            await self._end()
        finally:
            for task in self._cancels:
                task.cancel()
            await asyncio.gather(*self._cancels, return_exceptions=True)
            self._rows.close()
            self._budget.settle()

    async def _end(self) -> None:
        await self._world.commits.all_there()
        self.released += await self._db(jobs.release, self.job.id)
        await self._db(jobs.ended, self.job.id)
        for part in self._parts:
            if part.ref is not None and part.state is not None:
                with suppress(AttemptError):
                    await self._client.forget(part.ref)

    async def _give_up(self, patience_s: float) -> None:
        await asyncio.sleep(patience_s)
        self.released += await self._db(jobs.release, self.job.id)

    async def _db(self, do: Callable[..., T], *args: object) -> T:
        return await asyncio.to_thread(do, self._world.engine, *args)

    async def _save(self) -> None:
        """Raises Lost."""
        text = msgspec.json.encode(self._parts).decode()
        if not await asyncio.to_thread(jobs.keep, self._world.engine, self.job.id, self._world.worker, text):
            raise Lost

    def _keep_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f"job {self.job.id}")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    # --- submitting ----------------------------------------------------------------------------------------------------
    async def _submitted(self) -> bool:
        """Whether it was before this process had it."""
        before = bool(self._parts)
        if before and all(part.ref is not None or part.over for part in self._parts):
            return True
        files = await self._made()
        try:
            if not before:
                self._parts = [PartState(part.submission(time(), self._window_s()), self._account) for part in files.values()]
                await self._save()
                if not await self._budget.reserve(self._limits.cost_nusd(self._rows.bound_nusd)):
                    for part in self._parts:
                        part.over, part.why = True, "budget"
            for part in self._parts:
                file = files.get(part.submission.key)
                if file is not None and not part.over and part.ref is None:
                    await self._submit(part, file)
            await self._save()
        finally:
            for made in files.values():
                made.file.unlink(missing_ok=True)
        return before

    def _window_s(self) -> int:
        """Of the windows that the provider has, the one that is nearest to the time that is left."""
        shortest, longest = self._limits.windows_s
        left_s = int(self.batch.expires_at_us / US - time())
        return min(longest, max(shortest, -(-left_s // HOUR_S) * HOUR_S))

    async def _made(self) -> dict[str, Part]:
        """The rows in files; those that may not go there wait again."""
        files: dict[str, Part] = {}
        refused = self._rows.refused
        async with aclosing(self._rows.given(self._pages())) as rows:
            told = self._client.parts(rows, self.job.model, self._folder, self.job.id, lambda id, _: refused.append(row_number(id)))
            async with aclosing(told) as parts:
                async for part in parts:
                    files[part.key] = part
        if refused:
            self.released += await self._db(jobs.release, self.job.id, refused, False)
        return files

    async def _pages(self) -> AsyncGenerator[list[Leased], None]:
        line = 0
        while rows := await self._db(jobs.left_to, self.job.id, line):
            yield rows
            line = rows[-1].line

    async def _submit(self, part: PartState, file: Part) -> None:
        """Until it has a job, or is over without one."""
        if part.sent and await self._found(part):
            return
        for _ in range(TRIES + len(self._further)):
            if self.stopping:
                break
            part.sent = True
            await self._save()
            try:
                job = await self._unless_stopped(self._client.submit(file, msgspec.structs.replace(part.submission, known=await self._others())))
                part.ref = None if job is None else job.ref
            except AttemptError as error:
                part.why = error.reason
                log.warning("a batch job was not taken", provider=self.job.provider, job=self.job.id, error=error.reason)
                if isinstance(error, UpstreamAuthFailed | QuotaExhausted) and self._goes_on_to_another_key():
                    part.sent = False
                    continue
                if _refused(error):
                    part.sent = False
                    break
                if isinstance(error, RateLimited):
                    await self._pause(error.retry_after_s or self._world.pace.first_s)
                    continue
            if part.ref is not None or await self._found(part):
                await self._save()
                if self.stopping:
                    self._cancel(part)
                return
        part.over = True
        await self._save()

    def _goes_on_to_another_key(self) -> bool:
        """Where all of it is then submitted; not once a part of it is a job by then."""
        if not self._further or any(part.ref is not None for part in self._parts):
            return False
        self._account, self._client, self._limits = self._further.pop(0)
        for part in self._parts:
            part.account = self._account
        return True

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What it gives; None: the job was stopped meanwhile, and what became of it is not known."""
        task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for each in (task, stopped):
                each.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _found(self, part: PartState) -> bool:
        """Whether a submission that may have been sent became a job. It is looked for until the provider would know of it."""
        until = monotonic() + SETTLES * self._world.pace.first_s
        while True:
            known = False
            with suppress(NotYetKnown, *PASSING):
                job = await self._client.find(msgspec.structs.replace(part.submission, known=await self._others()))
                known = True
                if job is not None:
                    part.ref = job.ref
                    await self._save()
                    log.info("a batch job was found again", provider=self.job.provider, job=self.job.id)
                    return True
            if known and monotonic() >= until:
                return False
            await self._pause(self._world.pace.first_s)

    async def _others(self) -> frozenset[str]:
        """The provider's jobs of other submissions."""
        others = [job for job in await self._db(jobs.open_jobs) if job.provider == self.job.provider and job.id != self.job.id]
        return frozenset(part.ref.id for job in others for part in parts_of(job) or () if part.ref is not None)

    # --- polling and results ---------------------------------------------------------------------------------------------
    def _cancel(self, part: PartState) -> None:
        if part.ref is not None and not part.over:
            self._keep_task(self._cancelled(part))

    async def _cancelled(self, part: PartState) -> None:
        assert part.ref is not None
        while not part.over:
            try:
                await self._client.cancel(part.ref)
            except PASSING as error:
                log.warning("a batch job was not cancelled", provider=self.job.provider, job=self.job.id, error=error.reason)
                await asyncio.sleep(self._world.pace.first_s / 4)
                continue
            except AttemptError as error:
                log.warning("a batch job cannot be cancelled", provider=self.job.provider, job=self.job.id, error=error.reason)
            self._nudge.set()
            return

    async def _pause(self, pause_s: float) -> None:
        """Not so long once it is stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pause_s, self._world.pace.first_s) if self.stopping else pause_s):
                await self._nudge.wait()
        self._nudge.clear()

    async def _ended(self, part: PartState) -> None:
        """Asks for it until it has ended, and reads what it did."""
        if part.ref is None:
            part.over = True
        else:
            try:
                async with aclosing(watch(self._client, part.ref, self._world.pace, self._pause)) as states:
                    async for job in states:
                        part.state, part.native = job.state, job.native
                        counts = (job.counts.succeeded, job.counts.errored)
                        part.done = None if None in counts else sum(count or 0 for count in counts)
                        await self._save()
                await self._read(part)
            except AttemptError as error:  # the job, or our key, is not known there any more
                log.error("a batch job is lost", provider=self.job.provider, job=self.job.id, error=error.reason)
                part.why = error.reason
            part.over = True
        await self._save()

    async def _read(self, part: PartState) -> None:
        """Raises the AttemptError that reading again will not mend."""
        assert part.ref is not None
        for quiet in range(10):
            group: list[RowResult] = []
            try:
                async with aclosing(self._client.results(part.ref, self._asked)) as results:
                    async for result in results:
                        group.append(result)
                        if len(group) == GROUP:
                            await self._book(group)
                            group = []
                await self._book(group)
                return
            except PASSING as error:
                log.warning("results of a batch job were not read", provider=self.job.provider, job=self.job.id, error=error.reason)
                await self._pause(min(self._world.pace.most_s, self._world.pace.first_s * 2**quiet))

    async def _asked(self, ids: Sequence[str]) -> dict[str, Call]:
        lines = [row_number(id) for id in ids if _is_row(id)]
        places = await self._db(jobs.places, self.batch.id, lines)
        known = await self._rows.known(list(places.values()))
        self._known |= {each.row.line: each for each in known}
        return {row_id(each.row.line): each.call for each in known}

    async def _book(self, group: list[RowResult]) -> None:
        """Each row once: those that are still the job's with their result, others as paid by the gateway."""
        if not group:
            return
        world, job, batch = self._world, self.job, self.batch
        counts = world.runtime.observing.watching.counts
        by_line = {row_number(result.id): result for result in group}
        taken = await self._db(jobs.take, job.id, batch.id, list(by_line), world.worker, world.until())
        late = [line for line, result in by_line.items() if line not in taken and result.state == "succeeded"]
        whose = await self._db(jobs.request_ids, batch.id, late) if late else {}
        for line, result in by_line.items():
            known = self._known.pop(line)
            attempt = self._booking.attempt(known, result, self._organisation())
            if attempt.billed == "team" and attempt.cost_nusd is None and self._budget.counts:
                attempt = msgspec.structs.replace(attempt, held_nusd=self._limits.cost_nusd(self._rows.bound(known)))
            if line in taken:
                if result.state == "succeeded" and result.answer is not None:
                    self._rows.keep(known, result.answer)
                world.commits.add(self._booking.result(taken[line], result, attempt))
                counts.row(attempt, None, False)
                self._budget.used_nusd += (attempt.cost_nusd or attempt.held_nusd or 0) if attempt.billed == "team" else 0
            elif line in late and whose.get(line) != request_id_of(job, line):
                world.runtime.ledger.append(msgspec.structs.replace(attempt, billed="gateway"))
        if world.commits.pending > AHEAD:
            await world.commits.all_there()

    def _organisation(self) -> str:
        try:
            return self._world.asking.principal(self.batch).organisation
        except TurnoutError:
            return ""


class Lost(Exception):
    """The job is another worker's by now."""


def _refused(error: AttemptError) -> bool:
    """The provider said that it does not take it: asking for a job is of no use."""
    return not error.sent or (error.upstream_status is not None and 400 <= error.upstream_status < 500 and error.upstream_status != 429)


def _is_row(id: str) -> bool:
    try:
        return row_number(id) > 0
    except ValueError:
        return False
