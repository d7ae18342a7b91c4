"""The attempt engine: a plan's attempts in turn, or two at once, up to the first that answers. The only one, for streamed and unary alike.

Until the first output is in hand nothing was sent to the client, and any failure may be mended elsewhere. That output is the commit
point (gateway/opening.py).
"""

import asyncio
from collections.abc import Iterator
from math import inf
from random import random
from time import monotonic

from contract.errors import AttemptError, AttemptsExhausted, ContextLengthExceeded, EngineBusy, QuotaExhausted, RateLimited, UpstreamAuthFailed
from contract.patience import Patience
from gateway.errors import status_of
from gateway.job import Attempt, Job, Planning
from gateway.opening import Opened, begin, left
from gateway.planner import further, hedge_for, hurried, patience_of, share_s
from gateway.record import Recorder
from policy.hedge import Hedge
from policy.plan import Planned
from policy.retry import CROWDED, FailOver, RetrySame, Situation, Stop, after_failure, ends_race, refused_for_good, unexplained


class Attempts:
    """The attempts of one request. `others`: the plan's targets that were not tried yet. `count`: those begun, second runners and all."""

    __slots__ = ("_job", "_made", "_planned", "_planning", "_recorder", "_refused", "_tries", "_verdict", "_waited", "count", "others")

    def __init__(self, job: Job, planning: Planning, recorder: Recorder) -> None:
        self._job = job
        self._planning = planning
        self._recorder = recorder
        self._planned, *self.others = planning.plan.attempts
        self._made = 0  # attempts that count against the policy's limit
        self._tries = 0  # of them, at the present target
        self._waited = False  # for a time that it named
        self._refused: set[tuple[str, str]] = set()  # backends' keys that were spent or not accepted
        self._verdict: AttemptError | None = None  # the first target's refusal: whatever a second runner meets
        self.count = 0

    def attempt(self, planned: Planned, reason: str) -> Attempt:
        """Begins the books of one more attempt."""
        self.count += 1
        target = self._job.route.targets[planned.candidate.index]
        return Attempt(self.count, target, planned, reason, target.health.of(self._job.batch))

    def patience(self, attempt: Attempt) -> Patience | None:
        patience = patience_of(self._job, attempt.planned, self.others, attempt.marks.started)
        if patience is not None:
            attempt.hurried = hurried(self._job, attempt.planned, patience)
            attempt.share_s = share_s(self._job, attempt.planned, self.others, patience.left_s)
        return patience

    def remaining(self) -> Iterator[Planned]:
        """The targets that were not tried yet, and then those of a long list that the plan did not look at."""
        yield from tuple(self.others)
        yield from self._widen()

    def _widen(self) -> list[Planned]:
        """Where the plan did not look at all targets: to the rest of them."""
        planning = self._planning
        more: list[Planned] = []
        if planning.narrowed:
            planning.narrowed = False
            more = further(self._job, planning, monotonic())
            self.others += more
        return more

    async def opened(self) -> Opened:
        """The first answer. Raises AttemptsExhausted."""
        reason = self._planned.reason
        while True:
            attempt = self._started(reason)
            try:
                hedges = self._made == 1 and self._job.rule.hedge_after is not None
                hedge = hedge_for(self._job, self._planning, monotonic()) if hedges else None
                if hedge is not None:
                    return await self._race(attempt, hedge)
                return await begin(self._job, attempt, self.patience(attempt), self._recorder)
            except AttemptError as error:
                error.target = attempt.target.label
                reason = await self._after(attempt, error)
            except _Lost as lost:
                reason = await self._after(lost.attempt, lost.error)

    def _started(self, reason: str) -> Attempt:
        self._made += 1
        self._tries += 1
        attempt = self.attempt(self._planned, reason)
        retries, now = attempt.health.retries, attempt.marks.started
        if self._tries == 1:
            retries.request(now, self._job.rule.retry_share)
        else:
            retries.spend(now)
        return attempt

    async def _begin(self, attempt: Attempt) -> Opened:
        try:
            return await begin(self._job, attempt, self.patience(attempt), self._recorder)
        except AttemptError as error:
            error.target = attempt.target.label
            raise _Lost(attempt, error) from error

    async def _after(self, attempt: Attempt, error: AttemptError) -> str:
        """What the policy says to do next; returns the reason of the next attempt. Raises AttemptsExhausted."""
        job = self._job
        attempt.over(error)
        if isinstance(error, EngineBusy):
            self._made -= 1  # the engine was not asked
        crowded = self._heed(attempt, error)
        if not self.others and self._made < job.rule.max_attempts:
            self._widen()
        verdict = after_failure(error, self._situation(attempt, error, crowded))
        self._failed(attempt, error, isinstance(verdict, Stop))
        match verdict:
            case FailOver():
                self._planned = next(filter(self._ready, self.others), self.others[0])
                self.others.remove(self._planned)
                self._tries, self._waited = 0, False
                return self._planned.reason
            case RetrySame():
                self._made -= verdict.free
                if verdict.delay_s:
                    self._waited = self._waited or isinstance(error, RateLimited)
                    await asyncio.sleep(verdict.delay_s)
                return f"retry after {error.reason}"
            case Stop():
                if isinstance(error, RateLimited) and error.retry_after_s is None:  # the provider did not say: as long as its key rests
                    now = monotonic()
                    error.retry_after_s = max(0.0, attempt.target.backend.ready_at(attempt.target.model, now) - now)
                raise self._exhausted()

    def _exhausted(self) -> AttemptsExhausted:
        return AttemptsExhausted(self._job.failures, verdict=self._verdict, made=self.count)

    def _heed(self, attempt: Attempt, error: AttemptError) -> bool:
        """What a failure says of the attempts that may follow. Returns whether the prompt fills much of the model's context."""
        crowded = self._crowded(attempt)
        if isinstance(error, ContextLengthExceeded) or (crowded and unexplained(error)):  # the same model would say the same elsewhere
            targets = self._job.route.targets
            self._widen()
            self.others = [each for each in self.others if targets[each.candidate.index].model != attempt.target.model]
        if attempt.number == 1 and refused_for_good(error, crowded):
            self._verdict = error
        return crowded

    def _crowded(self, attempt: Attempt) -> bool:
        context = attempt.target.context_tokens
        return context is not None and self._planning.ask.prompt_tokens >= CROWDED * context

    def _situation(self, attempt: Attempt, error: AttemptError, crowded: bool) -> Situation:
        job, target = self._job, attempt.target
        health, now = attempt.health, monotonic()
        deadline_s = job.rule.slo.deadline_s
        return Situation(
            attempts_made=self._made,
            max_attempts=job.rule.max_attempts,
            attempts_at_target=self._tries,
            targets_left=len(self.others),
            jitter=random(),
            deadline_left_s=inf if deadline_s is None else deadline_s - (now - job.client.started_at),
            budget_allows=health.retries.allows(now),
            healthy=health.available(now),
            other_key_ready=target.backend.ready_at(target.model, now) <= now,
            first_refusal=self._is_first_refusal(attempt, error),
            ready_in_s=self._ready_in_s(attempt, error, now),
            waited=self._waited,
            crowded=crowded,
            refused=self._verdict is not None,
        )

    def _is_first_refusal(self, attempt: Attempt, error: AttemptError) -> bool:
        """Whether its key is one of several that this request was not refused before; so each of them costs an attempt at most once."""
        if attempt.marks.key_id is None or not isinstance(error, QuotaExhausted | UpstreamAuthFailed):
            return False
        key = attempt.target.backend.name, attempt.marks.key_id
        first = key not in self._refused
        self._refused.add(key)
        return first

    def _ready_in_s(self, attempt: Attempt, error: AttemptError, now: float) -> float | None:
        """When the first of the target's keys is, where this request was told a time by one of them."""
        target = attempt.target
        limits = [each for each in (*self._job.failures, error) if isinstance(each, RateLimited) and each.target == target.label]
        if all(each.retry_after_s is None or isinstance(each, QuotaExhausted) for each in limits):
            return None
        return max(0.0, target.backend.ready_at(target.model, now) - now)

    def _failed(self, attempt: Attempt, error: AttemptError, last: bool) -> None:
        job = self._job
        job.failures.insert(0 if attempt.number == 1 else len(job.failures), error)
        if last:
            job.error_status = status_of(self._exhausted())[0]
        self._recorder.record(job, attempt, "failed", error)
        job.upstream_s += (attempt.marks.ended or attempt.marks.started) - attempt.marks.started

    # --- hedging ---------------------------------------------------------------------------------------------------
    async def _race(self, first: Attempt, hedge: Hedge) -> Opened:
        """The first attempt, and after a while a second one beside it: the first real output wins, the other is stopped. Raises _Lost."""
        job, before_s = self._job, self._job.upstream_s
        runners = {asyncio.create_task(self._begin(first)): first}
        try:
            done, _ = await asyncio.wait(runners, timeout=hedge.after_s)
            if not done and first.marks.first_token is None and self._may_hedge(hedge):
                second = self._second(hedge)
                runners[asyncio.create_task(self._begin(second))] = second
            decided, attempt = await self._decided(runners)
        except BaseException:
            await self._stop(runners)
            raise
        job.upstream_s = before_s + attempt.marks.started - first.marks.started  # what ran beside it took no time of its own
        self._planned = attempt.planned
        for loser in runners.values():
            loser.abandoned = True
            self.others.append(loser.planned)  # it did not fail: should the winner be cut, it may go on
        try:
            await self._stop(runners)
        except asyncio.CancelledError:
            left(job, attempt, self._recorder)
            raise
        return decided.result()

    def _may_hedge(self, hedge: Hedge) -> bool:
        """Still: other requests may have spent the budget since, or found the target unwell."""
        job = self._job
        return self._ready(hedge.planned) and job.route.hedges.allows(monotonic(), job.rule.hedge_share, hedge.cost_nusd)

    def _ready(self, planned: Planned) -> bool:
        """Still: the plan may be old by now."""
        target, now = self._job.route.targets[planned.candidate.index], monotonic()
        health = target.health.of(self._job.batch)
        return health.available(now) and target.backend.ready_at(target.model, now) <= now

    def _second(self, hedge: Hedge) -> Attempt:
        self.others.remove(hedge.planned)
        second = self.attempt(hedge.planned, f"hedge after {hedge.after_s * 1e3:.0f} ms")
        self._job.route.hedges.hedged(second.marks.started, hedge.cost_nusd)
        return second

    async def _decided(self, runners: dict[asyncio.Task[Opened], Attempt]) -> tuple[asyncio.Task[Opened], Attempt]:
        """Who ends the race, taken out of the runners: the first that answers, or the last to fail. One that fails leaves the race to the other,
        whatever its failure, but for a content filter's verdict: that is not got around by asking two."""
        while True:
            done, _ = await asyncio.wait(runners, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=lambda each: each.exception() is not None):
                attempt = runners.pop(task)
                lost = task.exception()
                if not isinstance(lost, _Lost) or not runners or ends_race(lost.error):
                    return task, attempt
                self._leaves_race(attempt, lost.error)

    def _leaves_race(self, attempt: Attempt, error: AttemptError) -> None:
        self._heed(attempt, error)
        self._failed(attempt, error, last=False)

    async def _stop(self, runners: dict[asyncio.Task[Opened], Attempt]) -> None:
        """Ends whoever still runs, and their books. One who came in at the same moment is stopped too: its answer is nobody's.

        Raises CancelledError when that came meanwhile; all have ended even so.
        """
        cancelled: asyncio.CancelledError | None = None
        for task in runners:
            task.cancel()
        while not all(task.done() for task in runners):
            try:
                await asyncio.wait(runners)
            except asyncio.CancelledError as exc:
                cancelled = exc
        for task, attempt in runners.items():
            if not task.cancelled() and isinstance(lost := task.exception(), _Lost):
                self._recorder.record(self._job, attempt, "failed", lost.error)
            elif attempt.lasts:  # it came in too, or was stopped before its first step
                left(self._job, attempt, self._recorder)
        if cancelled is not None:
            raise cancelled


class _Lost(Exception):
    """An attempt that failed before its commit point."""

    def __init__(self, attempt: Attempt, error: AttemptError) -> None:
        super().__init__(attempt, error)
        self.attempt = attempt
        self.error = error
