"""Answers given more than once: kept ones, and one under way that several wait for.

A request that a kept answer fits is answered by it. Otherwise it leads: its answer is made in a task of its own, which goes on while
anybody waits for it, and requests that are the same join it. Each has its own deadline, and leaves by itself. When the answer cannot be
had, one of those that waited leads in its turn, and who waited for that one too is told the error.
"""

import asyncio
import time
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import TypeVar

from cache.memory import Memory
from cache.port import Kept, Lease, Store
from cache.semantic import Likenesses
from config.settings import Settings
from contract.errors import AttemptsExhausted, AttemptTimeout, RequestError, TurnoutError, UpstreamRejected
from contract.head import HeaderList
from gateway.client import Receiver
from gateway.errors import status_of
from gateway.job import Job
from gateway.kept.cacheable import entry_of, key_for, owner_of, saved_by, shared
from gateway.kept.flights import Flight
from gateway.kept.likeness import Likeness, Question, Run
from gateway.metering.admission import Admission, headers_of
from gateway.record import FromCache, Recorder
from gateway.routes import RouteTable
from ledger.row import CacheUse
from policy.rule import Caching, Rule

MAX_FLIGHTS = 2  # answers that one request waits for in vain before it is told why
FREE = b"0.000000000"

T = TypeVar("T")


