"""One process of a host works at batches: the one that holds the lock on a file, which goes to another when it dies."""

import fcntl
import os
from pathlib import Path


class Leader:
    """Whoever makes it closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def leads(self) -> bool:
        """Whether this process does, or does from now on. Raises OSError."""
        if self._fd is not None:
            return True
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
