"""The configuration as an administrator may read it: whatever may be a secret is a row of asterisks."""

from typing import Any

from config.settings import Settings

HIDDEN = "**********"  # what pydantic writes for a secret's text


def settings_shown(settings: Settings) -> dict[str, Any]:
    """What the configuration says, defaults included. Headers' values and Amazon's key ids are hidden too, and the path of the alerts' URL."""
    told: dict[str, Any] = settings.model_dump(mode="json", exclude_none=True)
    for provider in told["providers"].values():
        provider["headers"] = dict.fromkeys(provider["headers"], HIDDEN)
        if "access_key_id" in provider.get("credentials", {}):
            provider["credentials"]["access_key_id"] = HIDDEN
    if "alerts" in told:
        told["alerts"]["url"] = "/".join(told["alerts"]["url"].split("/")[:3]) + f"/{HIDDEN}"
    return told
