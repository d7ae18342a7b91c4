"""The folders of engines' sockets: each is locked by its gateway for as long as that lives, so the next one knows which were left behind."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

SOCKET_NAME = "engine.sock"
LOCK_NAME = "owner.lock"
PREFIX = "turnout-"
MAX_SOCKET_PATH = 100  # bytes; a unix socket's path may be 107 long on Linux, 103 on macOS


class SocketFolder:
    """A new folder that only we may enter, whose path leaves room for a socket's name. Whoever makes it removes it. Raises OSError."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_places()[0]))
        unlocked = self.path / f"{LOCK_NAME}.new"
        self._lock = os.open(unlocked, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.rename(self.path / LOCK_NAME)  # so nobody finds a lock that is not held yet

    @property
    def socket(self) -> Path:
        return self.path / SOCKET_NAME

    def remove(self) -> None:
        """With the socket in it. Idempotent."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def remove_left_folders() -> list[Path]:
    """Removes this user's folders whose gateway is gone, however it went; gives their paths."""
    found = []
    for place in _places():
        with contextlib.suppress(OSError):
            found += [path for path in Path(place).glob(f"{PREFIX}*/") if _is_left(path)]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found


def _is_left(folder: Path) -> bool:
    """False too for what is no folder of an engine, or another user's."""
    with contextlib.suppress(OSError):
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
            return False
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(lock)
    return False


def _places() -> list[str]:
    """Where they may be, the first choice first."""
    room = MAX_SOCKET_PATH - len(SOCKET_NAME) - len(f"/{PREFIX}xxxxxxxx/")
    places = dict.fromkeys((tempfile.gettempdir(), "/tmp", "/dev/shm"))
    return [place for place in places if len(os.fsencode(place)) <= room]
