"""What outlives the process on disk: the attempts that began and have no row yet, and rows that the database would not take for a while.

`Intents` are appended to a file before anything is sent upstream, with no fsync: what was written survives the process, kill -9 included. Rows that
wait for their database are files of their own, written whole. Whoever opens the ledger next takes over the files of processes that are gone.
"""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

SEGMENT_BYTES = 1 << 20
Key = tuple[str, int]  # request id, attempt
Values = Sequence[Any]  # of a row, by column

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload


def _frames(data: bytes) -> Iterator[Any]:
    """What was written whole: a torn end is of something that never came to pass."""
    at = 0
    while at + 8 <= len(data):
        size, sum_ = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
        payload = data[at + 8 : at + 8 + size]
        if len(payload) < size or crc32(payload) != sum_:
            return
        yield _decode(payload)
        at += 8 + size


class _Segment:
    """One file of intents, locked for as long as its process lives."""

    __slots__ = ("fd", "open", "path", "size")

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.open: set[Key] = set()
        self.size = 0
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            self.write(_framed(_encode(list(columns))))
        except OSError:
            self.remove()
            raise

    def write(self, frame: bytes) -> None:
        """All or nothing. Raises OSError."""
        if os.write(self.fd, frame) != len(frame):
            os.ftruncate(self.fd, self.size)
            raise OSError(28, "No space left on device")
        self.size += len(frame)

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()
        os.close(self.fd)


class Spool:
    """`columns`: of the rows. `begin` and `withdraw` belong to the event loop, everything else to the thread that writes."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._folder = folder
        self._columns = columns
        self._segment: _Segment | None = None
        self._of: dict[Key, _Segment] = {}
        self._full: list[_Segment] = []
        self._made = 0

    # --- attempts that began ---------------------------------------------------------------------------------------
    def begin(self, key: Key, values: Values) -> None:
        """Notes an attempt, with the row that stands for it should its own never come. Raises OSError; then nothing may be sent."""
        segment = self._segment
        if segment is None or segment.size > SEGMENT_BYTES:
            segment = self._following(segment)
        segment.write(_framed(_encode(values)))
        segment.open.add(key)
        self._of[key] = segment

    def _following(self, full: _Segment | None) -> _Segment:
        self._segment = _Segment(self._path("intents"), self._columns)
        if full is not None:
            self._full.append(full)
        return self._segment

    def withdraw(self, key: Key) -> None:
        """It came to nothing: no row is to stand for it."""
        segment = self._of.pop(key, None)
        if segment is not None:
            with suppress(OSError):
                segment.write(_framed(_encode(key)))
            segment.open.discard(key)

    def over(self, keys: Iterable[Key]) -> None:
        """Their rows are safe."""
        for key in keys:
            segment = self._of.pop(key, None)
            if segment is not None:
                segment.open.discard(key)
        for segment in [each for each in self._full if not each.open]:
            self._full.remove(segment)
            segment.remove()

    @property
    def begun(self) -> int:
        """Attempts that have no row yet."""
        return len(self._of)

    def close(self) -> None:
        """Leaves behind only what is not over."""
        for segment in (*self._full, *(() if self._segment is None else (self._segment,))):
            if segment.open:
                os.close(segment.fd)
            else:
                segment.remove()
        self._segment, self._full, self._of = None, [], {}

    # --- rows that wait --------------------------------------------------------------------------------------------
    def put_aside(self, rows: Sequence[Values]) -> None:
        """Raises OSError; then nothing was kept."""
        path = self._path("rows")
        making = path.with_suffix(".making")
        try:
            with making.open("wb") as file:
                file.write(_framed(_encode(list(self._columns))) + b"".join(_framed(_encode(row)) for row in rows))
                file.flush()
                os.fsync(file.fileno())
            making.rename(path)
        except OSError:
            with suppress(OSError):
                making.unlink()
            raise

    def waiting(self) -> list[Path]:
        """The files of rows that wait, whoever put them aside, the oldest first."""
        return sorted(self._folder.glob("*.rows")) if self._folder.exists() else []

    def read(self, path: Path) -> list[dict[str, Any]]:
        """The rows of a file, by column. Raises FileNotFoundError: another process has written them meanwhile."""
        columns, *rows = _frames(path.read_bytes()) or ([],)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def left_behind(self) -> Iterator[tuple[int, Path, list[dict[str, Any]]]]:
        """Attempts that processes which are gone had begun: an open, locked descriptor, to be closed when the file was dealt with; the file; rows."""
        for path in sorted(self._folder.glob("*.intents")) if self._folder.exists() else ():
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives
                os.close(fd)
                continue
            if not path.exists():  # it was dealt with meanwhile
                os.close(fd)
                continue
            columns, *frames = [tuple(frame) for frame in _frames(path.read_bytes())] or [()]
            withdrawn = {frame for frame in frames if len(frame) < len(columns)}
            yield fd, path, [dict(zip(columns, row, strict=True)) for row in frames if len(row) == len(columns) and row[:2] not in withdrawn]

    def _path(self, kind: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._made += 1
        return self._folder / f"{time.time_ns():020}-{os.getpid()}-{self._made}.{kind}"
