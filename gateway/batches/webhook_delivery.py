"""Tells a webhook of batches that ended: OpenAI's events, once each as far as the receiver answers; what it does not take is told again, later each
time, and keeps no other waiting."""

import asyncio
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Any

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryError

from batch.states import Batch
from batch.store import Store
from config.tenancy import WebhookSettings
from gateway.batches.upkeep import DAY_US, US, now_us
from gateway.metering.webhook import Webhook
from providers.http.port import HttpClient

EVERY_S = 1.0
AGAIN_S = 2.0  # until an event that was not taken is told again, doubled with each time
MOST = 20  # that are told at once
MOST_S = 3600.0
DAYS = 3  # for how long it is tried

log = structlog.get_logger("turnout.batches")


class WebhookDelivery:
    """Driven by the executor's turns."""

    def __init__(self, settings: WebhookSettings, client: HttpClient, store: Store) -> None:
        self._webhook = Webhook(settings.url, settings.secret.get_secret_value(), client)
        self._store = store
        self._at = -1e9
        self._refused: dict[str, tuple[int, float]] = {}  # by batch: how often, and when it is told again
        self._telling: dict[str, asyncio.Task[None]] = {}

    def due(self) -> bool:
        return monotonic() >= self._at

    async def tell(self) -> None:
        """Side by side, so that none waits for another. Raises SQLAlchemyError."""
        now = monotonic()
        self._at = now + EVERY_S
        self._refused = {id: (times, at) for id, (times, at) in self._refused.items() if now - at < MOST_S}  # others are too old to be told
        later = [id for id, (_, at) in self._refused.items() if now < at]
        untold = await asyncio.to_thread(self._store.untold, now_us() - DAYS * DAY_US, [*later, *self._telling])
        for batch in untold[: MOST - len(self._telling)]:
            self._telling[batch.id] = task = asyncio.create_task(self._tell(batch), name=f"webhook {batch.id}")
            task.add_done_callback(partial(self._over, batch.id))

    def _over(self, id: str, _: asyncio.Task[None]) -> None:
        del self._telling[id]

    async def stop(self) -> None:
        for task in (tasks := tuple(self._telling.values())):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, batch: Batch) -> None:
        event = event_of(batch)
        try:
            await self._webhook.tell(event["id"], msgspec.json.encode(event), attempts=1)
            await asyncio.to_thread(self._store.told, batch.id, now_us())
        except (RetryError, SQLAlchemyError) as exc:
            error = exc.last_attempt.exception() if isinstance(exc, RetryError) else exc
            times, _ = self._refused.get(batch.id, (0, 0.0))
            again_s = min(MOST_S, AGAIN_S * 2.0**times)
            self._refused[batch.id] = times + 1, monotonic() + again_s
            reason = getattr(error, "reason", type(error).__name__)
            log.warning("the webhook of batches did not take an event", batch=batch.id, error=reason, again_in_s=again_s)


def event_of(batch: Batch) -> dict[str, Any]:
    """The same for the same batch, so that who is told twice can see it."""
    return {
        "id": "evt_" + blake2b(batch.id.encode(), digest_size=16).hexdigest(),
        "object": "event",
        "created_at": (batch.ended_at_us or 0) // US,
        "type": f"batch.{batch.status}",
        "data": {"id": batch.id},
    }
