"""Cohere's errors: its bodies hold a message alone, so the status says it (docs.cohere.com/reference/errors)."""

from collections.abc import Mapping

from contract import errors as e
from providers.wires.failure import class_of_status, failure, retry_after_s

BY_STATUS: dict[int, type[e.AttemptError]] = {
    498: e.UpstreamAuthFailed,  # a blocked or invalid token
    499: e.UpstreamError,  # cancelled
}


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means."""
    return failure(BY_STATUS.get(status) or class_of_status(status), status, wait_s=retry_after_s(headers))
