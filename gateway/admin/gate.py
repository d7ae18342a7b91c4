"""Who asks the admin API: a program with the admin key or a provider's token, or a person with a session. Fails closed.

A request with a header of its own is judged by that alone: no cookie helps a key that is wrong.
"""

import asyncio
import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import Request
from sqlalchemy import Engine

from config.tenancy import AdminSettings, OidcSettings
from contract.errors import AuthenticationFailed, PermissionDenied
from gateway.admin.refused import TokenRefused
from gateway.admin.roles import ADMIN_KEY, AdminCaller, caller_of, values_of
from gateway.admin.sessions import Sessions, csrf_of
from providers.http.port import HttpClient

if TYPE_CHECKING:
    from gateway.admin.oidc import Provider

READING = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-turnout-csrf"

log = structlog.get_logger("turnout.admin")


class SignOn:
    """What single sign-on needs: the settings, their provider and the sessions. `secure`: browsers come by https."""

    def __init__(self, settings: OidcSettings, provider: "Provider", sessions: Sessions) -> None:
        self.settings = settings
        self.provider = provider
        self.sessions = sessions
        self.secure = (settings.public_url or "").startswith("https://")
        self.cookie = "__Host-turnout-admin" if self.secure else "turnout-admin"
        self.login_cookie = "__Host-turnout-login" if self.secure else "turnout-login"


def _sign_on(oidc: OidcSettings, client: HttpClient, engine: Engine) -> SignOn:
    from gateway.admin.oidc import Provider  # cryptography is heavy, and few need it

    return SignOn(oidc, Provider(oidc, client), Sessions(engine, oidc.issuer))


class Gate:
    """`caller` is what a route of the admin API depends on."""

    def __init__(self, settings: AdminSettings, client: HttpClient, engine: Engine) -> None:
        key = settings.key
        self._key_digest = None if key is None else sha256(key.get_secret_value().encode()).digest()
        oidc = settings.oidc
        self.sign_on = None if oidc is None else _sign_on(oidc, client, engine)

    async def caller(self, request: Request) -> AdminCaller:
        """Raises AuthenticationFailed, PermissionDenied (no role, or a write without its CSRF token), SignInUnavailable, LedgerUnavailable."""
        credential = _credential(request)
        if credential is not None:
            return await self._program(credential)
        id = self.session_id(request)
        if self.sign_on is None or id is None:
            raise AuthenticationFailed("nobody is signed in; send the admin key as `Authorization: Bearer KEY`, or sign in at /auth/login")
        session = await asyncio.to_thread(self.sign_on.sessions.find, id)
        if session is None:
            raise AuthenticationFailed("the session is over; sign in again at /auth/login")
        if request.method not in READING and not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_of(id).encode()):
            raise PermissionDenied(f"a write by a browser needs the header {CSRF_HEADER} with the csrf_token of GET /auth/session", code="csrf")
        return caller_of(self.sign_on.settings, session.subject, session.name, session.values, "session")

    def session_id(self, request: Request) -> str | None:
        return None if self.sign_on is None else request.cookies.get(self.sign_on.cookie) or None

    async def _program(self, credential: str) -> AdminCaller:
        if self._key_digest is not None and hmac.compare_digest(sha256(credential.encode()).digest(), self._key_digest):
            return ADMIN_KEY
        if self.sign_on is None or credential.count(".") != 2:
            raise AuthenticationFailed("the admin key is not valid")
        try:
            claims = (await self.sign_on.provider.verified(credential)).claims
        except TokenRefused as exc:
            log.info("a token was refused", reason=str(exc))
            raise AuthenticationFailed("the token is not valid", code="invalid_token") from exc
        values = values_of(claims, self.sign_on.settings.roles_claim) or ()
        return caller_of(self.sign_on.settings, claims["sub"], name_of(claims), values, "token")


def name_of(claims: dict[str, Any]) -> str:
    """What to call somebody: never what to know them by."""
    found = (claims.get(claim) for claim in ("name", "preferred_username", "email", "sub"))
    return next(text for text in found if isinstance(text, str) and text)


def _credential(request: Request) -> str | None:
    """A key or a token by its header; "" for a header that has neither."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        return value.strip() if scheme.lower() == "bearer" else ""
    return request.headers.get("x-api-key")
