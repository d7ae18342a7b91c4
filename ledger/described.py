"""What the rows of one request say, as plain values for JSON: told attempt by attempt, and the decision about it."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ledger.row import AttemptRow, Status
from ledger.schema import USAGE_CLASSES
from ledger.units import iso, usd

_FARED: tuple[Status, ...] = ("abandoned", "failed", "cut", "client_closed", "ok")


def describe_request(rows: Sequence[AttemptRow]) -> dict[str, Any]:
    """One request with its attempts in order, and how it ended.

    `cost_usd` is what the team is charged, `absorbed_usd` what the gateway bears; null when one attempt's cost is unknown, or there is none.
    """
    last = _decisive(rows)
    return {
        "request_id": last.request_id,
        "team": last.team,
        "key_id": last.key_id,
        "endpoint": last.endpoint,
        "model": last.model_asked,
        "route": last.route,
        "stream": last.stream,
        "status": last.status,
        "client_status": last.client_status,
        "cost_usd": _sum(row.cost_nusd for row in rows if row.priced and row.billed == "team"),
        "absorbed_usd": _sum(row.cost_nusd for row in rows if row.priced and row.billed == "gateway"),
        "attempts": [_attempt(row) for row in rows],
    }


def describe_decision(rows: Sequence[AttemptRow]) -> dict[str, Any]:
    """What was decided about a request, as it was stored (policy.plan.Decision), and what then happened. null: nothing was decided or kept."""
    last = _decisive(rows)
    decision = next((row.decision for row in rows if row.decision is not None), None)
    return {
        "request_id": last.request_id,
        "time": iso(rows[0].started_at_us),
        "team": last.team,
        "endpoint": last.endpoint,
        "model": last.model_asked,
        "stream": last.stream,
        "status": last.status,
        "decision": None if decision is None else msgspec.json.decode(msgspec.json.encode(decision)),
        "attempts": [_attempt(row) for row in rows],
    }


def _decisive(rows: Sequence[AttemptRow]) -> AttemptRow:
    """The attempt that says how the request ended: of two runners of a race the one that fared better, whichever began first."""
    return max(rows, key=lambda row: (_FARED.index(row.status), row.client_status is not None, row.attempt))


def _sum(costs: Iterable[int | None]) -> str | None:
    found = list(costs)
    known = [cost for cost in found if cost is not None]
    return usd(sum(known)) if known and len(known) == len(found) else None


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _attempt(row: AttemptRow) -> dict[str, Any]:
    times = {
        "queue": row.queue_us,
        "connect": row.connect_us,
        "headers": row.headers_us,
        "first_token": row.first_token_us,
        "end": row.end_us,
    }
    return {
        "attempt": row.attempt,
        "target": row.target,
        "model": row.model_sent,
        "started_at": iso(row.started_at_us),
        "status": row.status,
        "reason": row.reason,
        "error": row.error_code,
        "upstream_status": row.http_status,
        "ms": {name: _ms(us) for name, us in times.items()},
        "usage": _usage(row),
        "cost_usd": usd(row.cost_nusd),
        "held_usd": usd(row.held_nusd),
        "engine": _engine(row),
        "billed": row.billed,
        "predicted": _predicted(row),
        "finish_reason": row.finish_reason,
        "native_finish_reason": row.native_finish_reason,
        "upstream_id": row.upstream_id,
        "bytes": {"request": row.bytes_request, "upstream": row.bytes_upstream, "client": row.bytes_client},
    }


def _engine(row: AttemptRow) -> dict[str, Any] | None:
    """Its share of an owned engine's time."""
    if row.engine_prefill_us is None:
        return None
    return {"prefill_ms": _ms(row.engine_prefill_us), "decode_ms": _ms(row.engine_decode_us), "usd": usd(row.engine_nusd)}


def _predicted(row: AttemptRow) -> dict[str, Any] | None:
    told = {
        "prompt_tokens": row.prompt_tokens_estimated,
        "ttft_p95_ms": _ms(row.predicted_ttft_us),
        "end_ms": _ms(row.predicted_end_us),
        "end_p95_ms": _ms(row.predicted_end_p95_us),
        "output_tokens": row.predicted_output_tokens,
        "cost_usd": usd(row.predicted_cost_nusd),
        "p_slo": row.predicted_p_slo,
    }
    return told if any(value is not None for value in told.values()) else None


def _usage(row: AttemptRow) -> dict[str, Any] | None:
    if row.usage is None:
        return None
    counts = {name: getattr(row.usage, name) for name in USAGE_CLASSES}
    raw = row.usage.raw
    return {**counts, "source": row.usage.source, "service_tier": row.usage.service_tier, "raw": msgspec.json.decode(raw) if raw else None}
