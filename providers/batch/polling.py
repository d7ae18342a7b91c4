"""How often a job is asked for: seldom, less often the longer it takes, never all at once, and as late as the provider asks.

`pause_s` decides, `watch` waits.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
import structlog

from contract.errors import (
    AttemptTimeout,
    ConnectFailed,
    ConnectionLost,
    MalformedResponse,
    RateLimited,
    StreamCut,
    UpstreamError,
)
from providers.batch.port import BatchClient, Job, JobRef

PASSING = (AttemptTimeout, ConnectFailed, ConnectionLost, MalformedResponse, RateLimited, StreamCut, UpstreamError)

log = structlog.get_logger("turnout.batch")


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `first_s` after a change, then `factor` times as long, up to `most_s`; each is spread by `jitter` of itself either way.

    Batches take minutes to a day, and providers ask for pauses of half a minute and more.
    """

    first_s: float = 15.0
    most_s: float = 300.0
    factor: float = 1.5
    jitter: float = 0.2


PACE = Pace()
MAX_DOUBLINGS = 64


def pause_s(pace: Pace, quiet: int, retry_after_s: float | None, chance: float) -> float:
    """How long to wait. `quiet`: how many times nothing had changed, or the provider failed. `chance`: from 0 to 1. Never under `retry_after_s`."""
    wait_s = min(pace.most_s, pace.first_s * pace.factor ** min(quiet, MAX_DOUBLINGS))
    wait_s *= 1 + pace.jitter * (2 * chance - 1)
    return wait_s if retry_after_s is None else max(wait_s, retry_after_s + pace.jitter * chance * pace.first_s)


async def watch(
    client: BatchClient,
    ref: JobRef,
    pace: Pace = PACE,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    chance: Callable[[], float] = random.random,
) -> AsyncGenerator[Job, None]:
    """The job each time that something of it has changed; the last one has ended.

    A provider that fails is asked again. Raises the AttemptError that asking again will not mend: the key, or the job, is not known there.
    """
    last: Job | None = None
    quiet = 0
    while True:
        retry_after_s = None
        try:
            job = await client.status(ref)
        except PASSING as error:
            log.warning("batch_not_polled", provider=client.name, job=ref.id, error=error.reason)
            retry_after_s = error.retry_after_s
            quiet += 1
        else:
            if job != last:
                quiet = 0 if last is None or job.state != last.state else quiet
                last = job
                yield job
            if job.ended:
                return
            quiet += 1
        await sleep(pause_s(pace, quiet, retry_after_s, chance()))
