"""OpenAI's batches, and those of who has taken them over: Azure and Groq. A file of requests, a job, a file of answers and one of errors.

https://developers.openai.com/api/reference/resources/batches, https://learn.microsoft.com/azure/foundry/reference/rest/batches-create-batch,
https://console.groq.com/docs/batch. What differs between the three stands in a `Flavour`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import quote
from uuid import uuid4

import msgspec

from contract.errors import AttemptError, UpstreamOverloaded, UpstreamRejected
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
    RowState,
    Submission,
    too_many,
)
from providers.batch.rows import Form, Rows, Told, read_line
from providers.batch.session import Session, answered, decoded, form
from providers.batch.stopping import stop
from providers.http.upload import FileBody

KEY_FIELD = "turnout_key"
NAME = "turnout-{key}.jsonl"
PAGE = 100
CLOCK_SLACK_S = 600.0  # how far the provider's clock may be from ours
UNDER_WAY = ("pending", "running", "notRunning")  # Azure's words for a file that it is still reading
UNUSABLE = ("error", "failed", "canceled", "deleted")
FIRST_PAUSE_S, MOST_PAUSE_S = 0.25, 60.0  # in all some three minutes
STATES: dict[str, JobState] = {
    "validating": "validating",
    "in_progress": "running",
    "finalizing": "finalizing",
    "completed": "completed",
    "failed": "failed",
    "expired": "expired",
    "cancelling": "cancelling",
    "cancelled": "cancelled",
}
LOST: dict[str, RowState] = {"batch_expired": "expired", "batch_cancelled": "cancelled"}
# what an error without an HTTP response stands for
STATUS_OF_CODE = {"rate_limit_exceeded": 429, "token_limit_exceeded": 429, "invalid_request": 400, "invalid_request_error": 400}


J = TypeVar("J", bound=msgspec.Struct)


class Flavour(msgspec.Struct, frozen=True, kw_only=True):
    """`base`: what its batches and files stand below, under the provider's base path. `days`: windows of more than a day may be asked for."""

    limits: Limits
    base: str = ""
    days: bool = False


_CHAT = frozenset({"/v1/chat/completions"})
_ALL = _CHAT | {"/v1/responses", "/v1/completions", "/v1/embeddings"}
OPENAI = Flavour(limits=Limits(rows=50_000, size=200_000_000, endpoints=_ALL, inputs=50_000))
AZURE = Flavour(limits=Limits(rows=50_000, size=200_000_000, endpoints=_ALL, expires=False, inputs=50_000), base="/v1")
GROQ = Flavour(limits=Limits(rows=50_000, size=200_000_000, endpoints=_CHAT, windows_s=(24 * HOUR_S, 7 * 24 * HOUR_S)), days=True)


class _Counts(msgspec.Struct):
    total: int | None = None
    completed: int | None = None
    failed: int | None = None


class _Batch(msgspec.Struct):
    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    metadata: dict[str, str] | None = None
    created_at: float | None = None
    expires_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelled_at: float | None = None


class _Batches(msgspec.Struct):
    data: list[_Batch] | None = None
    has_more: bool | None = None


class _File(msgspec.Struct):
    id: str
    status: str | None = None


class _Response(msgspec.Struct):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def request_line(key: str, id_: str, endpoint: str, body: bytes) -> bytes:
    return msgspec.json.encode({"custom_id": id_, "method": "POST", "url": endpoint, "body": msgspec.Raw(body)})


def told(line: bytes) -> Told:
    """A line of an output or error file. Raises MalformedResponse."""
    read = read_line(line, _Line)
    if read.error is not None and (read.error.code or read.error.message):
        code = str(read.error.code)
        if code in LOST:
            return Told(id=read.custom_id, state=LOST[code])
        if read.response is None or read.response.status_code < 400:
            body = msgspec.json.encode({"error": {"code": read.error.code, "message": read.error.message}})
            return Told(id=read.custom_id, state="errored", status=STATUS_OF_CODE.get(code, 500), body=body)
    if read.response is None:
        return Told(id=read.custom_id, state="errored", status=500)
    state: RowState = "succeeded" if read.response.status_code == 200 else "errored"
    return Told(id=read.custom_id, state=state, status=read.response.status_code or 500, body=bytes(read.response.body))


ROWS = Form(request_line)


class JobFiles(NamedTuple):
    """A job's files at the provider; None: there is none, or none yet."""

    inputs: Sequence[str | None]
    output: str | None
    error: str | None


