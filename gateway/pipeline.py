"""The attempt engine: one request, its plan, its attempts in turn, its answer. The only one, for streamed and unary alike.

Until the first output is in hand nothing was sent to the client, and any failure may be mended elsewhere. That output is the commit
point: from there a failure is told in-band, and the answer never ends as if it were whole.
"""

import asyncio
from random import random
from time import monotonic

from contract.errors import AttemptError, AttemptsExhausted, PermissionDenied
from gateway.accounting import plausible
from gateway.client import HeaderList
from gateway.errors import status_of
from gateway.keeper import Keeper
from gateway.record import Attempt, Job, Recorder
from ledger.prices import cost_nusd
from ledger.reports import usd
from policy.plan import plan_ordered
from policy.retry import FailOver, RetrySame, Situation, Stop, after_failure
from providers.port import Exchange

STREAM_HEADERS: HeaderList = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


class Pipeline:
    """Runs jobs. `keeper` remembers what later requests may refer to."""

    def __init__(self, recorder: Recorder, keeper: Keeper) -> None:
        self._recorder = recorder
        self._keeper = keeper

    async def run(self, job: Job) -> None:
        """Answers the client, or raises: AttemptsExhausted or PermissionDenied when nothing was sent, CancelledError when it left."""
        plan = plan_ordered(job.rule, job.route.candidates, job.bound_to)
        if not plan.attempts:
            raise PermissionDenied(f"the policy {job.rule.name!r} leaves no target for the model {job.call.model!r}", code="no_allowed_target")
        index = made = at_target = 0
        while True:
            planned = plan.attempts[index]
            made += 1
            at_target += 1
            attempt = Attempt(made, job.route.targets[planned.candidate.index], planned.reason)
            try:
                return await self._attempt(job, attempt)
            except AttemptError as error:
                error.target = attempt.target.label
                job.failures.append(error)
                situation = Situation(made, job.rule.max_attempts, at_target, len(plan.attempts) - index - 1, random())
                verdict = after_failure(error, situation)
                self._failed(job, attempt, error, isinstance(verdict, Stop))
            match verdict:
                case FailOver():
                    index, at_target = index + 1, 0
                case RetrySame():
                    await asyncio.sleep(verdict.delay_s)
                case Stop():
                    raise AttemptsExhausted(job.failures)

    def _failed(self, job: Job, attempt: Attempt, error: AttemptError, last: bool) -> None:
        if last:
            job.error_status = status_of(AttemptsExhausted(job.failures))[0]
        self._recorder.record(job, attempt, "failed", error)
        job.upstream_s += (attempt.marks.ended or attempt.marks.started) - attempt.marks.started

    async def _attempt(self, job: Job, attempt: Attempt) -> None:
        """One attempt up to the commit point, then the delivery. Raises AttemptError only before the commit point."""
        try:
            exchange = attempt.exchange = await attempt.target.backend.open(job.call, attempt.target.model, attempt.marks, job.rule.drop)
            piece = await exchange.next()
        except asyncio.CancelledError:
            self._left(job, attempt)
            raise
        await self._deliver(job, attempt, exchange, piece)

    async def _deliver(self, job: Job, attempt: Attempt, exchange: Exchange, piece: bytes) -> None:
        client = job.client
        try:
            await client.start(200, self._headers(job, attempt, exchange, len(piece)))
            while exchange.streamed and piece:
                await client.write(piece)
                piece = await exchange.next()
            self._keeper.note(job, attempt.target, exchange, piece)  # before the client can ask for what it has just been given
            await client.end(piece)  # a unary answer is one piece
        except AttemptError as error:
            error.target = attempt.target.label
            self._recorder.record(job, attempt, "cut", error)
            if told := self._in_band(job, attempt, exchange, error):
                await client.end(told)  # where nothing can be told, the connection's early end does
        except asyncio.CancelledError:
            self._left(job, attempt)
            raise
        else:
            self._recorder.record(job, attempt, "ok")

    def _left(self, job: Job, attempt: Attempt) -> None:
        if attempt.exchange is not None:
            attempt.exchange.abort()
        if job.client.left:
            self._recorder.record(job, attempt, "client_closed", "client_closed")
        else:
            self._recorder.record(job, attempt, "cut" if job.client.status else "failed", "server_shutting_down")

    def _in_band(self, job: Job, attempt: Attempt, exchange: Exchange, error: AttemptError) -> bytes:
        return exchange.in_band(job.words.encode_error(error, status_of(error)[1], job.call.request_id, attempt.number))

    def _headers(self, job: Job, attempt: Attempt, exchange: Exchange, length: int) -> HeaderList:
        marks, call, target = attempt.marks, job.call, attempt.target
        now = monotonic()
        first_token = marks.first_token or now
        upstream_until = first_token if exchange.streamed else marks.ended or now
        overhead_s = now - job.client.started_at - job.upstream_s - (upstream_until - marks.started)
        headers = [
            (b"content-type", exchange.content_type),
            *(STREAM_HEADERS if exchange.streamed else ()),
            (b"x-request-id", call.request_id.encode()),
            target.header,
            job.route.header,
            (b"x-turnout-attempts", b"%d" % attempt.number),
            (b"x-turnout-decision", attempt.reason.encode()),
            (b"x-turnout-overhead-ms", b"%.2f" % (overhead_s * 1e3)),
            (b"x-turnout-ttft-ms", b"%.1f" % ((first_token - job.client.started_at) * 1e3)),
            *exchange.notes,
        ]
        if not exchange.streamed:
            headers.append((b"content-length", b"%d" % length))
            cost = usd(cost_nusd(target.price, None if (usage := exchange.usage) is None else plausible(usage)))
            if cost is not None:
                headers.append((b"x-turnout-cost-usd", cost.encode()))
        return headers
