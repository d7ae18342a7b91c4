"""Keys made at run time, followed by each process: one small read five times a second, and the table of keys changes whole.

A database that fails leaves what was known last; it is told once.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import structlog

from config.settings import Settings
from contract.errors import LedgerUnavailable
from gateway.auth import KeyTable, Principal
from gateway.made_keys import Principals
from ledger.database import said
from ledger.keys import Keys, Snapshot
from policy.rule import Rule

EVERY_S = 0.2

log = structlog.get_logger("turnout.keys")


class KeyWatch:
    """`store` is what it follows, `table` what it changes, `settings` what keys are narrowed by. Whoever starts it stops it."""

    def __init__(self, store: Keys, table: KeyTable, settings: Settings, rules: Mapping[str, Rule]) -> None:
        self.store = store
        self._table = table
        self.settings = settings
        self._rules = rules
        self._seen = -1
        self._known: dict[bytes, Principal] = {}
        self._lock = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    async def start(self) -> None:
        """Once it returns, the keys are known, unless the database fails."""
        await self.look()
        self._task = asyncio.create_task(self._run(), name="keys")

    async def stop(self) -> None:
        """Idempotent. A read that is under way ends first: the database is about to be closed."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), EVERY_S)
                return
            await self.look()

    async def look(self) -> None:
        """Takes in what changed. Never fails: what was known then stays."""
        async with self._lock:
            try:
                found = await asyncio.to_thread(self._newer)
            except LedgerUnavailable as exc:
                self._told(said(exc.__cause__ or exc))
            except Exception as exc:  # the task's top: one bad look must not end all later ones
                if not self._failing:
                    log.error("the keys cannot be followed", exc_info=exc)
                self._failing = True
            else:
                if found is not None:
                    snapshot, self._known = found
                    self._table.set_made(self._known, snapshot.teams)
                    self._seen = snapshot.changes
                self._told(None)

    def _newer(self) -> tuple[Snapshot, dict[bytes, Principal]] | None:
        if self.store.changes() == self._seen:
            return None
        made = Principals(self.settings, self._rules, self._known)
        return self.store.snapshot(made.take), made.found

    def _told(self, error: str | None) -> None:
        if (error is not None) != self._failing:
            self._failing = error is not None
            if error is None:
                log.warning("the keys can be read again")
            else:
                log.error("the keys cannot be read: those that were known last hold", error=error)
