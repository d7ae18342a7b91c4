"""Google's errors, by status and structured reason (google.rpc.Status, google.rpc.ErrorInfo, RetryInfo, QuotaFailure)."""

from collections.abc import Mapping
from typing import Any

import msgspec

from contract import errors as e
from providers.wires.failure import class_of_status, failure, retry_after_s


class _Violation(msgspec.Struct):
    quotaId: str = ""


class _Detail(msgspec.Struct):
    reason: str | None = None
    retryDelay: str | None = None
    violations: list[_Violation] = []


class _Error(msgspec.Struct):
    code: int | None = None
    status: str | None = None
    message: Any = None
    details: list[_Detail] = []


class _Body(msgspec.Struct):
    error: _Error | None = None


_body = msgspec.json.Decoder(_Body)
_bodies = msgspec.json.Decoder(list[_Body])
_NONE = _Error()

BY_REASON: dict[str, type[e.AttemptError]] = {
    "API_KEY_INVALID": e.UpstreamAuthFailed,  # comes with 400
    "API_KEY_SERVICE_BLOCKED": e.UpstreamAuthFailed,
    "BILLING_DISABLED": e.QuotaExhausted,
}
BY_STATUS_WORD: dict[str, type[e.AttemptError]] = {
    "INVALID_ARGUMENT": e.UpstreamRejected,
    "FAILED_PRECONDITION": e.UpstreamRejected,
    "OUT_OF_RANGE": e.UpstreamRejected,
    "UNAUTHENTICATED": e.UpstreamAuthFailed,
    "PERMISSION_DENIED": e.UpstreamAuthFailed,
    "NOT_FOUND": e.UpstreamModelNotFound,
    "RESOURCE_EXHAUSTED": e.RateLimited,
    "UNAVAILABLE": e.UpstreamOverloaded,
}


def read(body: bytes) -> _Error:
    """The error in a body, which may be wrapped in an array; an empty one where there is none."""
    try:
        if body.lstrip()[:1] == b"[":
            return next((found.error for found in _bodies.decode(body) if found.error is not None), _NONE)
        return _body.decode(body).error or _NONE
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _NONE


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means."""
    error = read(body)
    wait_s = retry_after_s(headers)
    return failure(_class_of(error, status), status, wait_s=_delay_s(error) if wait_s is None else wait_s, message=error.message)


def in_band_error(body: bytes) -> e.AttemptError:
    """The error that an error object under a 200 means."""
    error = read(body)
    return failure(_class_of(error, error.code or 500), 200, wait_s=_delay_s(error), message=error.message)


def _class_of(error: _Error, status: int) -> type[e.AttemptError]:
    named = next((BY_REASON[detail.reason] for detail in error.details if detail.reason in BY_REASON), None)
    if named is not None:
        return named
    if any("PerDay" in violation.quotaId for detail in error.details for violation in detail.violations):
        return e.QuotaExhausted
    return BY_STATUS_WORD.get(error.status or "") or class_of_status(status)


def _delay_s(error: _Error) -> float | None:
    for detail in error.details:
        if detail.retryDelay is not None and detail.retryDelay.endswith("s"):
            try:
                return max(0.0, min(3600.0, float(detail.retryDelay[:-1])))
            except ValueError:
                return None
    return None
