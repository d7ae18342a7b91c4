"""Which workers of this host live: each holds the lock on a file of its own, which the kernel lets go when its process dies."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

MAKING = ".making"


class WorkerLock:
    """Whoever holds it closes it. `folder`: of all workers of this host that share a database."""

    def __init__(self, folder: Path, worker: str) -> None:
        self.worker = worker
        self._path = folder / worker
        self._fd: int | None = None

    def hold(self) -> None:
        """From now on this worker is known to live. The file has its name only when it is locked. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        making = self._path.with_suffix(MAKING)
        self._fd = os.open(making, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(self._path)

    def dead(self) -> list[str]:
        """Workers of this host whose process is gone. Blocks for a moment. Raises OSError."""
        if self._fd is None:
            return []
        names = [entry.name for entry in os.scandir(self._path.parent) if entry.name != self._path.name and not entry.name.endswith(MAKING)]
        return [name for name in names if _is_free(self._path.with_name(name))]

    def bury(self, workers: list[str]) -> None:
        """Nothing is left of them."""
        for worker in workers:
            self._path.with_name(worker).unlink(missing_ok=True)

    def close(self) -> None:
        if self._fd is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = None


def _is_free(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(fd)
