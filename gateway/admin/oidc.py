"""One OpenID Connect provider: its discovery document, its keys as they change, and the exchange of a code for tokens.

Nothing here is on the path of a request for inference. Every exchange has a deadline, and no redirect is followed. What is known
stays in use while the provider cannot be reached.
"""

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import structlog
from joserfc.jwk import KeySet

from config.tenancy import OidcSettings
from contract.errors import AttemptError, AuthenticationFailed, SignInUnavailable
from gateway.admin.refused import TokenRefused, UnknownKey
from gateway.admin.tokens import Verified, key_set, verified
from providers.http.port import Clocks, Endpoint, HttpClient, Origin

CLOCKS = Clocks(connect_s=3, headers_s=5, first_token_s=5, idle_s=5, total_s=10)
MAX_BYTES = 1 << 20
KEPT_S = 3600.0  # how long a discovery document and keys are used before they are asked for again
RENEW_S = 10.0  # at most one exchange for each of them in this time, whatever tokens are shown
VERIFIED_S = 60.0  # how long a token that was verified is not verified again
MAX_VERIFIED = 10_000

T = TypeVar("T")
log = structlog.get_logger("turnout.admin")


class Metadata(msgspec.Struct, frozen=True):
    """What is used of a discovery document (OpenID Connect Discovery 3, RP-Initiated Logout, RFC 9207)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    code_challenge_methods_supported: tuple[str, ...] | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] | None = None
    authorization_response_iss_parameter_supported: bool = False


class Tokens(msgspec.Struct, frozen=True):
    """The answer of a token endpoint."""

    id_token: str
    access_token: str | None = None


class _Kept(Generic[T]):
    """Something fetched and kept for KEPT_S; renewed at most once in `renew_s`, and kept for longer when it cannot be."""

    def __init__(self, fetch: Callable[[], Awaitable[T]], renew_s: float) -> None:
        self._fetch = fetch
        self._renew_s = renew_s
        self._value: T | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failed = False  # the last try
        self._lock = asyncio.Lock()

    async def get(self, *, other_than: T | None = None) -> T:
        """`other_than`: what the caller found wanting. Raises SignInUnavailable when there is nothing, or nothing newer could be fetched."""
        async with self._lock:
            value, now = self._value, time.monotonic()
            if value is not None and value is not other_than and now - self._fetched_at < KEPT_S:
                return value
            if now - self._tried_at >= self._renew_s:
                self._tried_at, self._failed = now, True
                try:
                    value = self._value = await self._fetch()
                    self._fetched_at, self._failed = now, False
                except SignInUnavailable as exc:
                    log.warning("the identity provider cannot be used", reason=exc.message)
            if value is None or (value is other_than and self._failed):
                raise SignInUnavailable("the identity provider cannot be reached just now; try again, or use the admin key")
            return value


class Provider:
    """`renew_s`: how long after one exchange for metadata or keys the next may be. One event loop."""

    def __init__(self, settings: OidcSettings, client: HttpClient, *, renew_s: float = RENEW_S) -> None:
        self.settings = settings
        self._client = client
        self._metadata = _Kept(self._fetch_metadata, renew_s)
        self._keys = _Kept(self._fetch_keys, renew_s)
        self._verified: dict[bytes, tuple[KeySet, float, Verified]] = {}

    # --- what the provider says of itself ------------------------------------------------------------------------------
    async def metadata(self) -> Metadata:
        """Raises SignInUnavailable."""
        return await self._metadata.get()

    async def _fetch_metadata(self) -> Metadata:
        issuer = self.settings.issuer
        status, body = await self._ask(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        found = _decoded(status, body, Metadata)
        if found.issuer != issuer:
            raise SignInUnavailable("its discovery document names another issuer than admin.oidc.issuer, which must be the same to the letter")
        if found.code_challenge_methods_supported is not None and "S256" not in found.code_challenge_methods_supported:
            raise SignInUnavailable("it does not support PKCE with S256")
        for url in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri, found.userinfo_endpoint, found.end_session_endpoint):
            if url is not None:
                self._endpoint(url)
        return found

    async def _fetch_keys(self) -> KeySet:
        status, body = await self._ask((await self.metadata()).jwks_uri)
        try:
            return key_set(_decoded(status, body, dict[str, Any]))
        except ValueError as exc:
            raise SignInUnavailable("its keys are not a JWK set") from exc

    # --- tokens --------------------------------------------------------------------------------------------------------
    async def verified(self, token: str) -> Verified:
        """A token, verified now or within the last minute with the keys that still hold. Raises TokenRefused, SignInUnavailable."""
        digest, now = sha256(token.encode()).digest(), time.time()  # the whole of it: a part could be another token's too
        keys = await self._keys.get()
        known = self._verified.get(digest)
        if known is not None and known[0] is keys and now < known[1]:
            return known[2]
        try:
            found = verified(token, keys, self.settings.issuer, self.settings.client_id, now)
        except UnknownKey:
            newer = await self._keys.get(other_than=keys)
            if newer is keys:
                raise
            keys, found = newer, verified(token, newer, self.settings.issuer, self.settings.client_id, now)
        if len(self._verified) >= MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = (keys, min(now + VERIFIED_S, found.claims["exp"]), found)
        return found

    async def redeem(self, code: str, verifier: str, redirect_uri: str) -> Tokens:
        """The tokens for a code. Raises AuthenticationFailed when the provider refuses it, SignInUnavailable."""
        metadata = await self.metadata()
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier}
        headers: tuple[tuple[bytes, bytes], ...] = ()
        secret, ways = self.settings.client_secret, metadata.token_endpoint_auth_methods_supported
        if secret is None:
            form["client_id"] = self.settings.client_id
        elif ways is None or "client_secret_basic" in ways:
            pair = f"{quote(self.settings.client_id, safe='')}:{quote(secret.get_secret_value(), safe='')}"  # RFC 6749, 2.3.1
            headers = ((b"authorization", b"Basic " + b64encode(pair.encode())),)
        else:
            form |= {"client_id": self.settings.client_id, "client_secret": secret.get_secret_value()}
        status, body = await self._ask(metadata.token_endpoint, form, headers)
        if 400 <= status < 500:
            raise AuthenticationFailed("the identity provider did not take this sign-in; begin again", code="sign_in_failed")
        return _decoded(status, body, Tokens)

    async def userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """More claims of the same person; none where the provider has no such endpoint. Raises TokenRefused, SignInUnavailable."""
        url = (await self.metadata()).userinfo_endpoint
        if url is None:
            return {}
        status, body = await self._ask(url, headers=((b"authorization", b"Bearer " + access_token.encode()),))
        claims: dict[str, Any] = _decoded(status, body, dict[str, Any])
        if claims.get("sub") != subject:
            raise TokenRefused("userinfo is of somebody else")  # OpenID Connect Core 5.3.2
        return claims

    # --- HTTP ----------------------------------------------------------------------------------------------------------
    def _endpoint(self, url: str, method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()) -> Endpoint:
        """Raises SignInUnavailable for what is no URL, and for one without TLS where the issuer has it."""
        try:
            parts = urlsplit(url)
            tls, host, port = parts.scheme == "https", parts.hostname, parts.port
        except ValueError as exc:
            raise SignInUnavailable("its discovery document holds what is not a URL") from exc
        if not host or not (tls or (parts.scheme == "http" and self.settings.issuer.startswith("http://"))) or not url.isascii():
            raise SignInUnavailable("its discovery document holds a URL that is not https")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Endpoint(Origin(host, port or (443 if tls else 80), tls), path, ((b"accept", b"application/json"), *headers), method)

    async def _ask(self, url: str, form: dict[str, str] | None = None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[int, bytes]:
        """The status and body of one exchange. Raises SignInUnavailable."""
        if form is None:
            endpoint, body = self._endpoint(url, headers=headers), b""
        else:
            endpoint = self._endpoint(url, "POST", ((b"content-type", b"application/x-www-form-urlencoded"), *headers))
            body = urlencode(form).encode()
        try:
            response = await self._client.send(endpoint, body, CLOCKS)
            return response.status, await response.read(MAX_BYTES)
        except (AttemptError, ValueError) as exc:
            raise SignInUnavailable("the identity provider cannot be reached just now; try again, or use the admin key") from exc


def _decoded(status: int, body: bytes, kind: type[T]) -> T:
    if status != 200:
        raise SignInUnavailable(f"the identity provider answered with status {status}")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise SignInUnavailable("the identity provider answered with what OpenID Connect does not have") from exc
