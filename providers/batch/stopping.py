"""Cancelling, whoever runs the job: one that has ended stays as it is, and that it had ended is no error."""

from collections.abc import Awaitable, Callable

from contract.errors import AttemptError
from providers.batch.port import Job
from providers.batch.session import answered


async def stop(request: Awaitable[object], status: Callable[[], Awaitable[Job]], *too_late: int) -> Job:
    """The job after the request. `too_late`: the statuses by which the provider says that there is nothing left to cancel."""
    try:
        await request
    except AttemptError as error:
        if not answered(error, *too_late):
            raise
        job = await status()
        if not job.ended and job.state != "cancelling":
            raise
        return job
    return await status()
