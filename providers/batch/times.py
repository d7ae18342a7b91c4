"""A time as a provider writes it (RFC 3339) in Unix seconds."""

from datetime import datetime


def unix_s(text: str | None) -> float | None:
    """None: none was told, or not as a time."""
    try:
        return None if text is None else datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
