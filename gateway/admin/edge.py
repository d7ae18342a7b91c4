"""What every answer of the admin API carries, as plain ASGI around its app, and how a body is read: late, small and in time."""

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from config.values import SHAPES
from contract.errors import ClientClosed, InvalidRequest, RequestTimeout, RequestTooLarge
from gateway.client import App, Message, Receive, Scope, Send
from gateway.identity import new_request_id

MAX_BODY_BYTES = 64 << 10
BODY_S = 10.0
ALWAYS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

Body = TypeVar("Body", bound=BaseModel)


class AdminEdge:
    """Around the app. A header that the app sets itself stays."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                has = {name.lower() for name, _ in headers}
                more = [(name, value) for name, value in ALWAYS if name not in has]
                message = {**message, "headers": [*headers, *more, (b"x-request-id", request_id.encode())]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def given(request: Request, kind: type[Body]) -> Body:
    """The request's JSON; no body stands for `{}`. Raises InvalidRequest, RequestTooLarge, RequestTimeout, ClientClosed."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise RequestTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    except TimeoutError as exc:
        raise RequestTimeout(f"the body did not come within {BODY_S:g} s") from exc
    except ClientDisconnect as exc:
        raise ClientClosed("the client left") from exc
    try:
        return kind.model_validate_json(bytes(body) or b"{}")
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        param = ".".join(str(step) for step in first["loc"] if step not in SHAPES)[:100]
        words = "is not a field of this" if first["type"] == "extra_forbidden" else str(first["msg"])
        raise InvalidRequest(f"{param}: {words}" if param else words, param=param or None) from None
