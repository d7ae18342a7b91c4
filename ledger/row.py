"""One row of the ledger: one attempt at one target, however it ended.

Times are microseconds since the attempt's start; None: that point was not reached. Money is integer nano-dollars; None: not known.
What was predicted stands beside it in the same units; None: nothing was, or nothing was known to predict it from.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from contract.usage import Usage

Status = Literal["ok", "failed", "cut", "client_closed", "abandoned"]
Billed = Literal["team", "gateway"]
CacheUse = Literal["hit", "miss", "join", "bypass", "semantic"]
ANSWERED = ("ok", "cut")  # tokens came, so there was a cost, told or not
ENDED_WELL = ("ok", "abandoned")  # nobody's failure


class AttemptRow(msgspec.Struct, frozen=True):
    """`status` cut: the answer had begun to reach the client; abandoned: another attempt answered, and nothing of this one was seen.

    `reason`: the error's code, or why this target was tried. `billed` gateway: whoever pays, it is not the team.
    """

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
    billed: Billed = "team"
    prompt_tokens_estimated: int | None = None
    predicted_ttft_us: int | None = None  # p95, a queue's expected wait included: what `first_token_us` is held against
    predicted_end_us: int | None = None  # expected
    predicted_end_p95_us: int | None = None
    predicted_output_tokens: int | None = None
    predicted_cost_nusd: int | None = None
    predicted_p_slo: float | None = None  # how likely the policy's SLO was to be met, 0 to 1
    organisation: str = ""
    cache: CacheUse | None = None  # None: nothing was looked up
    saved_nusd: int | None = None  # what a cached answer cost when it was made
    policy: str = ""
    slo_met: bool | None = None  # on a request's last row; None: its policy promised nothing that it could be held to
    overhead_us: int | None = None  # what the gateway itself took up to the first output
    engine_prefill_us: int | None = None  # of an owned engine's time, its share: until its first token, and after it
    engine_decode_us: int | None = None
    engine_nusd: int | None = None  # what that time comes to; paid by the hour and not by the request, so no part of `cost_nusd`
    held_nusd: int | None = None  # what budgets are charged for it where its cost is not known: the upper bound that was reserved
    # on a request's first row: what makes it, called by the thread that writes it, or it; JSON when it was read from the ledger
    decision: Callable[[], msgspec.Struct | msgspec.Raw] | msgspec.Struct | msgspec.Raw | None = None

    @property
    def priced(self) -> bool:
        """Whether it costs something, known or not: tokens came, or a request was sent whose answer was not waited for."""
        return costs_something(self.usage is not None, self.status, self.bytes_request)


def costs_something(told: bool, status: str, bytes_request: int) -> bool:
    """Of an attempt; `told`: usage is known of it, if only whence. `ledger.rollups.UNPRICED` says the same to a database."""
    return told or status in ANSWERED or (status == "abandoned" and bytes_request > 0)
