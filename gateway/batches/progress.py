"""Batches of either dialect as one list, with the pace at which they go: for who looks at them, not for who uses their API."""

from collections.abc import Mapping
from typing import Any

from batch.states import Batch
from gateway.batches.rendering import SHOWN
from ledger.prices import NUSD_PER_USD
from ledger.units import iso

US = 1_000_000


def progress_shown(batch: Batch, now_us: int, targets: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Rates, the time left and the projected cost are of the means since its rows were begun; null: not known, or it has ended.

    `targets`: how many rows each answered. Nothing of what the rows say.
    """
    done = batch.succeeded + batch.errored + batch.cancelled + batch.expired
    passed_s = _passed_s(batch, now_us)
    rate = done / passed_s if passed_s and done else None
    cost_usd = batch.cost_nusd / NUSD_PER_USD
    return {
        "id": batch.id,
        "team": batch.team,
        "dialect": batch.dialect,
        "endpoint": batch.endpoint,
        "status": SHOWN.get(batch.status, batch.status),
        "ended": batch.ended,
        "created_at": iso(batch.made_at_us),
        "expires_at": iso(batch.expires_at_us),
        "ended_at": None if batch.ended_at_us is None else iso(batch.ended_at_us),
        "rows": {
            "total": None if batch.in_progress_at_us is None else batch.total,
            "done": done,
            **{name: getattr(batch, name) for name in ("succeeded", "errored", "cancelled", "expired")},
        },
        "tokens": {"input": batch.input_tokens, "cached": batch.cached_tokens, "output": batch.output_tokens},
        "cost_usd": cost_usd,
        "unpriced_rows": batch.unpriced,
        "repeated_rows": batch.repeated,
        "rows_per_s": _rounded(rate),
        "output_tokens_per_s": _rounded(batch.output_tokens / passed_s if passed_s and batch.output_tokens else None),
        "eta_s": None if rate is None or batch.status != "in_progress" else _rounded((batch.total - done) / rate),
        "projected_usd": None if not batch.succeeded or batch.unpriced else round(cost_usd if batch.ended else cost_usd / done * batch.total, 9),
        "files": _files(batch),
        **({} if targets is None else {"targets": dict(targets)}),
    }


def _passed_s(batch: Batch, now_us: int) -> float | None:
    """Since its rows were begun, up to its end."""
    if batch.in_progress_at_us is None:
        return None
    end_us = batch.ended_at_us or batch.finalizing_at_us or now_us
    return max(0.0, (end_us - batch.in_progress_at_us) / US)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _files(batch: Batch) -> dict[str, str]:
    """What its team may read of it, and where: what is in the files that it sent and gets, or its results."""
    if batch.dialect == "anthropic":
        return {"results": f"/v1/messages/batches/{batch.id}/results"} if batch.ended and batch.output_file else {}
    names = {"input": batch.source, "output": batch.output_file, "error": batch.error_file}
    return {kind: f"/v1/files/{name}/content" for kind, name in names.items() if name is not None}
