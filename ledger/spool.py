"""What outlives the process on disk: the attempts that began and have no row yet, and rows that the database would not take for a while.

`Intents` are written to a file before anything is sent upstream, with no fsync: what was written survives the process, kill -9 included. The file
has its size from the start and is written through memory, for a system call would cost a request more than all of this. Rows that wait for their
database are files of their own, written whole. Whoever opens the ledger next takes over the files of processes that are gone; one that nobody can
read is set aside under another name. A file is made and locked under a name of its own before it has its real one: nobody takes it for left behind.
"""

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

SEGMENT_BYTES = 256 << 10
MAKING = ".making"
UNREADABLE = ".unreadable"
WITHDRAWAL = 32  # bytes of a frame that withdraws, beside its request's id
Key = tuple[str, int]  # request id, attempt
Values = Sequence[Any]  # of a row, by column

_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
_pack = struct.Struct(">II").pack


def _framed(payload: bytes) -> bytes:
    return _pack(len(payload), crc32(payload)) + payload


class Unreadable(Exception):
    """A file that is none of ours, or damaged."""


def _frames(data: bytes) -> tuple[list[Any], bytes]:
    """What was written whole, and what follows it: a torn end is of something that never came to pass, a size of 0 room that was not used.

    Raises msgspec.DecodeError.
    """
    found, at = list[Any](), 0
    while at + 8 <= len(data):
        size, sum_ = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
        payload = data[at + 8 : at + 8 + size]
        if not size or len(payload) < size or crc32(payload) != sum_:
            break
        found.append(_decode(payload))
        at += 8 + size
    return found, data[at:]


def _new(path: Path) -> int:
    """The descriptor of a file that is being made in its place, locked. Raises OSError."""
    fd = os.open(path.with_suffix(MAKING), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _left(path: Path) -> int | None:
    """The descriptor of a file whose process is gone, locked. None: it lives, or the file is not there any more."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            return fd
    except OSError:  # its process lives
        pass
    os.close(fd)
    return None


class _Segment:
    """One file of intents, locked for as long as its process lives. `room`: bytes that nothing is to come to any more."""

    __slots__ = ("_at", "_map", "fd", "open", "path", "room")

    def __init__(self, path: Path, columns: Sequence[str], least: int) -> None:
        """With room for `least` bytes. Raises OSError: all that may be written has its place on the disk from here on, or there is no segment."""
        head = _framed(_encode(list(columns)))
        size = max(SEGMENT_BYTES, len(head) + least)
        self.path = path.with_suffix(MAKING)
        self.open: set[Key] = set()
        self._at = 0
        self.room = size - len(head)
        self._map: mmap.mmap | None = None
        self.fd = _new(path)
        try:
            os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size)
            self.write(head)
            self.path.rename(path)
            self.path = path
        except (OSError, ValueError) as exc:
            self.remove()
            raise exc if isinstance(exc, OSError) else OSError(28, "No space left on device") from exc

    def write(self, frame: bytes) -> None:
        """For a frame that has its room."""
        at = self._at
        self._at = end = at + len(frame)
        assert self._map is not None
        self._map[at:end] = frame

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
        os.close(self.fd)

    def remove(self) -> None:
        with suppress(OSError):
            self.path.unlink()
        self.close()


class Spool:
    """`columns`: of the rows; `noted`: those of them that a note has.

    `begin` and `withdraw` belong to the event loop, everything else to the thread that writes.
    """

    def __init__(self, folder: Path, columns: Sequence[str], noted: Sequence[str]) -> None:
        self._folder = folder
        self._columns = columns
        self._noted = noted
        self._segment: _Segment | None = None
        self._of: dict[Key, _Segment] = {}
        self._full: list[_Segment] = []
        self._made = 0

    # --- attempts that began ---------------------------------------------------------------------------------------
    def begin(self, key: Key, note: msgspec.Struct) -> None:
        """Notes an attempt, with the row that stands for it should its own never come. Raises OSError; then nothing may be sent.

        `note`: an array of the noted columns, the key first.
        """
        frame, segment = _framed(_encode(note)), self._segment
        needed = len(frame) + len(key[0]) * 4 + WITHDRAWAL
        if segment is None or segment.room < needed:
            segment = self._following(segment, needed)
        segment.room -= needed
        segment.write(frame)
        segment.open.add(key)
        self._of[key] = segment

    def _following(self, full: _Segment | None, least: int) -> _Segment:
        self._segment = _Segment(self._path("intents"), self._noted, least)
        if full is not None:
            self._full.append(full)
        return self._segment

    def withdraw(self, key: Key) -> None:
        """It came to nothing: no row is to stand for it."""
        segment = self._of.pop(key, None)
        if segment is not None:
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
                segment.close()
            else:
                segment.remove()
        self._segment, self._full, self._of = None, [], {}

    # --- rows that wait --------------------------------------------------------------------------------------------
    def put_aside(self, rows: Sequence[Values]) -> None:
        """Raises OSError; then nothing was kept."""
        path = self._path("rows")
        making = path.with_suffix(MAKING)
        try:
            with os.fdopen(_new(path), "wb") as file:
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
        """The rows of a file, by column. Raises FileNotFoundError: another process has written them meanwhile; Unreadable."""
        try:
            (columns, *rows), rest = _frames(path.read_bytes())
            if rest:
                raise Unreadable(f"{len(rest)} bytes of it are no rows")
            return [dict(zip(columns, row, strict=True)) for row in rows]
        except (ValueError, TypeError) as exc:
            raise Unreadable("it holds no rows") from exc

    def left_behind(self) -> Iterator[tuple[int, Path, list[dict[str, Any]] | None]]:
        """Attempts that processes which are gone had begun: an open, locked descriptor, to be closed when the file was dealt with; the file; rows.

        None in place of the rows: it cannot be read. What they had not made whole is removed.
        """
        for path in sorted(self._folder.glob(f"*{MAKING}")) if self._folder.exists() else ():
            if (fd := _left(path)) is not None:
                path.unlink(missing_ok=True)
                os.close(fd)
        for path in sorted(self._folder.glob("*.intents")) if self._folder.exists() else ():
            if (fd := _left(path)) is not None:
                yield fd, path, _attempts(path.read_bytes())

    def set_aside(self, path: Path) -> Path:
        """Under a name that nobody looks for. Raises OSError."""
        return path.rename(path.with_name(path.name + UNREADABLE))

    @property
    def unreadable(self) -> int:
        """Files that were set aside and lie there still."""
        return len(list(self._folder.glob(f"*{UNREADABLE}"))) if self._folder.exists() else 0

    def _path(self, kind: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._made += 1
        return self._folder / f"{time.time_ns():020}-{os.getpid()}-{self._made}.{kind}"


def _attempts(data: bytes) -> list[dict[str, Any]] | None:
    """The rows of a file of intents. None: it is none."""
    try:
        frames, rest = _frames(data)
        if not frames:
            return None if rest.strip(b"\0") else []
        columns, *notes = [tuple(frame) for frame in frames]
    except (ValueError, TypeError):
        return None
    withdrawn = {frame for frame in notes if len(frame) < len(columns)}
    return [dict(zip(columns, row, strict=True)) for row in notes if len(row) == len(columns) and row[:2] not in withdrawn]
