"""What the ledger's rows say, as plain values for JSON: one request, told attempt by attempt."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ledger.prices import NUSD_PER_USD
from ledger.row import ANSWERED, AttemptRow
from ledger.schema import USAGE_CLASSES


def usd(cost_nusd: int | None) -> str | None:
    """Nano-dollars as an exact decimal number of dollars; None: not known."""
    if cost_nusd is None:
        return None
    whole, rest = divmod(cost_nusd, NUSD_PER_USD)
    return f"{whole}.{rest:09}"


def describe_request(rows: Sequence[AttemptRow]) -> dict[str, Any]:
    """One request with its attempts in order; the last decides how it ended. The sum of costs is null when one attempt's is unknown."""
    last = rows[-1]
    costs = [row.cost_nusd for row in rows if row.usage is not None or row.status in ANSWERED]
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
        "cost_usd": usd(sum(cost for cost in costs if cost is not None)) if costs and None not in costs else None,
        "attempts": [_attempt(row) for row in rows],
    }


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
        "started_at": datetime.fromtimestamp(row.started_at_us / 1e6, UTC).isoformat(),
        "status": row.status,
        "reason": row.reason,
        "error": row.error_code,
        "upstream_status": row.http_status,
        "ms": {name: None if us is None else us / 1000 for name, us in times.items()},
        "usage": _usage(row),
        "cost_usd": usd(row.cost_nusd),
        "finish_reason": row.finish_reason,
        "native_finish_reason": row.native_finish_reason,
        "upstream_id": row.upstream_id,
        "bytes": {"request": row.bytes_request, "upstream": row.bytes_upstream, "client": row.bytes_client},
    }


def _usage(row: AttemptRow) -> dict[str, Any] | None:
    if row.usage is None:
        return None
    counts = {name: getattr(row.usage, name) for name in USAGE_CLASSES}
    raw = row.usage.raw
    return {**counts, "source": row.usage.source, "raw": msgspec.json.decode(raw) if raw else None}
