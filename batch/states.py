"""Files, batches and rows as plain values, and the states that they pass through.

    validating → in_progress → finalizing → completed
         ↓            ↓ ↘ cancelling → (finalizing) → cancelled
       failed         expiring → (finalizing) → expired

A row is pending, then leased to a worker, and ends succeeded, errored, cancelled or expired; or it is pending again.
"""

from typing import Literal

import msgspec

BatchStatus = Literal["validating", "failed", "in_progress", "finalizing", "completed", "cancelling", "cancelled", "expiring", "expired"]
RowState = Literal["pending", "leased", "succeeded", "errored", "cancelled", "expired"]
Dialect = Literal["openai", "anthropic"]

ACTIVE: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling", "expiring")
CLOSING: dict[str, RowState] = {"cancelling": "cancelled", "expiring": "expired"}  # batch status -> what becomes of rows that have not ended
ENDS: dict[str, BatchStatus] = {"in_progress": "completed", "finalizing": "completed", "cancelling": "cancelled", "expiring": "expired"}
OUTPUT_PURPOSE = "batch_output"


class File(msgspec.Struct, frozen=True):
    """`size` in bytes; `expires_at_us` None: kept as long as the gateway keeps files."""

    id: str
    team: str
    purpose: str
    filename: str
    size: int
    made_at_us: int
    expires_at_us: int | None = None


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a file of rows. `line`: from 1; None: the file itself."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """As its row has it; see batch/schema.py."""

    id: str
    team: str
    key_id: str
    dialect: Dialect
    endpoint: str
    source: str
    status: BatchStatus
    window: str
    headers: str
    metadata: str | None = None
    errors: str | None = None
    output_expires_s: int | None = None
    made_at_us: int
    expires_at_us: int
    in_progress_at_us: int | None = None
    cancelling_at_us: int | None = None
    finalizing_at_us: int | None = None
    ended_at_us: int | None = None
    total: int = 0
    succeeded: int = 0
    errored: int = 0
    cancelled: int = 0
    expired: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nusd: int = 0
    unpriced: int = 0
    repeated: int = 0
    plan: str | None = None
    output_file: str | None = None
    error_file: str | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ACTIVE


class Place(msgspec.Struct, frozen=True):
    """Where a row stands in its batch's file, for a batch that is being made."""

    line: int
    custom_id: str
    at: int
    size: int


class Leased(msgspec.Struct, frozen=True):
    """A row that a worker may ask, under the fence that its result is written with. `attempts`: those that failed before."""

    batch_id: str
    line: int
    at: int
    size: int
    attempts: int
    fence: int


class Used(msgspec.Struct, frozen=True):
    """What a row's answer took. `cost_nusd` None: not known."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nusd: int | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a leased row. `state` pending: it is to be asked again after `not_before_us`; `counts`: that was an attempt.

    `answer`: what its caller gets, in the dialect asked. `used` None: nothing that it would be charged for.
    """

    row: Leased
    state: RowState
    request_id: str | None = None
    status_code: int | None = None
    target: str | None = None
    answer: bytes | None = None
    used: Used | None = None
    counts: bool = False
    not_before_us: int = 0


class Ended(msgspec.Struct, frozen=True):
    """A row that came to its end, for the batch's files."""

    line: int
    custom_id: str
    state: RowState
    request_id: str | None
    status_code: int | None
    answer: bytes | None
