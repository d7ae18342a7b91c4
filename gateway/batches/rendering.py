"""Files and batches as OpenAI's and Anthropic's APIs show them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from batch.states import Batch, File
from contract.errors import InvalidRequest
from ledger.prices import NUSD_PER_USD

US = 1_000_000
HOUR_S = 3600
WINDOW = re.compile(r"([1-9][0-9]{0,2})([hd])")
MOST_WINDOW_S = 7 * 24 * HOUR_S
SHOWN = {"expiring": "finalizing"}


def window_s(window: str) -> int:
    """Seconds of a completion window such as `24h` or `7d`. Raises InvalidRequest."""
    found = WINDOW.fullmatch(window)
    seconds = 0 if found is None else int(found[1]) * (HOUR_S if found[2] == "h" else 24 * HOUR_S)
    if not 0 < seconds <= MOST_WINDOW_S:
        raise InvalidRequest("`completion_window` must be hours or days up to `7d`, such as `24h`", param="completion_window")
    return seconds


def file_shown(file: File) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": file.made_at_us // US,
        "expires_at": _seconds(file.expires_at_us),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def openai_shown(batch: Batch, targets: Mapping[str, int] | None = None) -> dict[str, Any]:
    """With a member `turnout`, of what OpenAI's object has no place for. `targets`: how many rows each answered."""
    ended = {
        f"{status}_at": _seconds(batch.ended_at_us) if batch.status == status else None for status in ("completed", "failed", "expired", "cancelled")
    }
    errors = None if batch.errors is None else {"object": "list", "data": msgspec.json.decode(batch.errors)}
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": errors,
        "input_file_id": batch.source,
        "completion_window": batch.window,
        "status": SHOWN.get(batch.status, batch.status),
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": batch.made_at_us // US,
        "in_progress_at": _seconds(batch.in_progress_at_us),
        "expires_at": batch.expires_at_us // US,
        "finalizing_at": _seconds(batch.finalizing_at_us),
        "cancelling_at": _seconds(batch.cancelling_at_us),
        **ended,
        "request_counts": {"total": batch.total, "completed": batch.succeeded, "failed": batch.total and _failed(batch)},
        "metadata": None if batch.metadata is None else msgspec.json.decode(batch.metadata),
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
        "turnout": own_shown(batch, targets),
    }


def _failed(batch: Batch) -> int:
    return batch.errored + (batch.expired + batch.cancelled if batch.ended else 0)


def own_shown(batch: Batch, targets: Mapping[str, int] | None) -> dict[str, Any]:
    """Money as far as it is known: `unpriced` rows have none. `repeated`: rows that a worker which died had in hand, so that they may have been
    asked twice; what it asked is not charged to the team."""
    return {
        "cost_usd": batch.cost_nusd / NUSD_PER_USD,
        "unpriced_rows": batch.unpriced,
        "tokens": {"input": batch.input_tokens, "output": batch.output_tokens},
        "repeated_rows": batch.repeated,
        "rows": {"succeeded": batch.succeeded, "errored": batch.errored, "cancelled": batch.cancelled, "expired": batch.expired},
        "plan": None if batch.plan is None else msgspec.json.decode(batch.plan),
        **({} if targets is None else {"targets": dict(targets)}),
    }


def anthropic_shown(batch: Batch, targets: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Counts of rows that ended stay 0 until the batch has, as in Anthropic's API; `turnout` tells them as they are."""
    counts = {"succeeded": 0, "errored": 0, "canceled": 0, "expired": 0, "processing": batch.total}
    if batch.ended:
        counts = {"succeeded": batch.succeeded, "errored": batch.errored, "canceled": batch.cancelled, "expired": batch.expired, "processing": 0}
    stopping = batch.status == "cancelling"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.ended else "canceling" if stopping else "in_progress",
        "request_counts": counts,
        "created_at": _moment(batch.made_at_us),
        "expires_at": _moment(batch.expires_at_us),
        "ended_at": _moment(batch.ended_at_us),
        "cancel_initiated_at": _moment(batch.cancelling_at_us),
        "archived_at": None,
        "results_url": f"/v1/messages/batches/{batch.id}/results" if batch.ended and batch.output_file else None,
        "turnout": own_shown(batch, targets),
    }


def _seconds(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // US


def _moment(at_us: int | None) -> str | None:
    return None if at_us is None else datetime.fromtimestamp(at_us / US, UTC).isoformat().replace("+00:00", "Z")
