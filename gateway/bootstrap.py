"""The bootstrap key: made at the first start, kept beside the database (of a server: in `var`), so that one can begin without a configuration."""

import os
import secrets
from pathlib import Path

from sqlalchemy import Engine

from config.settings import Settings
from ledger.database import state_folder
from ledger.keys import PREFIX, Keys

FILE_NAME = "bootstrap.key"


def bootstrap_for(settings: Settings, database: Engine) -> str | None:
    """The bootstrap key where nobody has a key of another kind, or ever had one. Raises LedgerUnavailable, OSError."""
    if any(team.keys for team in settings.teams.values()) or Keys(database).changes():
        return None
    return bootstrap_key(state_folder(settings.state.database))


def bootstrap_key(folder: Path) -> str:
    """The key kept in `folder`, made (256 random bits, file mode 0600) when there is none. Raises OSError when the folder cannot be written."""
    path = folder / FILE_NAME
    if path.exists():
        kept = path.read_bytes().strip()
        if kept.isascii() and kept:
            return kept.decode()
        if kept:
            raise OSError(f"{path} holds no key: remove it, and a new one is made")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = PREFIX + secrets.token_urlsafe(32)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return key
