"""Anthropic's errors, by type and status (platform.claude.com/docs/en/api/errors); and ours in its words."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from contract import errors as e
from providers.wires.failure import BY_STATUS, MAX_RETRY_AFTER_S, class_of_status, failure, retry_after_s

# says what a status alone does not
BY_TYPE: dict[str, type[e.AttemptError]] = {
    "authentication_error": e.UpstreamAuthFailed,
    "billing_error": e.QuotaExhausted,
    "permission_error": e.UpstreamAuthFailed,
    "not_found_error": e.UpstreamModelNotFound,
    "request_too_large": e.UpstreamRejected,
    "rate_limit_error": e.RateLimited,
    "overloaded_error": e.UpstreamOverloaded,
}
# `error.details.error_code`, where a type does not say enough (the `anthropic` SDK's shared error types)
BY_CODE: dict[str, type[e.AttemptError]] = {
    "enforced_spend_limit_reached": e.QuotaExhausted,
    "contract_spend_limit_reached": e.QuotaExhausted,
    "linked_organization_spend_limit_reached": e.QuotaExhausted,
    "linked_organization_billing_unavailable": e.QuotaExhausted,
}
# a refusal without a code whose message begins so; only the beginning: elsewhere it may be what the caller wrote
NO_CREDIT = "Your credit balance is too low"
# these say something only where no status does: in an error event, or under a 200
BY_TYPE_IN_BAND: dict[str, type[e.AttemptError]] = {
    **BY_TYPE,
    "invalid_request_error": e.UpstreamRejected,
    "timeout_error": e.UpstreamError,
    "api_error": e.UpstreamError,
    "conflict_error": e.UpstreamError,
}
# OpenAI's word for an error's kind (gateway/errors.py) -> Anthropic's
TYPES = {
    "authentication_error": "authentication_error",
    "permission_error": "permission_error",
    "invalid_request_error": "invalid_request_error",
    "rate_limit_error": "rate_limit_error",
    "overloaded_error": "overloaded_error",
}
LIMITS = (b"requests", b"tokens", b"input-tokens", b"output-tokens")
NOT_FOUND = (e.NotFound, e.UpstreamModelNotFound)


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str | None = None
    details: _Details | None = None
    message: Any = None


class _Body(msgspec.Struct):
    error: _Error | None = None


_body = msgspec.json.Decoder(_Body)


def _read(body: bytes) -> _Error:
    try:
        return _body.decode(body).error or _Error()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()


def _named(error: _Error, by_type: Mapping[str, type[e.AttemptError]]) -> type[e.AttemptError] | None:
    """What its code, or else its type, means. That credit is used up is told as the caller's fault, in words alone."""
    code = error.details.error_code if error.details is not None else None
    if error.type == "invalid_request_error" and isinstance(error.message, str) and error.message.startswith(NO_CREDIT):
        return e.QuotaExhausted
    return BY_CODE.get(code or "") or by_type.get(error.type or "")


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means; one from before the API (a proxy's page) classifies by its status alone."""
    error = _read(body)
    named = _named(error, BY_TYPE) if 400 <= status < 500 or status in BY_STATUS else None
    wait_s = retry_after_s(headers)
    wait_s = _until_reset(headers) if wait_s is None else wait_s
    return failure(named or class_of_status(status), status, wait_s=wait_s, message=error.message)


def in_band_error(body: bytes) -> e.AttemptError:
    """The error that an error event, or an error object under a 200, means."""
    error = _read(body)
    return failure(_named(error, BY_TYPE_IN_BAND) or e.UpstreamError, 200, message=error.message)


def _until_reset(headers: Mapping[bytes, bytes]) -> float | None:
    """How long until the limits that are used up fill again, by the `anthropic-ratelimit-*` headers read against the response's own Date."""
    try:
        now = parsedate_to_datetime(headers[b"date"].decode("ascii", "replace"))
    except (KeyError, ValueError):
        return None
    waits = [wait_s for name in LIMITS if (wait_s := _reset_s(headers, name, now)) is not None]
    return min(MAX_RETRY_AFTER_S, max(0.0, *waits)) if waits else None


def _reset_s(headers: Mapping[bytes, bytes], name: bytes, now: datetime) -> float | None:
    try:
        if headers[b"anthropic-ratelimit-%b-remaining" % name].strip() != b"0":
            return None
        reset = datetime.fromisoformat(headers[b"anthropic-ratelimit-%b-reset" % name].decode("ascii", "replace").strip())
        return (reset - now).total_seconds()
    except (KeyError, ValueError, TypeError):
        return None


def encode_error(error: e.TurnoutError, error_type: str, request_id: str, attempts: int) -> bytes:
    """Anthropic's error body, with our code, field and attempts beside its own members."""
    told = error.last if isinstance(error, e.AttemptsExhausted) else error
    kind = "request_too_large" if isinstance(told, e.RequestTooLarge) else TYPES.get(error_type, "api_error")
    body: dict[str, Any] = {"type": "not_found_error" if isinstance(told, NOT_FOUND) else kind, "message": error.message}
    body |= {"code": error.reason, "param": error.param, "attempts": attempts}
    return msgspec.json.encode({"type": "error", "error": body, "request_id": request_id})
