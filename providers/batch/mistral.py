"""Mistral's batch jobs: OpenAI's files, with jobs of Mistral's own, whose model stands in the job and not in its rows.

https://docs.mistral.ai/capabilities/batch, https://docs.mistral.ai/api/endpoint/batch.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from providers.batch.openai_files import CLOCK_SLACK_S, KEY_FIELD, PAGE, Files, told
from providers.batch.port import (
    HOUR_S,
    MAX_PAGES,
    MOST_ROWS,
    Asked,
    BatchRow,
    Counts,
    Job,
    JobRef,
    JobState,
    Limits,
    Part,
    Refused,
    RowResult,
    Submission,
    too_many,
)
from providers.batch.rows import Form, Rows
from providers.batch.session import Session, decoded
from providers.batch.stopping import stop

LIMITS = Limits(
    rows=MOST_ROWS,
    size=512_000_000,
    endpoints=frozenset({"/v1/chat/completions", "/v1/embeddings"}),
    windows_s=(HOUR_S, 7 * 24 * HOUR_S),
)
STATES: dict[str, JobState] = {
    "QUEUED": "queued",
    "RUNNING": "running",
    "SUCCESS": "completed",
    "FAILED": "failed",
    "TIMEOUT_EXCEEDED": "expired",
    "CANCELLATION_REQUESTED": "cancelling",
    "CANCELLED": "cancelled",
}
JOBS = "/batch/jobs"


class _Job(msgspec.Struct):
    id: str
    status: str
    input_files: list[str] | None = None
    output_file: str | None = None
    error_file: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: float | None = None
    completed_at: float | None = None
    total_requests: int | None = None
    succeeded_requests: int | None = None
    failed_requests: int | None = None


class _Jobs(msgspec.Struct):
    data: list[_Job] | None = None


def request_line(key: str, id_: str, endpoint: str, body: bytes) -> bytes:
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields.pop("model", None)
    return msgspec.json.encode({"custom_id": id_, "body": fields})


ROWS = Form(request_line)


class MistralBatches:
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, rows: Rows) -> None:
        self.name = name
        self._session = session
        self._rows = rows
        self._files = Files(session)

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def submit(self, part: Part, submission: Submission) -> Job:
        shortest, longest = self.limits.windows_s
        asked = {
            "input_files": [await self._files.send(part, submission.key, {"purpose": "batch"})],
            "model": part.model,
            "endpoint": part.endpoint,
            "metadata": {KEY_FIELD: submission.key},
            "timeout_hours": max(shortest, min(longest, submission.window_s)) // HOUR_S,
        }
        created = decoded(await self._session.call("POST", JOBS, asked), _Job)
        return _job(created, JobRef(created.id, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        for number in range(MAX_PAGES):
            page = await self._session.call("GET", f"{JOBS}?page={number}&page_size={PAGE}&order_by=-created")
            jobs = decoded(page, _Jobs).data or []
            for job in jobs:
                if job.metadata is not None and job.metadata.get(KEY_FIELD) == submission.key:
                    return _job(job, JobRef(job.id, submission.key, submission.model))
            oldest = jobs[-1].created_at if jobs else None
            if len(jobs) < PAGE or (oldest is not None and oldest < submission.since_s - CLOCK_SLACK_S):
                return None
        raise too_many(submission.key)

    async def _told(self, ref: JobRef) -> _Job:
        return decoded(await self._session.call("GET", f"{JOBS}/{quote(ref.id, safe='')}"), _Job)

    async def status(self, ref: JobRef) -> Job:
        return _job(await self._told(ref), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref), told, ref.model, asked)

    async def _lines(self, ref: JobRef) -> AsyncGenerator[bytes, None]:
        job = await self._told(ref)
        async with aclosing(self._files.lines(job.output_file, job.error_file)) as lines:
            async for line in lines:
                yield line

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{JOBS}/{quote(ref.id, safe='')}/cancel")
        return await stop(request, lambda: self.status(ref), 400, 409, 422)

    async def forget(self, ref: JobRef) -> None:
        job = await self._told(ref)
        await self._files.delete(*(job.input_files or []), job.output_file, job.error_file)


def _job(job: _Job, ref: JobRef) -> Job:
    return Job(
        ref=ref,
        state=STATES.get(job.status, "running"),
        native=job.status,
        counts=Counts(total=job.total_requests, succeeded=job.succeeded_requests, errored=job.failed_requests) if job.total_requests else Counts(),
        created_s=job.created_at,
        ended_s=job.completed_at,
    )
