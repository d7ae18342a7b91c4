"""What an administrator may read: the configuration, with a row of asterisks for whatever may be a secret; how limits and budgets stand."""

from typing import Any

from config.settings import Settings
from ledger.database import shown
from ledger.prices import NUSD_PER_USD
from policy.quota import Left, Standing

HIDDEN = "**********"  # what pydantic writes for a secret's text


def settings_shown(settings: Settings) -> dict[str, Any]:
    """What the configuration says, defaults included. Hidden too: headers, Amazon's key ids, the alerts' URL's path, the database's password."""
    told: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    told["state"]["database"] = shown(settings.state.database)
    for provider in told["providers"].values():
        provider["headers"] = dict.fromkeys(provider["headers"], HIDDEN)
        if "access_key_id" in provider.get("credentials", {}):
            provider["credentials"]["access_key_id"] = HIDDEN
    if "telemetry" in told:
        told["telemetry"]["headers"] = dict.fromkeys(told["telemetry"]["headers"], HIDDEN)
    if "alerts" in told:
        told["alerts"]["url"] = "/".join(told["alerts"]["url"].split("/")[:3]) + f"/{HIDDEN}"
    return told


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
