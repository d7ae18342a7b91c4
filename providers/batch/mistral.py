"""Mistral's batch jobs: OpenAI's files, with jobs of Mistral's own, whose model stands in the job and not in its rows.

https://docs.mistral.ai/capabilities/batch, https://docs.mistral.ai/api/endpoint/batch.
"""

from typing import Any

import msgspec

from providers.batch.openai_files import CLOCK_SLACK_S, KEY_FIELD, PAGE, FileJobs, Files, JobFiles
from providers.batch.port import (
    HOUR_S,
    MAX_PAGES,
    MOST_ROWS,
    Counts,
    Job,
    JobRef,
    JobState,
    Limits,
    Part,
    Submission,
    too_many,
)
from providers.batch.rows import Form, Rows
from providers.batch.session import Session, decoded

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


class MistralBatches(FileJobs[_Job]):
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS
    over = (400, 409, 422)

    def __init__(self, name: str, session: Session, rows: Rows) -> None:
        super().__init__(name, session, rows, Files(session), JOBS, _Job)

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
        return self._seen(created, JobRef(created.id, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        for number in range(MAX_PAGES):
            page = await self._session.call("GET", f"{JOBS}?page={number}&page_size={PAGE}&order_by=-created")
            jobs = decoded(page, _Jobs).data or []
            for job in jobs:
                if job.metadata is not None and job.metadata.get(KEY_FIELD) == submission.key:
                    return self._seen(job, JobRef(job.id, submission.key, submission.model))
            oldest = jobs[-1].created_at if jobs else None
            if len(jobs) < PAGE or (oldest is not None and oldest < submission.since_s - CLOCK_SLACK_S):
                return None
        raise too_many(submission.key)

    def _files_of(self, job: _Job) -> JobFiles:
        return JobFiles(job.input_files or (), job.output_file, job.error_file)

    def _seen(self, job: _Job, ref: JobRef) -> Job:
        counts = Counts()
        if job.total_requests:  # nothing is counted before the file is read
            counts = Counts(total=job.total_requests, succeeded=job.succeeded_requests, errored=job.failed_requests)
        return Job(
            ref=ref,
            state=STATES.get(job.status, "running"),
            native=job.status,
            counts=counts,
            created_s=job.created_at,
            ended_s=job.completed_at,
        )
