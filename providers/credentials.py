"""Credentials that each request needs anew: Amazon's signature, and a Google service account's token."""

from datetime import UTC, datetime
from typing import Any

from google.auth import jwt
from google.auth.exceptions import GoogleAuthError

from providers.address import HeaderTuple
from providers.sigv4 import Credentials, Request, Scope, sign

GOOGLE_AUDIENCE = "https://aiplatform.googleapis.com/"  # a self-signed token is taken there as it is (google.aip.dev/auth/4111)


class AmazonSigner:
    """Signature Version 4 over every request. Implements `providers.backend.Signer`."""

    def __init__(self, credentials: Credentials, region: str, service: str = "bedrock") -> None:
        self._credentials = credentials
        self._scope = Scope(region, service)

    async def headers(self, host: str, path: str, body: bytes) -> HeaderTuple:
        path, _, query = path.partition("?")
        request = Request("POST", host, path, query, ((b"content-type", b"application/json"),), body)
        return tuple(sign(request, self._credentials, self._scope, datetime.now(UTC)))


class GoogleSigner:
    """A token that a service account's key signs, made anew when it is about to end: no server is asked."""

    def __init__(self, key_file: dict[str, str]) -> None:
        """`key_file`: what Google's key file holds. Raises ValueError for one that is not."""
        try:
            self._credentials: Any = jwt.Credentials.from_service_account_info(key_file, audience=GOOGLE_AUDIENCE)  # type: ignore[no-untyped-call]
        except (GoogleAuthError, AttributeError, KeyError, TypeError, ValueError) as exc:
            raise ValueError("the service account's key file cannot be used") from exc

    async def headers(self, host: str, path: str, body: bytes) -> HeaderTuple:
        if not self._credentials.valid:
            self._credentials.refresh(None)
        token: str | bytes = self._credentials.token
        return ((b"authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode())),)
