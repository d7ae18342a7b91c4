"""The port of the providers' batch APIs: rows in, a job that is polled, one result a row.

A caller writes its rows into parts, submits each under a key of its own, stores the job's reference, and polls it (providers/batch/polling.py).
After a restart in between, `find` tells whether a submission reached the provider. Whether a row succeeded is what its own line says, never
what the job's state says: a row that no line tells of has no result, in whatever state its job ended.

Times are Unix time in seconds. Unknown is None.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from contract.call import Call
from contract.errors import AttemptError, TurnoutError
from providers.wires.port import UnaryAnswer

JobState = Literal["validating", "queued", "running", "finalizing", "completed", "partial", "failed", "expired", "cancelling", "cancelled"]
RowState = Literal["succeeded", "errored", "expired", "cancelled"]
ENDED: frozenset[JobState] = frozenset({"completed", "partial", "failed", "expired", "cancelled"})
ROW_ID = re.compile(r"[A-Za-z0-9]{1,40}")
KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,50}[A-Za-z0-9])?")
HOUR_S = 3600
MOST_ROWS = 100_000  # of one job, also where a provider takes more: so much is remembered while results are read


class BatchRow(msgspec.Struct, frozen=True):
    """One request. `id` matches `ROW_ID` and is unique in its job: the caller's own, for a client's `custom_id` may be what a provider refuses."""

    id: str
    call: Call


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """One part on its way to be a job. Store it before `submit`, so that `find` can tell what became of it.

    `key`: the part's. `since_s`: before the first try. `window_s`: how long the job may take, as near as the provider has it.
    `known`: jobs of other submissions, by id.
    """

    key: str
    model: str
    rows: int
    since_s: float
    window_s: int = 24 * HOUR_S
    known: frozenset[str] = frozenset()


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as the provider takes them, in a file of ours: as many as one job may have. Whoever asked for it deletes the file.

    `key`: the job's name, of the key that was given and the part's number. `endpoint`: what every row of it asks, as the provider calls it.
    `size`: bytes. `headers`: of the rows' clients, which go on with the job.
    """

    key: str
    file: Path
    rows: int
    size: int
    sha256: str
    model: str
    endpoint: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def submission(self, since_s: float, window_s: int = 24 * HOUR_S, known: frozenset[str] = frozenset()) -> Submission:
        return Submission(key=self.key, model=self.model, rows=self.rows, since_s=since_s, window_s=window_s, known=known)


class JobRef(msgspec.Struct, frozen=True):
    """What a job is found by, for as long as the provider keeps it. Store it. `id` is the provider's."""

    id: str
    key: str
    model: str


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows, as far as the provider tells."""

    total: int | None = None
    succeeded: int | None = None
    errored: int | None = None
    expired: int | None = None
    cancelled: int | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stood when it was asked for. `native`: the provider's word for its state. `expires_s`: when it is given up there."""

    ref: JobRef
    state: JobState
    native: str
    counts: Counts = Counts()
    created_s: float | None = None
    expires_s: float | None = None
    ended_s: float | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class RowResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one row. `answer`: in the dialect of the row's call, with its usage. `error`: of a row that errored.

    `notes`: response headers that say what the provider did not get of the request.
    """

    id: str
    state: RowState
    answer: UnaryAnswer | None = None
    error: AttemptError | None = None
    notes: tuple[tuple[bytes, bytes], ...] = ()


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one job may hold. `size`: bytes of its file. `windows_s`: the shortest and the longest time it can be given.

    `endpoints`: what its rows may ask, as the provider calls it. `percent_off` the price of the same request made live; None: not the same for
    every model. `expires`: whether a job that is late is given up. `inputs`: texts to be embedded, in all rows together.
    """

    rows: int
    size: int
    endpoints: frozenset[str]
    min_rows: int = 1
    windows_s: tuple[int, int] = (24 * HOUR_S, 24 * HOUR_S)
    percent_off: int | None = 50
    expires: bool = True
    inputs: int | None = None

    def cost_nusd(self, live_nusd: int | None) -> int | None:
        """What a row costs in a batch, in nano-dollars rounded half up, by what it would cost live."""
        if live_nusd is None or self.percent_off is None:
            return None
        return (live_nusd * (100 - self.percent_off) + 50) // 100


class NotYetKnown(Exception):
    """Whether the submission became a job cannot be told yet: ask again later, and submit nothing until then."""


MAX_PAGES = 100  # of a list of jobs


def too_many(key: str) -> NotYetKnown:
    """For a list that does not end."""
    return NotYetKnown(f"the provider lists so many jobs that {key!r} was not found among the {MAX_PAGES} first pages")


Asked = Callable[[Sequence[str]], Awaitable[Mapping[str, Call]]]
Refused = Callable[[str, TurnoutError], None]


class BatchClient(Protocol):
    """One provider's batch API. Every method but `parts` raises AttemptError."""

    name: str
    limits: Limits

    def parts(self, rows: AsyncIterator[BatchRow], model: str, folder: Path, key: str, refused: Refused) -> AsyncGenerator[Part, None]:
        """The rows in files within the limits: the same files for the same rows. `key` matches `KEY` and names what the rows are of.

        `refused` is told of each row that the provider cannot be asked.
        """

    async def submit(self, part: Part, submission: Submission) -> Job:
        """Sends the part once. An error may come after the provider took it: ask `find` before a second try."""

    async def find(self, submission: Submission) -> Job | None:
        """The job that the submission became; None: there is none. Raises NotYetKnown."""

    async def status(self, ref: JobRef) -> Job: ...

    def results(self, ref: JobRef, asked: Asked) -> AsyncGenerator[RowResult, None]:
        """What is told of the rows of a job that ended, each row once, in any order. `asked`: the calls behind ids, a hundred at once.

        Who stops before the end closes it (`contextlib.aclosing`): that ends the download.
        """

    async def cancel(self, ref: JobRef) -> Job:
        """Stops what has not begun. A job that has ended stays as it is."""

    async def forget(self, ref: JobRef) -> None:
        """Deletes what the provider keeps of an ended job, as far as it lets us."""


def row_id(number: int) -> str:
    """A row's number as an id that every provider takes."""
    return f"r{number:010d}"


def row_number(id_: str) -> int:
    """Raises ValueError for what `row_id` has not made."""
    if len(id_) < 11 or id_[0] != "r":
        raise ValueError(f"{id_!r} is no row's id")
    return int(id_[1:])
