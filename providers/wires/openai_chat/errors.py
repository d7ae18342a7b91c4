"""Errors of OpenAI-compatible providers, classified by status and structured code (failure.py: where there is none); their text goes no further.

Codes: https://platform.openai.com/docs/guides/error-codes, and the bodies that vLLM, llama.cpp, Groq and OpenRouter send under 200.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from contract import errors as e
from providers.wires.failure import BY_STATUS, class_of_status, failure, retry_after_s

# structured code -> the error it means, whatever the status; read from `code`, then from `type`
BY_CODE: dict[str, type[e.AttemptError]] = {
    "context_length_exceeded": e.ContextLengthExceeded,
    "exceed_context_size_error": e.ContextLengthExceeded,  # llama.cpp
    "content_policy_violation": e.ContentPolicyRefused,
    "content_filter": e.ContentPolicyRefused,
    "ResponsibleAIPolicyViolation": e.ContentPolicyRefused,  # Azure
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


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means. A body that is no JSON classifies by its status alone."""
    details = _details(body)
    return failure(_class_of(status, details), status, param=details.get("param"), wait_s=retry_after_s(headers), message=details.get("message"))


def in_band_error(raw: bytes) -> e.AttemptError:
    """The error that an error object under a 200 means; it may be the value of `error`, or hold it."""
    details = _details(raw)
    code = details.get("code")
    cls = _by_code(details)
    if cls is None and isinstance(code, int) and 400 <= code < 600:
        cls = _class_of(code, {})
    if cls is None:
        cls = BY_TYPE_IN_BAND.get(str(details.get("type")), e.UpstreamError)
    return failure(cls, 200, param=details.get("param"), message=details.get("message"))


def _class_of(status: int, details: dict[str, Any]) -> type[e.AttemptError]:
    named = _by_code(details) if 400 <= status < 500 or status in BY_STATUS else None
    return named or class_of_status(status)


def _by_code(details: dict[str, Any]) -> type[e.AttemptError] | None:
    inner = details.get("innererror")  # Azure's
    codes = (details.get("code"), details.get("type"), inner.get("code") if isinstance(inner, dict) else None)
    return next((BY_CODE[str(code)] for code in codes if str(code) in BY_CODE), None)


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