class Caches:
    """One process's kept answers and those under way. `store`: what it shares with others. `likeness`: finds those of questions that mean the
    same. Whoever makes it closes it."""

    def __init__(self, recorder: Recorder, memory: Memory, store: Store | None = None, likeness: Likeness | None = None) -> None:
        self._recorder = recorder
        self._memory = memory
        self._store = store
        self._likeness = likeness
        self._flights: dict[bytes, Flight] = {}

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.aclose()

    @property
    def flights(self) -> tuple[Flight, ...]:
        """The answers under way that may be joined."""
        return tuple(self._flights.values())

    def concern(self, job: Job) -> bool:
        return job.rule.caching is not None or (self._likeness is not None and self._likeness.settings(job.principal.team) is not None)

    async def kept(self, job: Job) -> Kept | None:
        """The kept answer that `serve` would give, here or in the store."""
        if not self.concern(job) or (key := key_for(job)) is None:
            return None
        return self._memory.get(key, monotonic()) or await self._shared(job, key)

    async def serve(self, job: Job, run: Run, found: Kept | None = None) -> None:
        """Answers the client by what `kept` found, by an answer that is under way, or by `run`. Raises what `run` raises."""
        key, caching = key_for(job), self._caching(job)
        if key is None or caching is None:
            job.cache = "bypass"
            return await run(job)
        if found is not None:
            self._memory.put(key, found.entry, monotonic() + found.left_s)
            return await self._give(job, found, caching)
        met = 0
        while True:
            kept = self._memory.get(key, monotonic())
            if kept is not None:
                return await self._give(job, kept, caching)
            flight = self._flights.get(key)
            if flight is None or not flight.tape.kept:
                return await self._lead(job, key, caching, run)
            error = await self._follow(job, flight, caching)
            if error is None:
                return None
            met += not _out_of_time(error)
            if met >= MAX_FLIGHTS or _is_final(error):
                self._refused(job, error)
                raise error

    def _caching(self, job: Job) -> Caching | None:
        """Its policy's; or what a team has that only wants answers for questions that mean the same."""
        if job.rule.caching is not None or self._likeness is None:
            return job.rule.caching
        settings = self._likeness.settings(job.principal.team)
        return None if settings is None else Caching(settings.ttl_s, single_flight=False)

    # --- a kept answer -------------------------------------------------------------------------------------------------
    async def _give(self, job: Job, kept: Kept, caching: Caching, use: CacheUse = "hit") -> None:
        entry, client, began = kept.entry, job.client, None
        job.cache = use
        reason = f"the answer of {entry.request_id}"
        age = b"%d" % max(0, int(time.time() - entry.made_at))
        try:
            await client.start(200, [*entry.headers, (b"age", age), *_own(job, reason)])
            began = monotonic()
            if caching.replay == "recorded" and len(entry.cuts) > 1:
                for due_s, piece in entry.pieces():
                    await asyncio.sleep(max(0.0, began + due_s - monotonic()))
                    await client.write(piece)
                await client.end()
            else:
                await client.end(entry.body)
        except asyncio.CancelledError:
            self._recorder.kept(job, FromCache(status="client_closed", reason=reason, began=began, code=_gone(client)))
            raise
        self._recorder.kept(job, FromCache(status="ok", reason=reason, began=began, saved_nusd=entry.cost_nusd))

    # --- one under way -------------------------------------------------------------------------------------------------
    async def _follow(self, job: Job, flight: Flight, caching: Caching) -> TurnoutError | None:
        """Waits for what another request leads to. Returns why it gives no answer. Raises AttemptsExhausted at the request's own deadline."""
        client, deadline_s = job.client, job.rule.slo.deadline_s
        job.cache = "join"
        left_s = None if deadline_s is None else client.started_at + deadline_s - monotonic()
        flight.join()
        try:
            async with asyncio.timeout(left_s):
                begun = await flight.tape.begun()
                if begun:
                    await self._join(job, flight)
        except TimeoutError:
            await self._late(job, flight, deadline_s or 0.0)
            return None
        except asyncio.CancelledError:
            self._recorder.kept(job, FromCache(status="client_closed", reason=_of(flight), code=_gone(client)))
            raise
        finally:
            flight.leave(client.left)
        if begun:
            return None
        if flight.found is not None:
            await self._give(job, flight.found, caching, flight.use)
            return None
        error = await flight.over()
        return error if isinstance(error, TurnoutError) else TurnoutError("the request that led to this answer failed")

    async def _join(self, job: Job, flight: Flight) -> None:
        reason, began = _of(flight), monotonic()
        await flight.hear(job.client, [*shared(flight.tape.headers), *_own(job, reason)])
        giving = flight.job.giving
        if giving is not None and giving.whole:
            self._recorder.kept(job, FromCache(status="ok", reason=reason, began=began, saved_nusd=flight.saved_nusd))
        else:
            self._recorder.kept(job, FromCache(status="cut", reason=reason, began=began, code="upstream_stream_truncated"))

    async def _late(self, job: Job, flight: Flight, deadline_s: float) -> None:
        """The request's own time is over; the answer may go on for others."""
        error, giving = AttemptTimeout("total", deadline_s), flight.job.giving
        late = AttemptsExhausted([error])
        status, kind = status_of(late)
        if not job.client.status:
            self._refused(job, late)
            raise late
        self._recorder.kept(job, FromCache(status="cut", reason=_of(flight), code=error.reason, client_status=status))
        told = b"" if giving is None else giving.exchange.in_band(job.words.encode_error(error, kind, job.call.request_id, 0))
        if told:
            await job.client.end(told)

    def _refused(self, job: Job, error: TurnoutError) -> None:
        self._recorder.kept(job, FromCache(status="failed", reason="no answer to join", code=error.reason, client_status=status_of(error)[0]))

    # --- leading -------------------------------------------------------------------------------------------------------
    async def _lead(self, job: Job, key: bytes, caching: Caching, run: Run) -> None:
        """The answer is made in a task of its own, which this request owns: it ends after it, whoever left before."""
        client, flight = job.client, Flight(job)
        if caching.single_flight:
            self._flights[key] = flight
        flight.join()
        flight.task = asyncio.create_task(self._fly(flight, key, caching, run), name="flight")
        flight.task.add_done_callback(lambda _: self._landed(flight, key))  # one that is cancelled before its first step has no other end
        try:
            if await flight.tape.begun():
                await flight.hear(client, flight.tape.headers)
        except asyncio.CancelledError:
            if not client.left:
                flight.task.cancel()  # the server stops
            raise
        finally:
            flight.leave(client.left)
            error = await flight.over()
            job.client = client
        if flight.found is not None:
            return await self._give(job, flight.found, caching, flight.use)
        if error is not None:
            raise error
        return None

    async def _fly(self, flight: Flight, key: bytes, caching: Caching, run: Run) -> None:
        job, lease = flight.job, None
        try:
            found = await self._elsewhere(job, key, caching)
            if isinstance(found, Kept):
                flight.found = found
                self._memory.put(key, found.entry, monotonic() + found.left_s)
                return
            lease = found
            question = None if self._likeness is None else await self._likeness.look(job, run)
            if question is not None and question.found is not None:
                flight.found, flight.use = question.found, "semantic"
                return
            await self._made(flight, key, caching, run, question)
        finally:
            self._landed(flight, key)
            if lease is not None:
                await lease.release()

    async def _made(self, flight: Flight, key: bytes, caching: Caching, run: Run, question: Question | None) -> None:
        """Nobody who hears the end finds the answer not yet kept: in memory it is kept before, and by then nobody can join any more."""
        job, tape = flight.job, flight.tape
        job.client, job.cache = tape, "miss"
        await run(job)
        flight.saved_nusd = saved_by(job)
        entry = entry_of(job, tape)
        if entry is None:
            return
        self._memory.put(key, entry, monotonic() + caching.ttl_s)
        if question is not None and self._likeness is not None:
            self._likeness.keep(job, question, entry)
        self._landed(flight, key)
        if self._store is not None:
            await self._store.put(key, entry, caching.ttl_s)

    def _landed(self, flight: Flight, key: bytes) -> None:
        """Nobody joins it any more, and nothing more will come. Idempotent."""
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.tape.close()

    async def _elsewhere(self, job: Job, key: bytes, caching: Caching) -> Kept | Lease | None:
        """What other processes have: the answer, which is this team's own by its key and by its mark, or the right to make it."""
        found: Kept | Lease | None = await self._shared(job, key)
        if found is None and self._store is not None and caching.single_flight:
            deadline_s = job.rule.slo.deadline_s
            left_s = inf if deadline_s is None else (job.client.started_at + deadline_s - monotonic()) / 2
            found = _own_entry(job, await self._store.turn(key, left_s))
        return found

    async def _shared(self, job: Job, key: bytes) -> Kept | None:
        return None if self._store is None else _own_entry(job, await self._store.get(key))


