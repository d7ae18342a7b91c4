"""The folder where uploaded files, and those that batches make, lie; written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

import msgspec

PART = ".part"
STALE_PART_S = 86_400


class Folder:
    """Names are ids that we made. The folder is ours alone: it holds conversations."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def path(self, name: str) -> Path:
        return self._path / name

    def has(self, name: str) -> bool:
        return self.path(name).is_file()

    def new(self) -> "Draft":
        """A file that is being written. Raises OSError."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path / f"{token_hex(12)}{PART}"
        return Draft(path, os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b", buffering=1 << 20), self)

    def open(self, name: str) -> BinaryIO:
        """Raises FileNotFoundError."""
        return self.path(name).open("rb")

    def remove(self, name: str) -> None:
        """Idempotent."""
        with suppress(FileNotFoundError):
            self.path(name).unlink()

    def names(self) -> Iterator[str]:
        """Of whole files."""
        with suppress(FileNotFoundError):
            yield from (path.name for path in self._path.iterdir() if path.suffix != PART)

    def tidy(self, now_s: float) -> None:
        """Removes what was never finished."""
        with suppress(FileNotFoundError):
            for path in self._path.glob(f"*{PART}"):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < now_s - STALE_PART_S:
                        path.unlink()


class Draft(msgspec.Struct):
    """`file` is written; then it is kept under a name, or dropped. Whoever made it ends it."""

    path: Path
    file: BinaryIO
    folder: Folder

    def keep(self, name: str) -> int:
        """On the disk under its name, in place of what was there; its size in bytes. Raises OSError."""
        self.file.flush()
        os.fsync(self.file.fileno())
        size = self.file.seek(0, os.SEEK_END)
        self.file.close()
        self.path.rename(self.folder.path(name))
        at = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(at)  # the name too
        finally:
            os.close(at)
        return size

    def drop(self) -> None:
        """Idempotent; does nothing to what was kept."""
        self.file.close()
        with suppress(FileNotFoundError):
            self.path.unlink()
