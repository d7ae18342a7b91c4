"""Tells a webhook, signed, when a budget reaches one of its thresholds: once for each window, over restarts and processes.

What was seen is in the ledger's database before anybody is told; what could not be told is tried again, by whichever process lives.
"""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec
import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryError

from config.tenancy import AlertSettings
from contract.errors import LedgerUnavailable, StoreUnavailable
from gateway.metering.meter import MeterPort
from gateway.metering.webhook import Webhook
from ledger import alerts as book
from ledger.alerts import Alert
from ledger.prices import NUSD_PER_USD
from policy.quota import Scope, Spending
from providers.http.port import HttpClient

LOOK_S = 0.5  # from a spent dollar to the look whether a threshold was reached
AGAIN_S = 30.0  # between two looks for what could not be told

log = structlog.get_logger("turnout.alerts")


class Alerts:
    """Whoever starts it stops it."""

    def __init__(self, settings: AlertSettings, client: HttpClient, meter: MeterPort, engine: Engine) -> None:
        self._webhook = Webhook(settings.url, settings.secret.get_secret_value(), client)
        self._meter = meter
        self._engine = engine
        self._touched: dict[str, Scope] = {}
        self._seen: set[str] = set()  # ids of alerts that are in the database for sure
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def spent(self, scopes: Iterable[Scope]) -> None:
        """Money was spent there. Never blocks."""
        for scope in scopes:
            if scope.budgets:
                self._touched[scope.id] = scope
        self._wake.set()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="alerts")

    async def stop(self) -> None:
        """What is not told yet is told after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _keep(self) -> None:
        while True:
            try:
                await self._look()
                await self._tell()
            except (SQLAlchemyError, StoreUnavailable, LedgerUnavailable) as exc:
                log.warning("budgets' thresholds wait for their store", error=type(exc).__name__)
            except Exception as exc:  # the task's top: one bad round must not end all later ones
                log.error("looking at budgets failed", exc_info=exc)
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(LOOK_S)  # what comes meanwhile is looked at together
            self._wake.clear()

    async def _look(self) -> None:
        """Notes the thresholds that were reached."""
        touched, found = self._touched, []
        self._touched = {}
        try:
            for scope in touched.values():
                for spending in (await self._meter.standing(scope)).budgets:
                    found += [alert for alert in reached(scope, spending) if alert.id not in self._seen]
            if found:
                await asyncio.to_thread(book.note, self._engine, found)
        except BaseException:
            self._touched = {**touched, **self._touched}
            raise
        self._seen.update(alert.id for alert in found)

    async def _tell(self) -> None:
        for alert in await asyncio.to_thread(book.claim, self._engine):
            try:
                await self._webhook.tell(alert.id, msgspec.json.encode(told_as(alert)))
            except RetryError as exc:
                error = exc.last_attempt.exception()
                log.warning("the webhook of budgets cannot be told just now", alert=alert.id, error=getattr(error, "reason", type(error).__name__))
                continue
            await asyncio.to_thread(book.told, self._engine, alert.id)


def reached(scope: Scope, spending: Spending) -> list[Alert]:
    """The thresholds of one budget's window that what was spent has reached."""
    budget, now_us = spending.budget, time.time_ns() // 1000
    return [
        Alert(
            id=_id(scope, budget.window, spending.start_s, budget.nusd, share),
            scope_kind=scope.kind,
            scope_name=scope.name,
            window=budget.window,
            start_s=spending.start_s,
            share=share,
            budget_nusd=budget.nusd,
            spent_nusd=spending.spent_nusd,
            on_exhausted=budget.on_exhausted,
            seen_at_us=now_us,
        )
        for share in budget.alert_at
        if spending.spent_nusd >= share * budget.nusd
    ]


def told_as(alert: Alert) -> dict[str, Any]:
    """The message's body."""
    return {
        "type": "budget.threshold_reached",
        "timestamp": _iso(alert.seen_at_us / 1e6),
        "data": {
            "scope": {"kind": alert.scope_kind, "name": alert.scope_name},
            "window": alert.window,
            "window_start": None if alert.window == "total" else _iso(alert.start_s),
            "threshold": alert.share,
            "budget_usd": alert.budget_nusd / NUSD_PER_USD,
            "spent_usd": alert.spent_nusd / NUSD_PER_USD,
            "on_exhausted": alert.on_exhausted,
        },
    }


def _id(scope: Scope, window: str, start_s: int, nusd: int, share: float) -> str:
    """The same for the same threshold, so that who is told twice can see it."""
    return "msg_" + sha256(f"{scope.id}\0{window}\0{start_s}\0{nusd}\0{share}".encode()).hexdigest()[:32]


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
