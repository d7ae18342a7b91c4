"""Bedrock's batch inference: a file of Converse requests in S3, a job, and files of answers in S3.

https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html, …/APIReference/API_CreateModelInvocationJob.html (whose
`modelInvocationType` Converse takes what live requests take), https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import msgspec

from contract.errors import AttemptError, MalformedResponse, TargetCannot
from providers.address import HeaderTuple
from providers.batch.openai_files import CLOCK_SLACK_S
from providers.batch.port import (
    HOUR_S,
    MAX_PAGES,
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
from providers.batch.rows import Form, Rows, Told, read_line
from providers.batch.session import Session, answered, decoded
from providers.batch.stopping import stop
from providers.batch.times import unix_s
from providers.http.upload import FileBody
from providers.sigv4 import Credentials, Request, Scope, sign

# Amazon's default quotas (docs.aws.amazon.com/general/latest/gr/bedrock.html): some models and accounts have others
LIMITS = Limits(
    rows=50_000,
    size=1_000_000_000,
    min_rows=100,
    endpoints=frozenset({"converse"}),
    windows_s=(24 * HOUR_S, 168 * HOUR_S),
)
STATES: dict[str, JobState] = {
    "Submitted": "queued",
    "Validating": "validating",
    "Scheduled": "queued",
    "InProgress": "running",
    "Completed": "completed",
    "PartiallyCompleted": "partial",
    "Failed": "failed",
    "Stopping": "cancelling",
    "Stopped": "cancelled",
    "Expired": "expired",
}
INPUT = "input.jsonl"
JOBS = "/model-invocation-job"
PAGE = 1000


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where files go, and as whom the job reads and writes them. `prefix`: of every key in the bucket, without a slash at its ends."""

    bucket: str
    prefix: str
    role_arn: str

    def folder(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key


class AmazonSigning:
    """Signature Version 4 of any method, for one service. Implements `providers.batch.session.Signer`."""

    def __init__(self, credentials: Credentials, region: str, service: str) -> None:
        self._credentials = credentials
        self._scope = Scope(region, service)

    def headers(self, method: str, host: str, path: str, body_sha256: str) -> HeaderTuple:
        path, _, query = path.partition("?")
        content = ((b"x-amz-content-sha256", body_sha256.encode()),)
        request = Request(method, host, path, query, content, body_sha256=body_sha256)
        return (*content, *sign(request, self._credentials, self._scope, datetime.now(UTC)))


class _Job(msgspec.Struct, rename="camel"):
    job_arn: str
    status: str = "Submitted"
    job_name: str | None = None
    submit_time: str | None = None
    end_time: str | None = None
    job_expiration_time: str | None = None
    total_record_count: int | None = None
    success_record_count: int | None = None
    error_record_count: int | None = None


class _Jobs(msgspec.Struct, rename="camel"):
    invocation_job_summaries: list[_Job] = []
    next_token: str | None = None


class _Error(msgspec.Struct, rename="camel"):
    error_code: int = 500
    error_message: str = ""


class _Line(msgspec.Struct, rename="camel"):
    record_id: str
    model_output: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


def request_line(key: str, id_: str, endpoint: str, body: bytes) -> bytes:
    return msgspec.json.encode({"recordId": id_, "modelInput": msgspec.Raw(body)})


def told(line: bytes) -> Told:
    """A line of results. Raises MalformedResponse."""
    read = read_line(line, _Line)
    if read.error is not None or not read.model_output:
        error = read.error or _Error()
        return Told(id=read.record_id, state="errored", status=error.error_code, body=msgspec.json.encode({"message": error.error_message}))
    return Told(id=read.record_id, state="succeeded", body=bytes(read.model_output))


ROWS = Form(request_line, endpoint=lambda path: path.rpartition("/")[2])


class BedrockBatches:
    """Implements `providers.batch.port.BatchClient`. `session`: Bedrock's own API; `bucket`: S3's, below the bucket."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, bucket: Session, rows: Rows, place: Place) -> None:
        self.name = name
        self._session = session
        self._bucket = bucket
        self._rows = rows
        self._place = place

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def submit(self, part: Part, submission: Submission) -> Job:
        if part.rows < LIMITS.min_rows:
            raise TargetCannot(f"the provider takes no batch of fewer than {LIMITS.min_rows} requests")
        folder = self._place.folder(submission.key)
        body = FileBody(file=part.file, size=part.size)
        await self._bucket.send_file("PUT", f"/{quote(folder)}/{INPUT}", body, ((b"content-type", b"application/jsonl"),), part.sha256)
        shortest, longest = LIMITS.windows_s
        asked = {
            "jobName": submission.key,
            "clientRequestToken": submission.key,
            "roleArn": self._place.role_arn,
            "modelId": part.model,
            "modelInvocationType": "Converse",
            "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"s3://{self._place.bucket}/{folder}/{INPUT}"}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{self._place.bucket}/{folder}/output/"}},
            "timeoutDurationInHours": max(shortest, min(longest, submission.window_s)) // HOUR_S,
        }
        created = decoded(await self._session.call("POST", JOBS, asked), _Job)
        return _job(created, JobRef(created.job_arn, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        token = ""
        since = datetime.fromtimestamp(submission.since_s - CLOCK_SLACK_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        query = f"maxResults={PAGE}&nameContains={quote(submission.key, safe='')}&submitTimeAfter={quote(since, safe='')}"
        for _ in range(MAX_PAGES):
            page = decoded(await self._session.call("GET", f"{JOBS}s?{query}{token}"), _Jobs)
            for job in page.invocation_job_summaries:
                if job.job_name == submission.key:
                    return _job(job, JobRef(job.job_arn, submission.key, submission.model))
            if page.next_token is None:
                return None
            token = f"&nextToken={quote(page.next_token, safe='')}"
        raise too_many(submission.key)

    async def status(self, ref: JobRef) -> Job:
        return _job(decoded(await self._session.call("GET", f"{JOBS}/{quote(ref.id, safe='')}"), _Job), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref), told, ref.model, asked)

    async def _lines(self, ref: JobRef) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._objects(f"{self._place.folder(ref.key)}/output/")) as names:
            async for name in names:
                if not name.endswith(".jsonl.out"):
                    continue
                async with aclosing(self._bucket.lines(f"/{quote(name)}")) as lines:
                    async for line in lines:
                        yield line

    async def _objects(self, prefix: str) -> AsyncGenerator[str, None]:
        """The keys in the bucket that begin so."""
        token = ""
        for _ in range(MAX_PAGES):
            page = await self._bucket.call("GET", f"/?{token}list-type=2&prefix={quote(prefix, safe='')}")
            try:
                listed: Any = ElementTree.fromstring(page)
            except ElementTree.ParseError as exc:
                raise MalformedResponse("the bucket was not listed as S3 lists one") from exc
            for found in listed.iterfind("{*}Contents/{*}Key"):
                yield found.text or ""
            following = listed.findtext("{*}NextContinuationToken")
            if not following:
                return
            token = f"continuation-token={quote(following, safe='')}&"

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{JOBS}/{quote(ref.id, safe='')}/stop")
        return await stop(request, lambda: self.status(ref), 400, 409)

    async def forget(self, ref: JobRef) -> None:
        async with aclosing(self._objects(f"{self._place.folder(ref.key)}/")) as names:
            found = [name async for name in names]
        for name in found:
            try:
                await self._bucket.call("DELETE", f"/{quote(name)}")
            except AttemptError as error:
                if not answered(error, 404):
                    raise


def _job(job: _Job, ref: JobRef) -> Job:
    return Job(
        ref=ref,
        state=STATES.get(job.status, "running"),
        native=job.status,
        counts=Counts(total=job.total_record_count, succeeded=job.success_record_count, errored=job.error_record_count),
        created_s=unix_s(job.submit_time),
        expires_s=unix_s(job.job_expiration_time),
        ended_s=unix_s(job.end_time),
    )
