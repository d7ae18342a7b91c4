"""One row of the ledger: one attempt at one target, however it ended.

Times are microseconds since the attempt's start; None: that point was not reached. Money is integer nano-dollars; None: not known.
"""

from typing import Literal

import msgspec

from contract.usage import Usage

Status = Literal["ok", "failed", "cut", "client_closed"]
ANSWERED = ("ok", "cut")  # tokens came, so there was a cost, told or not


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """`status` cut: the answer had begun to reach the client. `reason`: the error's code, or why this target was tried."""

    request_id: str
    attempt: int  # from 1; 0: the request failed before any attempt (no target, refused)
    started_at_us: int  # Unix time
    team: str
    key_id: str
    endpoint: str  # chat.completions …
    stream: bool
    model_asked: str
    route: str  # the entry of `models` that matched
    target: str  # provider or engine name
    model_sent: str
    status: Status
    reason: str
    error_code: str | None = None
    http_status: int | None = None  # the upstream's
    client_status: int | None = None  # what the client got, on the last attempt
    queue_us: int | None = None
    connect_us: int | None = None
    headers_us: int | None = None
    first_token_us: int | None = None
    end_us: int | None = None
    usage: Usage | None = None
    cost_nusd: int | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    upstream_id: str | None = None
    bytes_request: int = 0  # sent upstream
    bytes_upstream: int = 0  # received from upstream
    bytes_client: int = 0  # sent to the client
