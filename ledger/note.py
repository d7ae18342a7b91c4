"""What is noted of an attempt before anything of it is sent: the row that stands for it should its own never come, as far as it is known."""

import msgspec

from ledger.row import AttemptRow, Billed, Status


class Note(msgspec.Struct, frozen=True, array_like=True):
    """The columns of a row that such a one has; its name comes first. `ledger.row` says what they mean."""

    request_id: str
    attempt: int
    started_at_us: int
    team: str
    key_id: str
    endpoint: str
    stream: bool
    model_asked: str
    route: str
    target: str
    model_sent: str
    status: Status
    reason: str
    error_code: str | None
    input_uncached: int | None
    usage_source: str | None
    cost_nusd: int | None
    billed: Billed
    prompt_tokens_estimated: int | None
    predicted_ttft_us: int | None
    predicted_end_us: int | None
    predicted_end_p95_us: int | None
    predicted_output_tokens: int | None
    predicted_cost_nusd: int | None
    predicted_p_slo: float | None
    organisation: str
    cache: str | None
    policy: str
    bytes_request: int = 0
    bytes_upstream: int = 0
    bytes_client: int = 0


NOTED = Note.__struct_fields__


def note_of(row: AttemptRow) -> Note:
    """Of a row that is known already."""
    usage = row.usage
    counted = {"input_uncached": None if usage is None else usage.input_uncached, "usage_source": None if usage is None else usage.source}
    return msgspec.convert([counted[name] if name in counted else getattr(row, name) for name in NOTED], Note)
