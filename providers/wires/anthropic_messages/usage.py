"""Anthropic's usage object to disjoint classes and back. There, `input_tokens` excludes both cache classes."""

from typing import Any

import msgspec

from contract.usage import Usage


class _CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: dict[str, int | None] | None = None


_decoder = msgspec.json.Decoder(_Usage)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merged(earlier: msgspec.Raw, later: msgspec.Raw) -> msgspec.Raw:
    """Two reports of one answer: the later one's values, and the earlier one's where it has none."""
    if bytes(earlier)[:1] != b"{":
        return msgspec.Raw(bytes(later))
    if bytes(later)[:1] != b"{":
        return msgspec.Raw(bytes(earlier))
    told = {name: raw for name, raw in _members.decode(later).items() if bytes(raw) != b"null"}
    return msgspec.Raw(msgspec.json.encode({**_members.decode(earlier), **told}))


def decode_usage(raw: msgspec.Raw) -> Usage:
    """Takes the classes apart; an object of another shape is kept raw, with every class unknown."""
    kept = msgspec.Raw(bytes(raw))
    try:
        given = _decoder.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept)
    split, thinking = given.cache_creation, given.output_tokens_details.thinking_tokens if given.output_tokens_details else None
    output = given.output_tokens
    return Usage(
        input_uncached=given.input_tokens,
        cache_read=given.cache_read_input_tokens,
        cache_write_5m=split.ephemeral_5m_input_tokens if split is not None else given.cache_creation_input_tokens,
        cache_write_1h=split.ephemeral_1h_input_tokens if split is not None else None,
        output_visible=output if output is None or thinking is None else max(0, output - thinking),
        reasoning=thinking,
        server_tool_calls=_sum(given.server_tool_use),
        raw=kept,
    )


def _sum(counts: dict[str, int | None] | None) -> int | None:
    known = [count for count in (counts or {}).values() if count is not None]
    return sum(known) if known else None


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Anthropic's object for any provider's usage. Its schema wants numbers: what is unknown counts nothing in them, or is left out."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    fresh = [count for count in (usage.input_uncached, usage.audio_input) if count is not None]
    writes = [count for count in (usage.cache_write_5m, usage.cache_write_1h) if count is not None]
    encoded: dict[str, Any] = {"input_tokens": sum(fresh)}
    if writes:
        encoded["cache_creation_input_tokens"] = sum(writes)
    if usage.cache_read is not None:
        encoded["cache_read_input_tokens"] = usage.cache_read
    encoded["output_tokens"] = usage.output_total or 0
    if usage.reasoning is not None:
        encoded["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return encoded
