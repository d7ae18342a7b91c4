"""What an administrator may read of the configuration, with a row of asterisks for whatever may be a secret."""

from typing import Any

from config.settings import Settings
from ledger.database import shown

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
