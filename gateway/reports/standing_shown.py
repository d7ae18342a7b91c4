"""How limits and budgets stand, as plain values for JSON."""

from typing import Any

from ledger.prices import NUSD_PER_USD
from policy.quota import Left, Standing


def standing_shown(standing: Standing) -> dict[str, Any]:
    """One level's. Money in US dollars; `window_start`: Unix seconds."""
    scope = standing.scope
    return {
        "scope": {"kind": scope.kind, "name": scope.name},
        "running": standing.running,
        "concurrency": scope.limits.concurrency,
        "requests": _left(standing.requests),
        "tokens": _left(standing.tokens),
        "budgets": [
            {
                "window": each.budget.window,
                "window_start": each.start_s,
                "usd": each.budget.nusd / NUSD_PER_USD,
                "spent_usd": each.spent_nusd / NUSD_PER_USD,
                "reserved_usd": each.reserved_nusd / NUSD_PER_USD,
                "on_exhausted": each.budget.on_exhausted,
            }
            for each in standing.budgets
        ],
    }


def _left(left: Left | None) -> dict[str, Any] | None:
    return None if left is None else {"limit": left.limit, "remaining": left.remaining, "reset_s": round(left.reset_s, 3)}
