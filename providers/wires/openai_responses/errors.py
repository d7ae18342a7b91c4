"""Errors that only the Responses format has, on top of those of OpenAI's chat: the codes of a failed response.

Codes: the `openai` SDK's ResponseError; the two words for an overloaded server are those that Codex reads.
"""

from collections.abc import Mapping

import msgspec

from contract import errors as e
from providers.wires.failure import failure
from providers.wires.openai_chat import errors as chat

BY_CODE: dict[str, type[e.AttemptError]] = {
    "server_is_overloaded": e.UpstreamOverloaded,
    "slow_down": e.UpstreamOverloaded,
    "bio_policy": e.ContentPolicyRefused,
    "cyber_policy": e.ContentPolicyRefused,
    "misalignment_policy_violation": e.ContentPolicyRefused,
    "image_content_policy_violation": e.ContentPolicyRefused,
    "invalid_prompt": e.UpstreamRejected,
    "data_residency_mismatch": e.UpstreamRejected,
    "invalid_image": e.UpstreamRejected,
    "invalid_image_format": e.UpstreamRejected,
    "invalid_base64_image": e.UpstreamRejected,
    "invalid_image_url": e.UpstreamRejected,
    "image_too_large": e.UpstreamRejected,
    "image_too_small": e.UpstreamRejected,
    "image_parse_error": e.UpstreamRejected,
    "invalid_image_mode": e.UpstreamRejected,
    "image_file_too_large": e.UpstreamRejected,
    "unsupported_image_media_type": e.UpstreamRejected,
    "empty_image_file": e.UpstreamRejected,
    "failed_to_download_image": e.UpstreamRejected,
    "image_file_not_found": e.UpstreamRejected,
}
_GENERAL = (e.UpstreamError, e.UpstreamRejected)  # what chat's tables give where they know no more


class _Code(msgspec.Struct):
    code: str | None = None


class _Told(msgspec.Struct):
    error: _Code | None = None
    code: str | None = None


_told = msgspec.json.Decoder(_Told)


def decode_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> e.AttemptError:
    """The error that a response other than 200 means."""
    error = chat.decode_error(status, headers, body)
    return _named(error, body, status) if 400 <= status < 500 else error


def in_band_error(raw: bytes) -> e.AttemptError:
    """The error that a failed response or an `error` event means."""
    return _named(chat.in_band_error(raw), raw, 200)


def _named(error: e.AttemptError, raw: bytes, status: int) -> e.AttemptError:
    cls = BY_CODE.get(_code_of(raw)) if type(error) in _GENERAL else None
    return error if cls is None else failure(cls, status, param=error.param, wait_s=error.retry_after_s)


def _code_of(raw: bytes) -> str:
    try:
        told = _told.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return (told.error.code if told.error is not None else told.code) or ""
