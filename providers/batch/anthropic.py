"""Anthropic's message batches: the rows inline in one request, one line of results a row.

https://platform.claude.com/docs/en/build-with-claude/batch-processing, https://platform.claude.com/docs/en/api/messages/batches.

A batch carries no name and no metadata, and its requests cannot be read back. So every `custom_id` begins with a mark made of the submission's
key: what became of a submission is known for certain once the results of the batches that it may have become can be looked at.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import msgspec

from contract.errors import AttemptError, MalformedResponse
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
    NotYetKnown,
    Part,
    Refused,
    RowResult,
    RowState,
    Submission,
    too_many,
)
from providers.batch.rows import Form, Rows, Told, read_line
from providers.batch.session import Session, answered, decoded
from providers.batch.stopping import stop
from providers.batch.times import unix_s
from providers.http.upload import FileBody

LIMITS = Limits(rows=MOST_ROWS, size=256_000_000, endpoints=frozenset({"/v1/messages"}))
PATH = "/messages/batches"
STATES: dict[str, JobState] = {"in_progress": "running", "canceling": "cancelling"}
ROW_STATES: dict[str, RowState] = {"succeeded": "succeeded", "errored": "errored", "canceled": "cancelled", "expired": "expired"}
# the status that a row's error would have had as an answer (platform.claude.com/docs/en/api/errors)
STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
MARK = "_"  # between a submission's mark and a row's id, neither of which holds it


class _Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


class _Batch(msgspec.Struct):
    id: str
    processing_status: str
    request_counts: _Counts = msgspec.field(default_factory=_Counts)
    created_at: str | None = None
    expires_at: str | None = None
    ended_at: str | None = None
    cancel_initiated_at: str | None = None
    results_url: str | None = None


class _Batches(msgspec.Struct):
    data: list[_Batch] = []
    has_more: bool = False
    last_id: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error | None = None


class _Result(msgspec.Struct):
    type: str
    message: msgspec.Raw = msgspec.Raw(b"null")
    error: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    custom_id: str
    result: _Result


@lru_cache(maxsize=64)
def mark_of(key: str) -> str:
    """What the custom ids of a submission begin with."""
    return sha256(key.encode()).hexdigest()[:16]


def request_line(key: str, id_: str, endpoint: str, body: bytes) -> bytes:
    return msgspec.json.encode({"custom_id": mark_of(key) + MARK + id_, "params": msgspec.Raw(body)})


def told(mark: str, line: bytes) -> Told:
    """A line of results, its id without the mark. Raises MalformedResponse."""
    read = read_line(line, _Line)
    found, _, id_ = read.custom_id.partition(MARK)
    state = ROW_STATES.get(read.result.type)
    if found != mark or state is None:
        raise MalformedResponse("a line of the provider's results is of another batch, or of a kind that we do not know")
    if state != "errored":
        return Told(id=id_, state=state, body=bytes(read.result.message))
    error = read_line(bytes(read.result.error), _ErrorBody).error
    type_ = None if error is None else error.type
    return Told(id=id_, state=state, status=STATUS_OF_TYPE.get(type_ or "", 500), body=bytes(read.result.error))


ROWS = Form(request_line, headers=frozenset({b"anthropic-beta"}), before=b'{"requests":[', between=b",\n", after=b"]}")


class AnthropicBatches:
    """Implements `providers.batch.port.BatchClient`."""

    limits = LIMITS

    def __init__(self, name: str, session: Session, rows: Rows) -> None:
        self.name = name
        self._session = session
        self._rows = rows

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        return self._rows.parts(rows, model, folder, key, refused)

    async def submit(self, part: Part, submission: Submission) -> Job:
        body = FileBody(file=part.file, size=part.size)
        answer = await self._session.send_file("POST", PATH, body, ((b"content-type", b"application/json"), *part.headers))
        created = decoded(answer, _Batch)
        return _job(created, JobRef(created.id, submission.key, submission.model))

    async def find(self, submission: Submission) -> Job | None:
        undecided = False
        after = ""
        for _ in range(MAX_PAGES):
            page = decoded(await self._session.call("GET", f"{PATH}?limit={PAGE}{after}"), _Batches)
            for batch in page.data:
                created_s = unix_s(batch.created_at)
                if created_s is not None and created_s < submission.since_s - CLOCK_SLACK_S:
                    page.has_more = False
                    break
                if batch.id in submission.known or batch.request_counts.total != submission.rows:
                    continue
                if batch.processing_status != "ended":
                    undecided = True
                elif await self._is(batch, submission.key):
                    return _job(batch, JobRef(batch.id, submission.key, submission.model))
            if not page.has_more or page.last_id is None:
                break
            after = f"&after_id={quote(page.last_id, safe='')}"
        else:
            raise too_many(submission.key)
        if undecided:
            raise NotYetKnown(f"a batch of as many rows is in progress; whether it is {submission.key!r} shows when it ends")
        return None

    async def _is(self, batch: _Batch, key: str) -> bool:
        """Whether its results are those of the submission."""
        async with aclosing(self._lines(batch.id)) as lines:
            async for line in lines:
                return read_line(line, _Line).custom_id.partition(MARK)[0] == mark_of(key)
        return False

    def _lines(self, id_: str) -> AsyncGenerator[bytes, None]:
        return self._session.lines(f"{PATH}/{quote(id_, safe='')}/results")

    async def status(self, ref: JobRef) -> Job:
        return _job(decoded(await self._session.call("GET", f"{PATH}/{quote(ref.id, safe='')}"), _Batch), ref)

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        return self._rows.results(self._lines(ref.id), partial(told, mark_of(ref.key)), ref.model, asked)

    async def cancel(self, ref: JobRef) -> Job:
        request = self._session.call("POST", f"{PATH}/{quote(ref.id, safe='')}/cancel")
        return await stop(request, lambda: self.status(ref), 400, 409)

    async def forget(self, ref: JobRef) -> None:
        try:
            await self._session.call("DELETE", f"{PATH}/{quote(ref.id, safe='')}")
        except AttemptError as error:
            if not answered(error, 404):
                raise


def _job(batch: _Batch, ref: JobRef) -> Job:
    ended = batch.processing_status == "ended"
    counts = batch.request_counts
    return Job(
        ref=ref,
        state=_end(batch) if ended else STATES.get(batch.processing_status, "running"),
        native=batch.processing_status,
        # while it runs, all its rows are told to be in processing
        counts=Counts(total=counts.total, succeeded=counts.succeeded, errored=counts.errored, expired=counts.expired, cancelled=counts.canceled)
        if ended
        else Counts(total=counts.total or None),
        created_s=unix_s(batch.created_at),
        expires_s=unix_s(batch.expires_at),
        ended_s=unix_s(batch.ended_at),
    )


def _end(batch: _Batch) -> JobState:
    """How it ended, which its one word does not say: by what its rows were not."""
    if batch.cancel_initiated_at is not None and batch.request_counts.canceled:
        return "cancelled"
    return "expired" if batch.request_counts.expired else "completed"