def caches_of(settings: Settings, rules: Iterable[Rule], routes: RouteTable, recorder: Recorder, admission: Admission) -> Caches | None:
    """None: nobody's answers are kept."""
    state = settings.state
    semantic = {name: team.semantic_cache for name, team in settings.teams.items() if team.semantic_cache is not None}
    if not semantic and not any(rule.caching is not None for rule in rules):
        return None
    size = state.cache_mb << 20
    apart = size // 4 if semantic else 0
    likeness = Likeness(semantic, routes.find, Likenesses(apart), admission) if semantic else None
    if state.redis is None:
        return Caches(recorder, Memory(size - apart), None, likeness)
    from cache.redis import RedisStore  # redis-py takes a while to import, and one process alone does without

    return Caches(
        recorder, Memory(size - apart), RedisStore(state.redis.get_secret_value(), admission.meter.lost, state.redis_deadline_ms / 1000), likeness
    )


def _own_entry(job: Job, found: T) -> T | None:
    return None if isinstance(found, Kept) and found.entry.owner != owner_of(job) else found


def _own(job: Job, reason: str) -> HeaderList:
    """Headers of a request that no target was asked for."""
    waited_ms = b"%.1f" % ((monotonic() - job.client.started_at) * 1e3)
    return [
        (b"x-request-id", job.call.request_id.encode()),
        (b"x-turnout-attempts", b"0"),
        (b"x-turnout-decision", reason.encode()),
        (b"x-turnout-overhead-ms", waited_ms),
        (b"x-turnout-ttft-ms", waited_ms),
        (b"x-turnout-cost-usd", FREE),
        (b"x-turnout-cache", b"join" if job.cache == "join" else b"hit"),
        *headers_of(job),
    ]


def _of(flight: Flight) -> str:
    return f"the answer of {flight.job.call.request_id}"


def _gone(client: Receiver) -> str:
    return "client_closed" if client.left else "server_shutting_down"


def _is_final(error: TurnoutError) -> bool:
    """The same request would meet it again."""
    last = error.last if isinstance(error, AttemptsExhausted) else error
    return isinstance(last, RequestError) or (isinstance(last, UpstreamRejected) and last.disposition == "final")


def _out_of_time(error: TurnoutError) -> bool:
    """It was the leading request's own deadline."""
    return isinstance(error, AttemptsExhausted) and isinstance(error.last, AttemptTimeout) and error.last.clock == "total"
