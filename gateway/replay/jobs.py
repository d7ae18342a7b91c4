"""Replays that were asked of a gateway: one at a time on its host, each in a process of its own, what they come to in files beside the database."""

import fcntl
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from contract.errors import LedgerUnavailable, LimitExceeded, NotFound
from gateway.replay.asked import Job
from gateway.replay.child import described
from ledger.database import spool_folder

KEPT = 20  # replays that can still be read
RETRY_AFTER_S = 5.0
ID = re.compile(r"replay_[0-9a-f]{32}")


class Jobs:
    """Its methods block. Whoever makes it stops it. Several processes of a host share the folder, and any of them tells of any replay."""

    def __init__(self, database: str) -> None:
        self._folder = spool_folder(database).with_suffix(".replays")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, job: Job) -> dict[str, Any]:
        """How it stands. Raises LimitExceeded while another one runs, LedgerUnavailable where the disk takes nothing."""
        try:
            with self._turn() as lock:
                self._reap()
                self._drop_old()
                path = self._path(job.id)
                about = described(job)
                path.write_bytes(msgspec.json.encode(about))
                os.ftruncate(lock, 0)
                os.pwrite(lock, job.id.encode(), 0)
                # The lock is open in the child alone from now on, and goes with it.
                child = subprocess.Popen([sys.executable, "-m", "gateway.replay.child"], stdin=subprocess.PIPE, pass_fds=(lock,))
                self._process = child
                assert child.stdin is not None
                child.stdin.write(pickle.dumps((job, str(path))))
                child.stdin.flush()
        except OSError as exc:
            raise LedgerUnavailable("no replay can be started just now: the disk or the machine takes none") from exc
        return about

    def find(self, id: str, team: str | None) -> dict[str, Any]:
        """How a replay of this team stands; `team` None: of whoever. Raises NotFound, the same for another team's as for none."""
        runs = self.runs == id  # before its file is read: what ends in between has written it
        try:
            told: dict[str, Any] = msgspec.json.decode(self._path(id).read_bytes()) if ID.fullmatch(id) else {}
        except OSError:
            told = {}
        if not told or team not in (None, told["team"]):
            raise NotFound(f"there is no replay {id[:80]!r} here", param="replay_id", code="replay_not_found")
        if told["status"] == "running" and not runs:
            return {**told, "status": "failed", "error": "it was ended before it was done: its gateway stopped, or memory ran out"}
        return told

    def stop(self) -> None:
        """Ends what runs for this process."""
        if self._process is not None:
            self._process.kill()
            self._reap(wait=True)

    def _path(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    @property
    def _lock(self) -> Path:
        return self._folder / "lock"

    @contextmanager
    def _turn(self) -> Iterator[int]:
        """The file whose lock says that one runs."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                words = "a replay is running already, and there is one at a time; ask again when it is done"
                raise LimitExceeded(words, code="replay_running", retry_after_s=RETRY_AFTER_S) from exc
            yield fd
        finally:
            os.close(fd)

    @property
    def runs(self) -> str | None:
        """The replay that runs on this host; None: there is none."""
        try:
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return os.pread(fd, 100, 0).decode()
        finally:
            os.close(fd)

    def _drop_old(self) -> None:
        found = sorted(self._folder.glob("replay_*.json"), key=lambda path: path.stat().st_mtime)
        for path in found[: max(0, len(found) - KEPT + 1)]:
            path.unlink(missing_ok=True)

    def _reap(self, wait: bool = False) -> None:
        child, self._process = self._process, None
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        child.wait() if wait else child.poll()
