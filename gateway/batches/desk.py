"""The batches of one gateway: where they are kept, and who works at them. Made with the app, started and stopped with it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from batch.folder import Folder
from batch.schema import bring_up
from batch.store import Store
from contract.errors import LedgerUnavailable
from gateway.batches.executor import Executor
from gateway.batches.leader import Leader
from gateway.batches.worker_lock import WorkerLock
from gateway.runtime import Runtime
from ledger.database import spool_folder, state_folder

Found = TypeVar("Found")


class Desk:
    """What the routes need. Whoever starts it stops it."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        beside = state_folder(settings.state.database)
        self.runtime = runtime
        self.folder = Folder(beside / "files" if settings.batch.folder is None else Path(settings.batch.folder))
        self.store = Store(runtime.ledger.engine)
        beside_spool = spool_folder(settings.state.database)
        self._leader = Leader(beside_spool.with_suffix(".batch.lock"))
        self._workers = beside_spool.with_suffix(".batch.workers")
        self._executor: Executor | None = None

    async def start(self) -> None:
        engine = self.store.engine
        await asyncio.to_thread(bring_up, engine)
        worker_lock = WorkerLock(self._workers, token_hex(8))
        self._executor = Executor(self.runtime, self.store, self.folder, self._leader, worker_lock, engine.dialect.name == "sqlite")
        await self._executor.start()

    async def stop(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            await executor.stop()

    @property
    def executor(self) -> Executor:
        """Only while it is started."""
        if self._executor is None:
            raise LedgerUnavailable("the gateway is starting or stopping; try again")
        return self._executor

    async def ask(self, question: Callable[[], Found]) -> Found:
        """Asks the store, off the event loop. Raises LedgerUnavailable."""
        try:
            return await asyncio.to_thread(question)
        except SQLAlchemyError as exc:
            raise LedgerUnavailable("files and batches cannot be read or written just now") from exc

    @contextmanager
    def disk(self) -> Iterator[None]:
        """Raises LedgerUnavailable where the disk takes nothing."""
        try:
            yield
        except OSError as exc:
            raise LedgerUnavailable("the disk takes no files just now; try again when it has room") from exc
