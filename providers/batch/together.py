"""Together's batches: OpenAI's files and rows, with jobs of Together's own. They carry no metadata: a job is found by its input file's name.

https://docs.together.ai/docs/inference/batch/manage, https://docs.together.ai/reference/batch-create.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import quote

import msgspec

from providers.batch.openai_files import NAME, Files, request_line, told
from providers.batch.port import Asked, BatchRow, Job, JobRef, JobState, Limits, Part, Refused, RowResult, Submission
from providers.batch.rows import Form, Rows
from providers.batch.session import Session, decoded
from providers.batch.stopping import stop
from providers.batch.times import unix_s

# the discount is not the same for every model (docs.together.ai/docs/inference/batch/overview)
LIMITS = Limits(rows=50_000, size=100_000_000, endpoints=frozenset({"/v1/chat/completions"}), percent_off=None)
STATES: dict[str, JobState] = {
    "VALIDATING": "validating",
    "IN_PROGRESS": "running",
    "COMPLETED": "completed",
    "FAILED": "failed",
    "EXPIRED": "expired",
    "CANCELLED": "cancelled",
}
JOBS = "/batches"


class _Job(msgspec.Struct):
    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: str | None = None
    job_deadline: str | None = None
    completed_at: str | None = None


class _Created(msgspec.Struct):
    job: _Job


class _File(msgspec.Struct):
    id: str
    filename: str | None = None


class _Listed(msgspec.Struct):
    data: list[_File] | None = None


ROWS = Form(request_line)


class TogetherBatches:
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, rows: Rows) -> None:
        self.name = name
        self._session = session
        self._rows = rows
        self._files = Files(session, upload="/files/upload")

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def submit(self, part: Part, submission: Submission) -> Job:
        fields = {"purpose": "batch-api", "file_name": NAME.format(key=submission.key)}
        asked = {"input_file_id": await self._files.send(part, submission.key, fields), "endpoint": part.endpoint, "completion_window": "24h"}
        created = decoded(await self._session.call("POST", JOBS, asked), _Created).job
        return _job(created, JobRef(created.id, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        name = NAME.format(key=submission.key)
        listed = decoded(await self._session.call("GET", "/files"), _Listed).data or []
        files = {file.id for file in listed if file.filename == name}
        if not files:
            return None
        for job in decoded(await self._session.call("GET", JOBS), list[_Job]):
            if job.input_file_id in files:
                return _job(job, JobRef(job.id, submission.key, submission.model))
        return None

    async def _told(self, ref: JobRef) -> _Job:
        return decoded(await self._session.call("GET", f"{JOBS}/{quote(ref.id, safe='')}"), _Job)

    async def status(self, ref: JobRef) -> Job:
        return _job(await self._told(ref), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref), told, ref.model, asked)

    async def _lines(self, ref: JobRef) -> AsyncGenerator[bytes, None]:
        job = await self._told(ref)
        async with aclosing(self._files.lines(job.output_file_id, job.error_file_id)) as lines:
            async for line in lines:
                yield line

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{JOBS}/{quote(ref.id, safe='')}/cancel")
        return await stop(request, lambda: self.status(ref), 400, 409)

    async def forget(self, ref: JobRef) -> None:
        job = await self._told(ref)
        await self._files.delete(job.input_file_id, job.output_file_id, job.error_file_id)


def _job(job: _Job, ref: JobRef) -> Job:
    return Job(
        ref=ref,
        state=STATES.get(job.status, "running"),
        native=job.status,
        created_s=unix_s(job.created_at),
        expires_s=unix_s(job.job_deadline),
        ended_s=unix_s(job.completed_at),
    )
