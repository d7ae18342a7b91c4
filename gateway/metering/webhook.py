"""Posts to a webhook, signed as Standard Webhooks (standardwebhooks.com) has it: HMAC-SHA256 over `id.timestamp.body`."""

import hmac
import time
from base64 import b64decode, b64encode
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from contract.errors import AttemptError, UpstreamError
from providers.http.port import Clocks, Endpoint, HttpClient, Origin

ATTEMPTS = 3
CLOCKS = Clocks(connect_s=3, headers_s=10, first_token_s=10, idle_s=5, total_s=15)
MAX_ANSWER = 1 << 16


class Webhook:
    """`client` is its owner's to close."""

    def __init__(self, url: str, secret: str, client: HttpClient) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        self._origin = Origin(parts.hostname or "", parts.port or (443 if tls else 80), tls)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = _key_of(secret)
        self._client = client

    async def tell(self, id: str, body: bytes, attempts: int = ATTEMPTS) -> None:
        """Tries so many times. Raises tenacity's RetryError."""
        retrying = AsyncRetrying(retry=retry_if_exception_type(AttemptError), wait=wait_exponential_jitter(1, 8), stop=stop_after_attempt(attempts))
        async for attempt in retrying:
            with attempt:
                await self._post(id, body)

    async def _post(self, id: str, body: bytes) -> None:
        """Raises AttemptError."""
        at = str(int(time.time()))
        headers = (
            (b"content-type", b"application/json"),
            (b"webhook-id", id.encode()),
            (b"webhook-timestamp", at.encode()),
            (b"webhook-signature", signature(self._secret, id, at, body).encode()),
        )
        response = await self._client.send(Endpoint(self._origin, self._path, headers), body, CLOCKS)
        status = response.status
        await response.read(MAX_ANSWER)
        if not 200 <= status < 300:
            raise UpstreamError(f"the webhook answered {status}")


def signature(secret: bytes, id: str, at: str, body: bytes) -> str:
    return "v1," + b64encode(hmac.digest(secret, f"{id}.{at}.".encode() + body, "sha256")).decode()


def _key_of(secret: str) -> bytes:
    return b64decode(secret.removeprefix("whsec_")) if secret.startswith("whsec_") else secret.encode()
