"""An attempt up to its commit point: opened, its first output in hand, under `hold` as much of its stream as the client is behind."""

import asyncio
from time import monotonic

import msgspec

from contract.call import Call
from contract.errors import AttemptError, AttemptTimeout
from contract.patience import Patience
from gateway.delay import DelayLine
from gateway.job import Attempt, Job
from gateway.learning import began
from gateway.record import Recorder
from providers.port import Exchange


class Opened(msgspec.Struct):
    """An answer that the client may have from here on. `piece`: what it gets first. `ended`: that is all. `line`: what runs behind."""

    attempt: Attempt
    exchange: Exchange
    piece: bytes
    ended: bool
    line: DelayLine | None = None


async def begin(job: Job, attempt: Attempt, patience: Patience | None, recorder: Recorder, call: Call | None = None) -> Opened:
    """Raises AttemptError, unrecorded; whatever else ends it has ended its books too. `call`: what is asked instead of the job's own.

    Raises LedgerUnavailable when nothing may be sent, for it could not be noted.
    """
    rule = job.rule
    recorder.begins(job, attempt)
    if job.trace is not None:
        attempt.marks.trace = job.trace.headers(attempt.number)
    try:
        exchange = attempt.exchange = await attempt.target.backend.open(call or job.call, attempt.target.model, attempt.marks, rule.drop, patience)
        piece = await exchange.next()
        attempt.answers()
        began(job, attempt)
        if rule.recovery == "hold" and exchange.streamed and call is None:
            return await _held(attempt, exchange, piece, DelayLine(rule.commit_after_s))
    except asyncio.CancelledError:
        left(job, attempt, recorder)
        raise
    except AttemptError:
        raise
    except BaseException:  # the request is at fault, or we are: it says nothing of the target
        recorder.came_to_nothing(job, attempt)
        attempt.over(None)
        raise
    return Opened(attempt, exchange, piece, ended=not exchange.streamed)


async def _held(attempt: Attempt, exchange: Exchange, piece: bytes, line: DelayLine) -> Opened:
    """Reads on until something is due to the client, or all is there."""
    progressed_at = monotonic()
    while piece:
        now = monotonic()
        if due := line.push(piece, now, exchange.progressed):
            return Opened(attempt, exchange, due, False, line)
        if exchange.progressed:
            progressed_at = now
        piece = await _next(attempt, exchange, progressed_at)
    return Opened(attempt, exchange, line.drain(), True, line)


async def _next(attempt: Attempt, exchange: Exchange, progressed_at: float) -> bytes:
    """While nothing was released: until the attempt's share of the time to the deadline is over, or for half of that after its last progress."""
    if attempt.share_s is None:
        return await exchange.next()
    allowed_s = max(attempt.marks.started + attempt.share_s, progressed_at + attempt.share_s / 2) - monotonic()
    try:
        async with asyncio.timeout(allowed_s):
            return await exchange.next()
    except TimeoutError:
        exchange.abort()
        attempt.stopped_short = True
        raise AttemptTimeout("idle", attempt.share_s / 2) from None


def left(job: Job, attempt: Attempt, recorder: Recorder) -> None:
    """The attempt's task was cancelled: by another attempt that answered, by a client that left, or by a server that stops."""
    if attempt.exchange is not None:
        attempt.exchange.abort()
    if attempt.abandoned:
        recorder.record(job, attempt, "abandoned", "abandoned")
    elif job.client.left:
        recorder.record(job, attempt, "client_closed", "client_closed")
    else:
        recorder.record(job, attempt, "cut" if job.client.status else "failed", "server_shutting_down")
