"""What is done with a whole batch beside its rows: its file is checked, its results become files, it is told of, and it is forgotten in time.

All of it blocks, and runs in a thread.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

import msgspec

from batch.checking import OPENAI, Checking, Wrong
from batch.folder import Folder
from batch.output import line_of
from batch.states import OUTPUT_PURPOSE, Batch, Ended, Fault, File
from batch.store import Store
from contract.errors import RequestError
from contract.head import HeaderList
from gateway.auth import Principal
from gateway.endpoints import ENDPOINTS
from gateway.job_making import bounded
from gateway.runtime import Runtime

US = 1_000_000
DAY_US = 86_400 * US
RESULTS = ".results"
KEY_GONE = Fault("invalid_api_key", "the key that made this batch is not valid any more")


def now_us() -> int:
    return time.time_ns() // 1000


def check_of(runtime: Runtime, path: str, principal: Principal, headers: HeaderList) -> Callable[[bytes], None]:
    """Says of one row's body what it would be refused for if it were asked now. Raises batch.checking.Wrong."""
    endpoint = ENDPOINTS[path]

    def check(body: bytes) -> None:
        try:
            call = endpoint.read("", body, headers)
            if call.stream:
                raise Wrong("stream_not_supported", "a row cannot be streamed; leave `stream` out", "stream")
            bounded(runtime, call, principal, headers)
        except RequestError as error:
            raise Wrong(error.reason, error.message, error.param) from error

    return check


def headers_of(batch: Batch) -> HeaderList:
    return [(name.encode(), value.encode()) for name, value in msgspec.json.decode(batch.headers, type=list[tuple[str, str]])]


class Upkeep:
    """`worker`: under whose name it is done."""

    def __init__(self, store: Store, folder: Folder, runtime: Runtime, worker: str) -> None:
        self._store = store
        self._folder = folder
        self._runtime = runtime
        self._worker = worker
        self._settings = runtime.settings.batch
        self.stopping = False  # a check under way is given up: it begins anew after the next start

    def claim(self, batch: Batch) -> bool:
        now = now_us()
        return self._store.claim(batch.id, self._worker, now, self._until(now))

    def _until(self, now: int) -> int:
        return now + int(self._settings.lease_s * US)

    # --- its file --------------------------------------------------------------------------------------------------
    def check(self, batch: Batch) -> None:
        """An OpenAI batch's file, until every row of it may be asked or it is told why not."""
        if not self.claim(batch):
            return
        principal = self._runtime.keys.of_id(batch.key_id)
        if principal is None or principal.team != batch.team:
            self._store.checked(batch.id, self._worker, now_us(), 0, _told([KEY_GONE]))
            return
        checking = Checking("openai", batch.endpoint, check_of(self._runtime, batch.endpoint, principal, headers_of(batch)), OPENAI)
        self._store.begin_places(batch.id, self._worker)
        try:
            with self._folder.open(batch.source) as file:
                for places in checking.places(file):
                    if self.stopping or not self._store.add_places(batch.id, self._worker, self._until(now_us()), places):
                        return
        except FileNotFoundError:
            return
        self._store.checked(batch.id, self._worker, now_us(), checking.rows, _told(checking.faults) if checking.faults else None)

    # --- its results -----------------------------------------------------------------------------------------------
    def finish(self, batch: Batch) -> bool:
        """Its rows have come to their ends: they become its files, and the batch ends. False: another worker is at it."""
        if not self.claim(batch):
            return False
        self._store.finalizing(batch.id, now_us())
        found = self._store.get(None, batch.id)
        if found is None or found.ended:
            return False
        output, error = self._write(found)
        names = (None if output is None else output.id, None if error is None else error.id)
        made = [file for file in (output, error) if file is not None] if found.dialect == "openai" else []
        if not self._store.finished(found, self._worker, now_us(), names, made):
            return False
        self._store.drop_answers(found.id)
        if found.dialect == "anthropic":
            self._folder.remove(found.source)
        return True

    def _write(self, batch: Batch) -> tuple[File | None, File | None]:
        """Its output and its errors. What an earlier try has left is written anew, under the same names."""
        drafts = self._folder.new(), self._folder.new()
        try:
            counts = [0, 0]
            for row in self._rows(batch.id):
                is_error, line = line_of(batch.dialect, batch.id, row)
                drafts[is_error].file.write(line)
                counts[is_error] += 1
            if batch.dialect == "anthropic":
                return self._kept(batch, drafts[0].keep(batch.id + RESULTS), batch.id + RESULTS, "results"), None
            made: list[File | None] = []
            for draft, count, kind in zip(drafts, counts, ("output", "error"), strict=True):
                name = "file-" + blake2b(f"{batch.id}:{kind}".encode(), digest_size=12).hexdigest()
                made.append(self._kept(batch, draft.keep(name), name, kind) if count else None)
            return made[0], made[1]
        finally:
            for draft in drafts:
                draft.drop()

    def _rows(self, id: str) -> Iterator[Ended]:
        line = 0
        while rows := self._store.ended_rows(id, line):
            yield from rows
            line = rows[-1].line
            time.sleep(0)

    def _kept(self, batch: Batch, size: int, name: str, kind: str) -> File:
        now = now_us()
        given = batch.output_expires_s
        expires = self.expiry(now) if given is None else now + given * US
        return File(name, batch.team, OUTPUT_PURPOSE, f"{batch.id}_{kind}.jsonl", size, now, expires)

    def expiry(self, now: int) -> int | None:
        days = self._settings.retention_days
        return None if days is None else now + days * DAY_US

    # --- its end ---------------------------------------------------------------------------------------------------
    def tidy(self) -> None:
        """Files and batches whose time is over go."""
        now = now_us()
        for id in self._store.expired_files(now):
            self._folder.remove(id)
        days = self._settings.retention_days
        while days is not None and (old := self._store.ended_before(now - days * DAY_US)):
            self.drop(None, old)
        self._folder.tidy(now / US)

    def drop(self, team: str | None, ids: list[str]) -> bool:
        """Ended batches, with what is theirs alone. Whether there was one."""
        gone = self._store.drop(team, ids)
        for id, dialect, source in gone:
            if dialect == "anthropic":
                self._folder.remove(source)
                self._folder.remove(id + RESULTS)
        return bool(gone)


def _told(faults: Sequence[Fault]) -> str:
    return msgspec.json.encode(faults).decode()
