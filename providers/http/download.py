"""Fetches files over HTTP to disk, for commands, never for a request: resumed where they were cut, checked, and in place only when whole."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

PIECE = 1 << 20
TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
TRIES = 8  # without a byte of progress between them: half a minute
PART = ".part"


class Remote(msgspec.Struct, frozen=True):
    """A file as its source describes it. `sha256`, or git's `blob` hash (SHA-1 over its length and content), or neither."""

    url: str
    size: int | None = None
    sha256: str | None = None
    blob: str | None = None


class CannotFetch(Exception):
    """The file is not to be had; the message says what was seen."""


class _Interrupted(CannotFetch):
    """It may go on where it was cut."""


@contextmanager
def _in_words() -> Iterator[None]:
    """httpx2's errors as ours: what a new try may mend, and what it will not."""
    try:
        yield
    except httpx2.TransportError as exc:
        raise _Interrupted(f"the server cannot be reached, or broke off ({type(exc).__name__}: {exc}); the same command goes on from there") from exc
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise CannotFetch(str(exc)) from exc


class Fetcher:
    """One client for several files. `authorization` is sent to the address asked for and to no other that it redirects to."""

    def __init__(self, authorization: str | None, pause_s: float = 0.25) -> None:
        headers = {"accept-encoding": "identity"} | ({"authorization": authorization} if authorization else {})
        self._client = httpx2.Client(headers=headers, timeout=TIMEOUT, follow_redirects=True)
        self._pause_s = pause_s

    def close(self) -> None:
        self._client.close()

    def json(self, url: str, params: Mapping[str, str]) -> bytes:
        """A JSON document's bytes. Raises CannotFetch."""
        return self._tries()(self._get, url, params)

    def fetch(self, remote: Remote, to: Path, came: Callable[[int], None]) -> None:
        """The file at `to`; `came` is called with the number of bytes, those on disk already first. Raises CannotFetch, OSError."""
        if to.exists() and _fault(to, remote) is None:
            return came(to.stat().st_size)
        part = to.with_name(to.name + PART)
        to.parent.mkdir(parents=True, exist_ok=True)
        came(_length(part))
        while True:
            before = _length(part)
            try:
                self._tries()(self._go_on, remote, part, came)
                break
            except _Interrupted:
                if _length(part) <= before:
                    raise
        if fault := _fault(part, remote):
            part.unlink(missing_ok=True)
            raise CannotFetch(f"{to.name}: {fault}; it was thrown away")
        part.replace(to)
        return None

    def _tries(self) -> Retrying:
        return Retrying(
            retry=retry_if_exception_type(_Interrupted),
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=self._pause_s, max=10),
            reraise=True,
        )

    @_in_words()
    def _get(self, url: str, params: Mapping[str, str]) -> bytes:
        response = self._client.get(url, params=dict(params))
        _judge(response)
        return response.content

    @_in_words()
    def _go_on(self, remote: Remote, part: Path, came: Callable[[int], None]) -> None:
        begin = _length(part)
        if remote.size is not None and begin >= remote.size:
            return
        headers = {"range": f"bytes={begin}-"} if begin else {}
        with self._client.stream("GET", remote.url, headers=headers) as response:
            if response.status_code == 416:  # nothing lies beyond what is there: the check tells whether it is right
                return
            _judge(response)
            resumed = response.status_code == 206 and response.headers.get("content-range", "").startswith(f"bytes {begin}-")
            if begin and not resumed:
                came(-begin)
            with part.open("ab" if resumed else "wb") as file:
                for piece in response.iter_raw():  # as they come: pieces of a size of ours would be lost with a cut
                    file.write(piece)
                    came(len(piece))
                file.flush()
                os.fsync(file.fileno())


def _judge(response: httpx2.Response) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status == 429 or status >= 500:
        raise _Interrupted(f"{response.url.host} answered {status}")
    hint = "; there may be no such thing, or it may need a token" if status in (401, 403, 404) else ""
    raise CannotFetch(f"{response.url.host} answered {status} for {response.url.path}{hint}")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fault(file: Path, remote: Remote) -> str | None:
    """What is wrong with what came; None: it is what its source says."""
    size = _length(file)
    if remote.size is not None and size != remote.size:
        return f"{size:,} bytes came, and it has {remote.size:,}"
    for expected, hashed, name in (
        (remote.sha256, hashlib.sha256(), "SHA-256"),
        (remote.blob, hashlib.sha1(b"blob %d\x00" % size, usedforsecurity=False), "git hash"),
    ):
        if expected is None:
            continue
        with file.open("rb") as opened:
            while piece := opened.read(PIECE):
                hashed.update(piece)
        if hashed.hexdigest() != expected:
            return f"its {name} is {hashed.hexdigest()}, not {expected}"
    return None
