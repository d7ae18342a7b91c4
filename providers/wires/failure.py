"""Errors of providers, by status and structured code; a provider's text goes no further. What all wires share.

Each wire brings its own table of codes; statuses, words and `retry-after` are the same for all. Two things some providers tell in words alone:
that a prompt is too long, and that a content filter stepped in. Of a refusal without a code its sentence is looked up in SENTENCES.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from contract import errors as e

_FIELD_PATH = re.compile(r"[A-Za-z_]\w{0,63}(?:\.\w{1,64}|\[\d{1,6}\]){0,12}")
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
MAX_RETRY_AFTER_S = 3600.0
MESSAGE_LIMIT = 1000  # characters of a message that are looked at: it may repeat what the caller wrote
_TOO_LONG = (
    r"prompt is too long: \d+ tokens > \d+ maximum",  # Anthropic, and Bedrock for it
    r"input length and `max_tokens` exceed context limit",  # Anthropic
    r"input is too long for requested model",  # Bedrock
    r"the input token count \(\d+\) exceeds the maximum number of tokens allowed",  # Google
    r"this model's maximum context length is \d+ tokens",  # vLLM and others, with the code of any bad request
    r"`inputs` tokens \+ `max_new_tokens` must be <= \d+",  # TGI
)
_FILTERED = (
    r"output blocked by content filtering policy",  # Anthropic, and Bedrock for it
    r"triggering azure openai.s content management policy",  # Azure, where a proxy took its code away
)
SENTENCES: tuple[tuple[re.Pattern[str], type[e.AttemptError]], ...] = (
    (re.compile("|".join(_FILTERED), re.IGNORECASE), e.ContentPolicyRefused),
    (re.compile("|".join(_TOO_LONG), re.IGNORECASE), e.ContextLengthExceeded),
)
# what is left of a limit -> when it is whole again (platform.openai.com/docs/guides/rate-limits, docs.claude.com/en/api/rate-limits)
RESETS = (
    (b"x-ratelimit-remaining", b"x-ratelimit-reset"),  # OpenRouter: Unix time
    *((b"x-ratelimit-remaining-" + of, b"x-ratelimit-reset-" + of) for of in (b"requests", b"tokens")),
    *(
        (b"anthropic-ratelimit-" + of + b"-remaining", b"anthropic-ratelimit-" + of + b"-reset")
        for of in (b"requests", b"tokens", b"input-tokens", b"output-tokens")
    ),
)

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


def class_of_status(status: int) -> type[e.AttemptError]:
    """What a status other than 200 means where no code says more: an unasked 2xx or a redirect is no answer."""
    if status < 400:
        return e.MalformedResponse
    if status < 500 or status in BY_STATUS:
        return BY_STATUS.get(status, e.UpstreamRejected)
    return e.UpstreamError


def failure(cls: type[e.AttemptError], status: int, *, param: object = None, wait_s: float | None = None, message: object = None) -> e.AttemptError:
    """The error to raise, in our words; `param` is shown when it is the path of a field and nothing else.

    `message`: the provider's words, which are looked up where its code says no more than that it refused.
    """
    if cls is e.UpstreamRejected and isinstance(message, str):
        cls = next((said for sentence, said in SENTENCES if sentence.search(message[:MESSAGE_LIMIT])), cls)
    words = next(WORDS[base] for base in cls.__mro__ if base in WORDS)
    safe = isinstance(param, str) and _FIELD_PATH.fullmatch(param) is not None
    error = cls(
        words + (f" (HTTP {status})" if status >= 400 else " in its stream") + (f", at `{param}`" if safe else ""),
        param=str(param) if safe else None,
        retry_after_s=wait_s,
    )
    error.upstream_status = status
    return error


def retry_after_s(headers: Mapping[bytes, bytes]) -> float | None:
    """How long the provider wants to be left alone, in whichever way it says so. None: not said, or not sane.

    `retry-after-ms` (OpenAI), `x-ms-retry-after-ms` (Azure), `retry-after` in seconds or as a date (RFC 9110 10.2.3), and where none of
    them is sent the resets of the limits that are used up: OpenAI's durations, Anthropic's times. Times are read against the response's Date,
    or our own clock where it has none.
    """
    for name in (b"retry-after-ms", b"x-ms-retry-after-ms"):
        with suppress(KeyError, ValueError):
            return _sane(float(headers[name]) / 1000)
    if (value := headers.get(b"retry-after")) is not None:
        return _seconds_or_date(value.strip(), headers)
    waits = [wait for remaining, reset in RESETS if headers.get(remaining) == b"0" and (wait := _until(headers.get(reset, b""), headers)) is not None]
    return max(waits, default=None)


def _seconds_or_date(value: bytes, headers: Mapping[bytes, bytes]) -> float | None:
    if value.replace(b".", b"", 1).isdigit():
        return _sane(float(value))
    with suppress(ValueError, KeyError, TypeError, OverflowError, IndexError):
        return _sane((_date(value) - _now(headers)).total_seconds())
    return None


def _until(value: bytes, headers: Mapping[bytes, bytes]) -> float | None:
    """`1h2m3.5s`, `20ms`, a Unix time in seconds or milliseconds, or an RFC 3339 time."""
    text = value.decode("ascii", "replace").strip()
    if text.isdigit() and len(text) in (10, 13):
        with suppress(KeyError, ValueError, TypeError):
            return _sane(int(text) / (1000 if len(text) == 13 else 1) - _now(headers).timestamp())
    if text and (found := _DURATION.fullmatch(text)) is not None:
        return _sane(sum(float(number or 0) * unit for number, unit in zip(found.groups(), (3600, 60, 1, 0.001), strict=True)))
    with suppress(ValueError, KeyError, TypeError, OverflowError, IndexError):
        return _sane((datetime.fromisoformat(text) - _now(headers)).total_seconds())
    return None


def _now(headers: Mapping[bytes, bytes]) -> datetime:
    """By the provider's clock, or ours where it does not tell."""
    return _date(headers[b"date"]) if b"date" in headers else datetime.now(UTC)


def _date(value: bytes) -> datetime:
    return parsedate_to_datetime(value.decode("ascii", "replace"))


def _sane(seconds: float) -> float | None:
    return min(seconds, MAX_RETRY_AFTER_S) if seconds >= 0 else None
