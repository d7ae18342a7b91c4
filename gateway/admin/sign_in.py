"""`/auth/login`, `/auth/callback`, `/auth/session` and `/auth/logout`: people sign in by the authorization code flow with PKCE."""

import asyncio
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from secrets import token_urlsafe
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from contract.errors import AuthenticationFailed, InvalidRequest, SignInUnavailable
from gateway.admin.gate import Gate, SignOn, name_of
from gateway.admin.refused import TokenRefused
from gateway.admin.roles import AdminCaller, caller_of, values_of
from gateway.admin.sessions import Session, csrf_of

LOGIN_S = 600  # how long somebody may take to sign in
HOME = "/auth/session"
PRIVATE = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
A_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")

log = structlog.get_logger("turnout.admin")


class Login(msgspec.Struct, frozen=True):
    """One sign-in under way. It is in a cookie of the browser that began it, so that no other can end it."""

    state: str
    nonce: str
    verifier: str
    return_to: str


def add_sign_in(app: FastAPI, gate: Gate) -> None:
    """Adds the routes; without `admin.oidc` only those that say who asks."""
    Caller = Annotated[AdminCaller, Depends(gate.caller)]

    @app.get("/auth/session", tags=["sign-in"])
    async def session(request: Request, response: Response, caller: Caller) -> dict[str, Any]:
        """Who asks, and what a browser has to send along when it writes."""
        response.headers.update(PRIVATE)
        id = gate.session_id(request) if caller.via == "session" else None
        told = {"subject": caller.subject, "name": caller.name, "via": caller.via, "roles": caller.roles, "teams": sorted(caller.teams)}
        return {**told, "csrf_token": None if id is None else csrf_of(id)}

    if gate.sign_on is not None:
        _add_flow(app, gate, gate.sign_on)


def _add_flow(app: FastAPI, gate: Gate, on: SignOn) -> None:
    @app.get("/auth/login", tags=["sign-in"])
    async def login(request: Request, return_to: str = HOME) -> Response:
        """Sends a browser to the identity provider, and in the end to `return_to`, a path of this host."""
        begun = Login(token_urlsafe(32), token_urlsafe(32), token_urlsafe(48), safe_path(return_to))
        where = (await on.provider.metadata()).authorization_endpoint
        query = {
            "response_type": "code",
            "client_id": on.settings.client_id,
            "redirect_uri": _callback_of(on, request),
            "scope": " ".join(dict.fromkeys(("openid", *on.settings.scopes))),
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": _b64(sha256(begun.verifier.encode()).digest()),
            "code_challenge_method": "S256",
        }
        answer = _redirect(where + ("&" if "?" in where else "?") + urlencode(query))
        _set_cookie(answer, on, on.login_cookie, _b64(msgspec.json.encode(begun)), LOGIN_S)
        return answer

    @app.get("/auth/callback", tags=["sign-in"])
    async def callback(request: Request, state: str = "", code: str = "", iss: str | None = None) -> Response:
        """Where the identity provider sends the browser back to."""
        begun = _begun(request, on)
        if begun is None or not hmac.compare_digest(begun.state.encode(), state.encode()):
            raise AuthenticationFailed("this sign-in was not begun in this browser, or long ago; begin again at /auth/login", code="sign_in_failed")
        metadata = await on.provider.metadata()
        if iss != metadata.issuer and (iss is not None or metadata.authorization_response_iss_parameter_supported):  # RFC 9207
            raise AuthenticationFailed("the answer is of another identity provider", code="sign_in_failed")
        if not code:
            raise AuthenticationFailed("the identity provider did not sign you in", code="sign_in_failed")
        person = await _person(on, begun, code, _callback_of(on, request))
        caller_of(on.settings, person.subject, person.name, person.values, "session")  # nobody without a role gets a session
        id = await asyncio.to_thread(on.sessions.make, person)
        answer = _redirect(safe_path(begun.return_to))
        _set_cookie(answer, on, on.cookie, id, None)
        _set_cookie(answer, on, on.login_cookie, "", 0)
        return answer

    @app.post("/auth/logout", tags=["sign-in"])
    async def logout(request: Request, response: Response, _: Annotated[AdminCaller, Depends(gate.caller)]) -> dict[str, str | None]:
        """Ends the session, everywhere; `continue_at`: where the browser goes to sign out of the identity provider too."""
        id = gate.session_id(request)
        if id is not None:
            await asyncio.to_thread(on.sessions.end, id)
        response.headers.update(PRIVATE)
        _set_cookie(response, on, on.cookie, "", 0)
        return {"continue_at": await _end_session_url(on, request)}


async def _person(on: SignOn, begun: Login, code: str, redirect_uri: str) -> Session:
    """Whom the provider says that the code is of. Raises AuthenticationFailed, SignInUnavailable."""
    from gateway.admin.tokens import check_id_token  # cryptography is heavy, and few need it

    tokens = await on.provider.redeem(code, begun.verifier, redirect_uri)
    try:
        token = await on.provider.verified(tokens.id_token)
        check_id_token(token, on.settings.client_id, begun.nonce, tokens.access_token)
        claims = token.claims
        values = values_of(claims, on.settings.roles_claim)
        if values is None and tokens.access_token is not None:  # some providers keep groups out of their ID tokens
            values = values_of(await on.provider.userinfo(tokens.access_token, claims["sub"]), on.settings.roles_claim)
    except TokenRefused as exc:
        log.warning("a sign-in was refused", reason=str(exc))
        raise AuthenticationFailed("the identity provider's token is not valid; begin again at /auth/login", code="sign_in_failed") from exc
    return Session(claims["sub"], name_of(claims), tuple(sorted(values or ())))


async def _end_session_url(on: SignOn, request: Request) -> str | None:
    """RP-Initiated Logout 1.0. No ID token is kept, so the client is named instead; the provider may ask whether it is meant."""
    try:
        where = (await on.provider.metadata()).end_session_endpoint
    except SignInUnavailable:
        return None
    query = urlencode({"client_id": on.settings.client_id, "post_logout_redirect_uri": f"{_public_url(on, request)}/"})
    return None if where is None else where + ("&" if "?" in where else "?") + query


def safe_path(text: str) -> str:
    """A path of this host as it is; else where people land without one. `//host`, `/\\host` and control characters lead elsewhere."""
    return text if re.fullmatch(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*", text) and len(text) <= 2000 else HOME


def _begun(request: Request, on: SignOn) -> Login | None:
    text = request.cookies.get(on.login_cookie, "")
    try:
        return msgspec.json.decode(urlsafe_b64decode(text + "=="), type=Login)
    except (msgspec.DecodeError, ValueError):
        return None


def _public_url(on: SignOn, request: Request) -> str:
    if on.settings.public_url is not None:
        return on.settings.public_url.rstrip("/")
    host = request.headers.get("host", "")
    if A_HOST.fullmatch(host) is None:
        raise InvalidRequest("the Host header is not a host")
    return f"http://{host}"


def _callback_of(on: SignOn, request: Request) -> str:
    return f"{_public_url(on, request)}/auth/callback"


def _redirect(where: str) -> RedirectResponse:
    return RedirectResponse(where, 303, PRIVATE)


def _set_cookie(response: Response, on: SignOn, name: str, value: str, max_age: int | None) -> None:
    response.set_cookie(name, value, max_age, path="/", secure=on.secure, httponly=True, samesite="lax")


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
