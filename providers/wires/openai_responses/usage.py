"""The Responses usage object to disjoint classes and back: input includes cached tokens, output includes reasoning."""

from typing import Any

import msgspec

from contract.usage import Usage


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


_decoder = msgspec.json.Decoder(_Usage)
_NO_INPUT, _NO_OUTPUT = _InputDetails(), _OutputDetails()


def decode_usage(raw: msgspec.Raw) -> Usage:
    """Takes the classes apart; an object of another shape is kept raw, with every class unknown."""
    kept = msgspec.Raw(bytes(raw))
    try:
        given = _decoder.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    into, out = given.input_tokens_details or _NO_INPUT, given.output_tokens_details or _NO_OUTPUT
    return Usage(
        input_uncached=_less(given.input_tokens, into.cached_tokens, into.cache_write_tokens, into.audio_tokens),
        cache_read=into.cached_tokens,
        cache_write_5m=into.cache_write_tokens,
        audio_input=into.audio_tokens,
        output_visible=_less(given.output_tokens, out.reasoning_tokens, out.audio_tokens),
        reasoning=out.reasoning_tokens,
        audio_output=out.audio_tokens,
        raw=kept,
    )


def _less(total: int | None, *parts: int | None) -> int | None:
    return None if total is None or total < 0 else max(0, total - sum(part for part in parts if part))


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The object for any provider's usage. Its schema wants numbers: what is unknown counts nothing."""
    into, out = usage.input_total or 0, usage.output_total or 0
    writes = (usage.cache_write_5m or 0) + (usage.cache_write_1h or 0)
    return {
        "input_tokens": into,
        "input_tokens_details": {"cached_tokens": usage.cache_read or 0, "cache_write_tokens": writes},
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": into + out,
    }
