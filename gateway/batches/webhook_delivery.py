"""Tells a webhook of batches that ended: OpenAI's events, once each as far as the receiver answers; what it does not take is told again, later each
time, and keeps no other waiting."""

import asyncio
from hashlib import blake2b
from time import monotonic
from typing import Any

import msgspec
import structlog
from tenacity import RetryError

from batch.states import Batch
from batch.store import Store
from config.tenancy import WebhookSettings
from contract.errors import UpstreamError
from gateway.batches.upkeep import DAY_US, US, now_us
from gateway.metering.webhook import Webhook
from providers.http.port import HttpClient

EVERY_S = 1.0
AGAIN_S = 30.0  # after the receiver did not answer, and doubled with each time that it refuses the same event
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

    def due(self) -> bool:
        return monotonic() >= self._at

    async def tell(self) -> None:
        """Raises SQLAlchemyError."""
        self._at = monotonic() + EVERY_S
        now = monotonic()
        self._refused = {id: (times, at) for id, (times, at) in self._refused.items() if now - at < MOST_S}  # others are too old to be told
        later = [id for id, (_, at) in self._refused.items() if now < at]
        for batch in await asyncio.to_thread(self._store.untold, now_us() - DAYS * DAY_US, later):
            event = event_of(batch)
            try:
                await self._webhook.tell(event["id"], msgspec.json.encode(event))
            except RetryError as exc:
                error = exc.last_attempt.exception()
                log.warning("the webhook of batches cannot be told just now", batch=batch.id, error=getattr(error, "reason", type(error).__name__))
                if not isinstance(error, UpstreamError):  # nobody is there
                    self._at = monotonic() + AGAIN_S
                    return
                times, _ = self._refused.get(batch.id, (0, 0.0))
                self._refused[batch.id] = times + 1, monotonic() + min(MOST_S, AGAIN_S * 2.0**times)
                continue
            await asyncio.to_thread(self._store.told, batch.id, now_us())


def event_of(batch: Batch) -> dict[str, Any]:
    """The same for the same batch, so that who is told twice can see it."""
    return {
        "id": "evt_" + blake2b(batch.id.encode(), digest_size=16).hexdigest(),
        "object": "event",
        "created_at": (batch.ended_at_us or 0) // US,
        "type": f"batch.{batch.status}",
        "data": {"id": batch.id},
    }
