"""What an app's routes raise as answers in the caller's dialect: the gateway's own errors, the framework's, and what nobody foresaw."""

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from contract.errors import InvalidRequest, MethodNotAllowed, NotFound, TurnoutError
from gateway.endpoints import words_for
from gateway.errors import shown

log = structlog.get_logger("turnout.edge")


def add_errors(app: FastAPI, elsewhere: str) -> None:
    """Adds the handlers. `elsewhere`: what to do when there is nothing at a path. The request's id is in its scope's state."""

    def answer(request: Request, error: TurnoutError) -> Response:
        shape = shown(error)
        words = words_for(request.scope["path"], "anthropic-version" in request.headers)
        body = words.encode_error(error, shape.type, request.scope["state"]["request_id"], 0)
        return Response(body, shape.status, {k.decode(): v.decode() for k, v in shape.headers}, "application/json")

    @app.exception_handler(TurnoutError)
    async def ours(request: Request, exc: TurnoutError) -> Response:
        return answer(request, exc)

    @app.exception_handler(HTTPException)
    async def theirs(request: Request, exc: HTTPException) -> Response:
        path = request.scope["path"][:100]
        if exc.status_code == 405:
            return answer(request, MethodNotAllowed(f"{path} does not take {request.method}"))
        if exc.status_code == 400:
            return answer(request, InvalidRequest("the body cannot be read: it is no JSON, or not valid UTF-8"))
        return answer(request, NotFound(f"there is nothing at {path}; {elsewhere}"))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> Response:
        first = exc.errors()[0]
        where, *names = map(str, first["loc"])
        return answer(request, InvalidRequest(str(first["msg"]), param=".".join(names if where in ("query", "path", "header") else (where, *names))))

    @app.exception_handler(Exception)
    async def unexpected(request: Request, exc: Exception) -> Response:
        log.error("unexpected error", request_id=request.scope["state"]["request_id"], exc_info=exc)
        return answer(request, TurnoutError("the gateway failed; the request id leads to its log"))
