"""Bedrock's errors, by the exception's name and the status."""

from collections.abc import Mapping
from typing import Any

import msgspec

from contract import errors as e
from providers.wires.failure import class_of_status, failure, retry_after_s

BY_NAME: dict[str, type[e.AttemptError]] = {
    "AccessDeniedException": e.UpstreamAuthFailed,
    "UnrecognizedClientException": e.UpstreamAuthFailed,
    "ExpiredTokenException": e.UpstreamAuthFailed,
    "InvalidSignatureException": e.UpstreamAuthFailed,
    "MissingAuthenticationTokenException": e.UpstreamAuthFailed,
    "IncompleteSignatureException": e.UpstreamAuthFailed,
    "RequestExpired": e.UpstreamAuthFailed,  # our clock is not Amazon's
    "RequestTimeoutException": e.UpstreamError,
    "ThrottlingException": e.RateLimited,
    "ServiceQuotaExceededException": e.QuotaExhausted,
    "ModelNotReadyException": e.UpstreamOverloaded,
    "ServiceUnavailableException": e.UpstreamOverloaded,
    "ResourceNotFoundException": e.UpstreamModelNotFound,
    "ValidationException": e.UpstreamRejected,
    "ModelTimeoutException": e.UpstreamError,
    "ModelErrorException": e.UpstreamError,
    "ModelStreamErrorException": e.UpstreamError,
    "InternalServerException": e.UpstreamError,
}
STATUSES: dict[int, type[e.AttemptError]] = {424: e.UpstreamError}  # the model behind Bedrock failed


class _Body(msgspec.Struct):
    type: str | None = msgspec.field(default=None, name="__type")
    message: Any = None


_body = msgspec.json.Decoder(_Body)


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means."""
    told = _read(body)
    named = headers.get(b"x-amzn-errortype", b"").decode("ascii", "replace") or told.type or ""
    found = BY_NAME.get(plain_name(named)) or STATUSES.get(status) or class_of_status(status)
    return failure(found, status, wait_s=retry_after_s(headers), message=told.message)


def stream_error(name: str, payload: bytes = b"") -> e.AttemptError:
    """The error that an exception inside a stream means; its name begins in lower case there. `payload`: its JSON."""
    plain = plain_name(name)
    return failure(BY_NAME.get(plain[:1].upper() + plain[1:], e.UpstreamError), 200, message=_read(payload).message)


def plain_name(name: str) -> str:
    """An exception's name without namespace and address: `ns#Name:http://…`."""
    return name.partition(":")[0].rpartition("#")[2]


def _read(body: bytes) -> _Body:
    try:
        return _body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Body()
