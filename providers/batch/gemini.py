"""Gemini's batches: a file of requests that is uploaded, a long-running operation, and a file of answers.

https://ai.google.dev/gemini-api/docs/batch-api, https://ai.google.dev/api/batch-api, https://ai.google.dev/gemini-api/docs/files.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from contract.errors import AttemptError, MalformedResponse
from providers.address import page_address
from providers.batch.openai_files import CLOCK_SLACK_S, PAGE
from providers.batch.port import (
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
from providers.batch.rows import Form, Rows, Told, read_line
from providers.batch.session import Session, answered, decoded, header
from providers.batch.stopping import stop
from providers.batch.times import unix_s
from providers.http.upload import FileBody
from providers.wires.gemini.path import model_path

# of rows no number is documented
LIMITS = Limits(rows=MOST_ROWS, size=2_000_000_000, endpoints=frozenset({"generateContent"}))
STATES: dict[str, JobState] = {
    "PENDING": "queued",
    "RUNNING": "running",
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}
PREFIXES = ("BATCH_STATE_", "JOB_STATE_")
# google.rpc.Code -> HTTP's (cloud.google.com/apis/design/errors)
STATUS_OF_CODE = {
    1: 499,
    2: 500,
    3: 400,
    4: 504,
    5: 404,
    6: 409,
    7: 403,
    8: 429,
    9: 400,
    10: 409,
    11: 400,
    12: 501,
    13: 500,
    14: 503,
    15: 500,
    16: 401,
}


class _Stats(msgspec.Struct, rename="camel"):
    """Counts, which are strings."""

    request_count: str | int | None = None
    successful_request_count: str | int | None = None
    failed_request_count: str | int | None = None


class _Input(msgspec.Struct, rename="camel"):
    file_name: str | None = None


class _Output(msgspec.Struct, rename="camel"):
    responses_file: str | None = None


class _Batch(msgspec.Struct, rename="camel"):
    state: str = ""
    display_name: str | None = None
    batch_stats: _Stats | None = None
    input_config: _Input | None = None
    output: _Output | None = None
    create_time: str | None = None
    end_time: str | None = None


class _Operation(msgspec.Struct, rename="camel"):
    name: str
    metadata: _Batch = msgspec.field(default_factory=_Batch)
    done: bool = False
    response: _Output | None = None


class _Operations(msgspec.Struct, rename="camel"):
    operations: list[_Operation] = []
    next_page_token: str = ""


class _Uploaded(msgspec.Struct):
    name: str


class _File(msgspec.Struct):
    file: _Uploaded


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""
    details: list[Any] = []


class _Line(msgspec.Struct):
    key: str
    response: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


def request_line(key: str, id_: str, endpoint: str, body: bytes) -> bytes:
    return msgspec.json.encode({"key": id_, "request": msgspec.Raw(body)})


def told(line: bytes) -> Told:
    """A line of results: an answer, or a google.rpc.Status. Raises MalformedResponse."""
    read = read_line(line, _Line)
    if read.error is None:
        return Told(id=read.key, state="succeeded" if read.response else "errored", status=200 if read.response else 500, body=bytes(read.response))
    code = read.error.code
    status = STATUS_OF_CODE.get(code, code if 400 <= code < 600 else 500)
    body = msgspec.json.encode({"error": {"code": status, "message": read.error.message, "details": read.error.details}})
    return Told(id=read.key, state="cancelled" if code == 1 else "errored", status=status, body=body)


ROWS = Form(request_line, endpoint=lambda path: path.rpartition(":")[2])


class GeminiBatches:
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, uploads: Session, downloads: Session, rows: Rows) -> None:
        """`uploads`, `downloads`: the same provider, where files go in and out."""
        self.name = name
        self._session = session
        self._uploads = uploads
        self._downloads = downloads
        self._rows = rows

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def submit(self, part: Part, submission: Submission) -> Job:
        batch = {"displayName": submission.key, "inputConfig": {"fileName": await self._send(part, submission.key)}}
        path = f"{model_path(part.model)}:batchGenerateContent"
        created = decoded(await self._session.call("POST", path, {"batch": batch}), _Operation)
        return _job(created, JobRef(created.name, submission.key, submission.model))

    async def _send(self, part: Part, key: str) -> str:
        """The part's name there: `files/…`."""
        start = (
            (b"x-goog-upload-protocol", b"resumable"),
            (b"x-goog-upload-command", b"start"),
            (b"x-goog-upload-header-content-length", str(part.size).encode()),
            (b"x-goog-upload-header-content-type", b"application/jsonl"),
        )
        headers, _ = await self._uploads.exchange("POST", "/files", {"file": {"displayName": key}}, start)
        origin, path = page_address(header(headers, b"x-goog-upload-url").decode("ascii", "replace"))
        if origin != self._uploads.origin or not path.startswith(self._uploads.base_path):
            raise MalformedResponse("the provider named an address of somebody else's to send a file to")
        finish = (
            (b"content-type", b"application/jsonl"),
            (b"x-goog-upload-offset", b"0"),
            (b"x-goog-upload-command", b"upload, finalize"),
        )
        body = FileBody(file=part.file, size=part.size)
        answer = await self._uploads.send_file("POST", path.removeprefix(self._uploads.base_path), body, finish)
        return decoded(answer, _File).file.name

    async def find(self, submission: Submission) -> Job | None:
        token = ""
        for _ in range(MAX_PAGES):
            page = decoded(await self._session.call("GET", f"/batches?pageSize={PAGE}{token}"), _Operations)
            for operation in page.operations:
                if operation.metadata.display_name == submission.key:
                    return _job(operation, JobRef(operation.name, submission.key, submission.model))
            times = [made for operation in page.operations if (made := unix_s(operation.metadata.create_time)) is not None]
            if not page.next_page_token or (times and max(times) < submission.since_s - CLOCK_SLACK_S):
                return None
            token = f"&pageToken={quote(page.next_page_token, safe='')}"
        raise too_many(submission.key)

    async def _operation(self, ref: JobRef) -> _Operation:
        return decoded(await self._session.call("GET", _path(ref.id)), _Operation)

    async def status(self, ref: JobRef) -> Job:
        return _job(await self._operation(ref), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref), told, ref.model, asked)

    async def _lines(self, ref: JobRef) -> AsyncGenerator[bytes, None]:
        file = _responses(await self._operation(ref))
        if file is None:
            return
        async with aclosing(self._downloads.lines(f"{_path(file)}:download?alt=media")) as lines:
            async for line in lines:
                yield line

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{_path(ref.id)}:cancel", {})
        return await stop(request, lambda: self.status(ref), 400, 409)

    async def forget(self, ref: JobRef) -> None:
        operation = await self._operation(ref)
        given = None if operation.metadata.input_config is None else operation.metadata.input_config.file_name
        for name in (given, ref.id):  # what it gave out goes with it
            if name is None:
                continue
            try:
                await self._session.call("DELETE", _path(name))
            except AttemptError as error:
                if not answered(error, 403, 404):  # a file that is gone is one that nobody may see
                    raise


def _path(name: str) -> str:
    """`batches/…` and `files/…` as a path."""
    return "/" + quote(name, safe="/")


def _responses(operation: _Operation) -> str | None:
    for output in (operation.response, operation.metadata.output):
        if output is not None and output.responses_file is not None:
            return output.responses_file
    return None


def _job(operation: _Operation, ref: JobRef) -> Job:
    batch = operation.metadata
    stats = batch.batch_stats or _Stats()
    word = batch.state
    for prefix in PREFIXES:
        word = word.removeprefix(prefix)
    return Job(
        ref=ref,
        state=STATES.get(word, "running"),
        native=batch.state,
        counts=Counts(
            total=_count(stats.request_count), succeeded=_count(stats.successful_request_count), errored=_count(stats.failed_request_count)
        ),
        created_s=unix_s(batch.create_time),
        ended_s=unix_s(batch.end_time),
    )


def _count(told: str | int | None) -> int | None:
    return int(told) if isinstance(told, int) or (told is not None and told.isdecimal()) else None
