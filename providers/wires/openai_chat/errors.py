"""Errors of OpenAI-compatible providers, classified by status and structured code; their text goes no further.

Codes: https://platform.openai.com/docs/guides/error-codes, and the bodies that vLLM, llama.cpp, Groq and OpenRouter send under 200.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from contract import errors as e

_FIELD_PATH = re.compile(r"[A-Za-z_]\w{0,63}(?:\.\w{1,64}|\[\d{1,6}\]){0,12}")
MAX_RETRY_AFTER_S = 3600.0

# structured code -> the error it means, whatever the status; read from `code`, then from `type`
BY_CODE: dict[str, type[e.AttemptError]] = {
    "context_length_exceeded": e.ContextLengthExceeded,
    "exceed_context_size_error": e.ContextLengthExceeded,  # llama.cpp
    "content_policy_violation": e.ContentPolicyRefused,
    "content_filter": e.ContentPolicyRefused,
    "insufficient_quota": e.QuotaExhausted,
    "billing_hard_limit_reached": e.QuotaExhausted,
    "billing_not_active": e.QuotaExhausted,
    "rate_limit_exceeded": e.RateLimited,
    "rate_limit_error": e.RateLimited,
    "model_not_found": e.UpstreamModelNotFound,
    "invalid_api_key": e.UpstreamAuthFailed,
    "overloaded_error": e.UpstreamOverloaded,
    "server_overloaded": e.UpstreamOverloaded,
    "engine_overloaded_error": e.UpstreamOverloaded,
}
# these say something only where no status does: in an error that came under a 200
BY_TYPE_IN_BAND: dict[str, type[e.AttemptError]] = {
    "invalid_request_error": e.UpstreamRejected,
    "BadRequestError": e.UpstreamRejected,
    "authentication_error": e.UpstreamAuthFailed,
    "permission_error": e.UpstreamAuthFailed,
}
BY_STATUS: dict[int, type[e.AttemptError]] = {
    401: e.UpstreamAuthFailed,
    402: e.QuotaExhausted,
    403: e.UpstreamAuthFailed,
    404: e.UpstreamModelNotFound,
    408: e.UpstreamError,
    409: e.UpstreamError,
    425: e.UpstreamError,
    429: e.RateLimited,
    503: e.UpstreamOverloaded,
    529: e.UpstreamOverloaded,
}
WORDS: dict[type[e.AttemptError], str] = {
    e.ContextLengthExceeded: "the request is longer than the model's context",
    e.ContentPolicyRefused: "the provider's content policy refused the request",
    e.QuotaExhausted: "the gateway's quota at the provider is used up",
    e.RateLimited: "the provider limits the gateway's rate",
    e.UpstreamModelNotFound: "the provider does not know this model or path",
    e.UpstreamAuthFailed: "the provider does not accept the gateway's key",
    e.UpstreamOverloaded: "the provider is overloaded",
    e.UpstreamError: "the provider failed",
    e.UpstreamRejected: "the provider refused the request",
    e.MalformedResponse: "the provider answered what is not an answer",
}


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means. A body that is no JSON classifies by its status alone."""
    return _error(_class_of(status, details := _details(body)), status, details, retry_after_s(headers))


def in_band_error(raw: bytes) -> e.AttemptError:
    """The error that an error object under a 200 means; it may be the value of `error`, or hold it."""
    details = _details(raw)
    code = details.get("code")
    cls = _by_code(details)
    if cls is None and isinstance(code, int) and 400 <= code < 600:
        cls = _class_of(code, {})
    if cls is None:
        cls = BY_TYPE_IN_BAND.get(str(details.get("type")), e.UpstreamError)
    return _error(cls, 200, details, None)


def _error(cls: type[e.AttemptError], status: int, details: dict[str, Any], wait_s: float | None) -> e.AttemptError:
    words = next(WORDS[base] for base in cls.__mro__ if base in WORDS)
    param = details.get("param")
    safe = isinstance(param, str) and _FIELD_PATH.fullmatch(param) is not None
    error = cls(f"{words} (HTTP {status})" + (f", at `{param}`" if safe else ""), param=str(param) if safe else None, retry_after_s=wait_s)
    error.upstream_status = status
    return error


def _class_of(status: int, details: dict[str, Any]) -> type[e.AttemptError]:
    if status < 400:
        return e.MalformedResponse  # an unasked 2xx, or a redirect, which is never followed
    if status < 500 or status in BY_STATUS:
        return _by_code(details) or BY_STATUS.get(status, e.UpstreamRejected)
    return e.UpstreamError


def _by_code(details: dict[str, Any]) -> type[e.AttemptError] | None:
    return BY_CODE.get(str(details.get("code"))) or BY_CODE.get(str(details.get("type")))


def _details(body: bytes) -> dict[str, Any]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(decoded, list) and decoded:  # Gemini's OpenAI-compatible endpoint wraps it in an array
        decoded = decoded[0]
    if not isinstance(decoded, dict):
        return {}
    error = decoded.get("error") or decoded  # vLLM before 0.10 sent the object bare
    return error if isinstance(error, dict) else {}


def retry_after_s(headers: Mapping[bytes, bytes]) -> float | None:
    """`retry-after-ms`, or `retry-after` in seconds or as a date (read against the response's own Date). None: not said, or not sane."""
    with suppress(KeyError, ValueError):
        return _sane(float(headers[b"retry-after-ms"]) / 1000)
    try:
        if (value := headers.get(b"retry-after")) is None:
            return None
        if value.strip().replace(b".", b"", 1).isdigit():
            return _sane(float(value))
        then, now = _date(value), _date(headers[b"date"])
        return _sane((then - now).total_seconds())
    except (ValueError, KeyError, TypeError, OverflowError, IndexError):
        return None


def _date(value: bytes) -> datetime:
    return parsedate_to_datetime(value.decode("ascii", "replace"))


def _sane(seconds: float) -> float | None:
    return min(seconds, MAX_RETRY_AFTER_S) if seconds >= 0 else None