class Files:
    """Files at the provider, by the API that OpenAI's batches use. `base`: what `/files` stands below."""

    def __init__(self, session: Session, base: str = "", upload: str = "/files") -> None:
        self._session = session
        self._base = base
        self._upload = upload

    async def send(self, part: Part, key: str, fields: Mapping[str, str]) -> str:
        """A part's id there, once it may be used. Raises UpstreamRejected for a file that the provider cannot use."""
        before, after, headers = form(fields, NAME.format(key=key), f"turnout-{uuid4().hex}")
        body = FileBody(file=part.file, size=part.size, before=before, after=after)
        file = decoded(await self._session.send_file("POST", self._base + self._upload, body, headers), _File)
        pause_s = FIRST_PAUSE_S
        while file.status in UNDER_WAY:
            if pause_s > MOST_PAUSE_S:
                raise UpstreamOverloaded("the provider takes too long to make a batch's file ready")
            await asyncio.sleep(pause_s)
            pause_s *= 1.5
            file = decoded(await self._session.call("GET", f"{self._base}/files/{quote(file.id, safe='')}"), _File)
        if file.status in UNUSABLE:
            raise UpstreamRejected("the provider cannot use the batch's file")
        return file.id

    async def lines(self, *ids: str | None) -> AsyncGenerator[bytes, None]:
        """The lines of those that there are, one file after the other."""
        for id_ in filter(None, ids):
            async with aclosing(self._session.lines(f"{self._base}/files/{quote(id_, safe='')}/content")) as lines:
                async for line in lines:
                    yield line

    async def delete(self, *ids: str | None) -> None:
        """Those that are gone already count for deleted."""
        for id_ in filter(None, ids):
            try:
                await self._session.call("DELETE", f"{self._base}/files/{quote(id_, safe='')}")
            except AttemptError as error:
                if not answered(error, 404):
                    raise


class FileJobs(ABC, Generic[J]):
    """What is the same of all whose jobs read a file of rows and write an output and an error file: most of `providers.batch.port.BatchClient`.

    `path`: of the jobs. `kind`: a job as the provider tells of it. `over`: the statuses with which it refuses to cancel a job that has ended.
    """

    limits: Limits
    over: tuple[int, ...] = (400, 409)

    def __init__(self, name: str, session: Session, rows: Rows, files: Files, path: str, kind: type[J]) -> None:
        self.name = name
        self._session = session
        self._rows = rows
        self._files = files
        self._path = path
        self._kind = kind

    @abstractmethod
    def _seen(self, job: J, ref: JobRef) -> Job: ...

    @abstractmethod
    def _files_of(self, job: J) -> JobFiles: ...

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def status(self, ref: JobRef) -> Job:
        return self._seen(await self._job(ref), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref), told, ref.model, asked)

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{self._path}/{quote(ref.id, safe='')}/cancel")
        return await stop(request, lambda: self.status(ref), *self.over)

    async def forget(self, ref: JobRef) -> None:
        files = self._files_of(await self._job(ref))
        await self._files.delete(*files.inputs, files.output, files.error)

    async def _job(self, ref: JobRef) -> J:
        return decoded(await self._session.call("GET", f"{self._path}/{quote(ref.id, safe='')}"), self._kind)

    async def _lines(self, ref: JobRef) -> AsyncGenerator[bytes, None]:
        files = self._files_of(await self._job(ref))
        async with aclosing(self._files.lines(files.output, files.error)) as lines:
            async for line in lines:
                yield line


class OpenAIBatches(FileJobs[_Batch]):
    """Implements `providers.batch.port.BatchClient`."""

    def __init__(self, name: str, session: Session, rows: Rows, flavour: Flavour) -> None:
        super().__init__(name, session, rows, Files(session, flavour.base), f"{flavour.base}/batches", _Batch)
        self.limits = flavour.limits
        self._flavour = flavour

    def _files_of(self, job: _Batch) -> JobFiles:
        return JobFiles((job.input_file_id,), job.output_file_id, job.error_file_id)

    async def submit(self, part: Part, submission: Submission) -> Job:
        file = await self._files.send(part, submission.key, {"purpose": "batch"})
        asked = {
            "input_file_id": file,
            "endpoint": part.endpoint,
            "completion_window": self._window(submission.window_s),
            "metadata": {KEY_FIELD: submission.key},
        }
        created = decoded(await self._session.call("POST", self._path, asked), _Batch)
        return self._seen(created, JobRef(created.id, submission.key, submission.model))

    def _window(self, window_s: int) -> str:
        """A day, or where more may be asked for, as many whole days as fit."""
        shortest, longest = self.limits.windows_s
        days = max(shortest, min(longest, window_s)) // (24 * HOUR_S)
        return f"{days}d" if self._flavour.days and days > 1 else "24h"

    async def find(self, submission: Submission) -> Job | None:
        after = ""
        for _ in range(MAX_PAGES):
            page = decoded(await self._session.call("GET", f"{self._path}?limit={PAGE}{after}"), _Batches)
            batches = page.data or []
            for batch in batches:
                if batch.metadata is not None and batch.metadata.get(KEY_FIELD) == submission.key:
                    return self._seen(batch, JobRef(batch.id, submission.key, submission.model))
            if not page.has_more or not batches or _all_older(batches, submission.since_s):
                return None
            after = f"&after={quote(batches[-1].id, safe='')}"
        raise too_many(submission.key)

    def _seen(self, job: _Batch, ref: JobRef) -> Job:
        counts = job.request_counts or _Counts()
        known = bool(counts.total)  # nothing is counted before the file is read
        return Job(
            ref=ref,
            state=STATES.get(job.status, "running"),
            native=job.status,
            counts=Counts(total=counts.total, succeeded=counts.completed, errored=counts.failed) if known else Counts(),
            created_s=job.created_at,
            expires_s=job.expires_at,
            ended_s=job.completed_at or job.failed_at or job.expired_at or job.cancelled_at,
        )


def _all_older(batches: list[_Batch], since_s: float) -> bool:
    """Whether what follows in the list was made before; a list that does not begin with the newest is read to its end."""
    first, last = batches[0].created_at, batches[-1].created_at
    return first is not None and last is not None and first >= last and last < since_s - CLOCK_SLACK_S
