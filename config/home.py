"""Where Turnout keeps what it fetched for this user: models and engines' environments."""

from collections.abc import Mapping
from pathlib import Path


def home(env: Mapping[str, str]) -> Path:
    """`TURNOUT_HOME`, or `turnout` in the user's data folder (XDG Base Directory Specification)."""
    if own := env.get("TURNOUT_HOME"):
        return Path(own).expanduser().absolute()
    data = env.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else Path("~/.local/share").expanduser()) / "turnout"
