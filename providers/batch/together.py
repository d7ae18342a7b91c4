"""Together's batches: OpenAI's files and rows, with jobs of Together's own. They carry no metadata: a job is found by its input file's name.

https://docs.together.ai/docs/inference/batch/manage, https://docs.together.ai/reference/batch-create.
"""

import msgspec

from providers.batch.openai_files import NAME, FileJobs, Files, JobFiles, request_line
from providers.batch.port import Job, JobRef, JobState, Limits, Part, Submission
from providers.batch.rows import Form, Rows
from providers.batch.session import Session, decoded
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


class TogetherBatches(FileJobs[_Job]):
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, rows: Rows) -> None:
        super().__init__(name, session, rows, Files(session, upload="/files/upload"), JOBS, _Job)

    async def submit(self, part: Part, submission: Submission) -> Job:
        fields = {"purpose": "batch-api", "file_name": NAME.format(key=submission.key)}
        asked = {"input_file_id": await self._files.send(part, submission.key, fields), "endpoint": part.endpoint, "completion_window": "24h"}
        created = decoded(await self._session.call("POST", JOBS, asked), _Created).job
        return self._seen(created, JobRef(created.id, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        name = NAME.format(key=submission.key)
        listed = decoded(await self._session.call("GET", "/files"), _Listed).data or []
        files = {file.id for file in listed if file.filename == name}
        if not files:
            return None
        for job in decoded(await self._session.call("GET", JOBS), list[_Job]):
            if job.input_file_id in files:
                return self._seen(job, JobRef(job.id, submission.key, submission.model))
        return None

    def _files_of(self, job: _Job) -> JobFiles:
        return JobFiles((job.input_file_id,), job.output_file_id, job.error_file_id)

    def _seen(self, job: _Job, ref: JobRef) -> Job:
        return Job(
            ref=ref,
            state=STATES.get(job.status, "running"),
            native=job.status,
            created_s=unix_s(job.created_at),
            expires_s=unix_s(job.job_deadline),
            ended_s=unix_s(job.completed_at),
        )
