"""Anthropic's usage object to disjoint classes and back. There, `input_tokens` excludes both cache classes."""

from typing import Any

import msgspec

from contract.usage import Usage
from providers.wires.classes import output_of
from providers.wires.tiers import tier_of


class _CacheCreation(msgspec.Struct, frozen=True):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, frozen=True):
    thinking_tokens: int | None = None


class _Counts(msgspec.Struct, frozen=True):
    """`type`: of one iteration among several."""

    type: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


class _Usage(_Counts, frozen=True):
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: dict[str, object] | None = None
    iterations: list[_Counts] | None = None
    service_tier: msgspec.Raw = msgspec.Raw()


FREE = frozenset({"web_fetch_requests"})  # platform.claude.com/docs: the pages that were fetched cost their tokens alone
_decoder = msgspec.json.Decoder(_Usage)
_NULL = msgspec.Raw(b"null")
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merged(earlier: msgspec.Raw, later: msgspec.Raw) -> msgspec.Raw:
    """Two reports of one answer: the later one's values, and the earlier one's where it has none."""
    if bytes(earlier)[:1] != b"{":
        return msgspec.Raw(bytes(later))
    if bytes(later)[:1] != b"{":
        return msgspec.Raw(bytes(earlier))
    told = {name: raw for name, raw in _members.decode(later).items() if bytes(raw) != b"null"}
    return msgspec.Raw(msgspec.json.encode({**_members.decode(earlier), **told}))


def ending(started: msgspec.Raw, last: msgspec.Raw) -> msgspec.Raw:
    """What a stream told at its beginning, and now that it ends: its output then was the first token of it, and says nothing of the whole."""
    told = merged(started, last)
    if bytes(started)[:1] != b"{" or b'"output_tokens"' not in bytes(told):
        return told
    if bytes(last)[:1] == b"{" and bytes(_members.decode(last).get("output_tokens", _NULL)) != b"null":
        return told
    return msgspec.Raw(msgspec.json.encode({name: raw for name, raw in _members.decode(told).items() if name != "output_tokens"}))


def decode_usage(raw: msgspec.Raw) -> Usage:
    """Takes the classes apart; an object of another shape is kept raw, with every class unknown."""
    kept = msgspec.Raw(bytes(raw))
    try:
        given = _decoder.decode(kept)
    except msgspec.DecodeError:
        return Usage(raw=kept, service_tier=_tier_of_strange(kept))
    thinking = given.output_tokens_details.thinking_tokens if given.output_tokens_details else None
    # what it took to shorten the context is billed, and not in the sums (SDK: BetaUsage.iterations)
    more = [each for each in given.iterations or () if each.type == "compaction"]
    output = _sum(given.output_tokens, *(each.output_tokens for each in more))
    made = output_of(output, thinking)
    writes = [_writes(each) for each in (given, *more)]
    tools = given.server_tool_use or {}
    doubtful = _written_beyond(given) or any(not _countable(count) for count in tools.values())
    return Usage(
        input_uncached=_sum(given.input_tokens, *(each.input_tokens for each in more)),
        cache_read=_sum(given.cache_read_input_tokens, *(each.cache_read_input_tokens for each in more)),
        cache_write_5m=_sum(*(short for short, _ in writes)),
        cache_write_1h=_sum(*(long for _, long in writes)),
        output_visible=made.visible,
        reasoning=made.reasoning,
        server_tool_calls=_sum(*(count for name, count in tools.items() if isinstance(count, int) and name not in FREE)),
        web_searches=_searches(tools),
        source="estimated" if doubtful else made.source,
        raw=kept,
        service_tier=tier_of(given.service_tier),
    )


def _tier_of_strange(raw: msgspec.Raw) -> str | None:
    try:
        return tier_of(_members.decode(raw).get("service_tier", msgspec.Raw()))
    except msgspec.DecodeError:
        return None


def _searches(told: dict[str, object]) -> int | None:
    count = told.get("web_search_requests")
    return count if isinstance(count, int) else None


def _countable(count: object) -> bool:
    return count is None or (isinstance(count, int) and count >= 0)


def _written_beyond(counts: _Counts) -> bool:
    """Whether more was written in parts than in all."""
    split, total = counts.cache_creation, counts.cache_creation_input_tokens
    return split is not None and total is not None and (split.ephemeral_5m_input_tokens or 0) + (split.ephemeral_1h_input_tokens or 0) > total


def _writes(counts: _Counts) -> tuple[int | None, int | None]:
    """Tokens written for 5 minutes and for an hour. The sum is the truth: a stream's last report has it alone, and its parts may be older."""
    split, total = counts.cache_creation, counts.cache_creation_input_tokens
    if split is None:
        return total, None
    long = split.ephemeral_1h_input_tokens
    if total is None:
        return split.ephemeral_5m_input_tokens, long
    long = None if long is None else min(long, total)
    return total - (long or 0), long


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def encode_usage(usage: Usage | None) -> dict[str, Any]:
    """Anthropic's object for any provider's usage. Its schema wants numbers: what is unknown counts nothing in them, or is left out."""
    if usage is None:
        return {"input_tokens": 0, "output_tokens": 0}
    encoded: dict[str, Any] = {"input_tokens": _sum(usage.input_uncached, usage.audio_input, usage.image_input) or 0}
    if (written := _sum(usage.cache_write_5m, usage.cache_write_1h)) is not None:
        encoded["cache_creation_input_tokens"] = written
        split = {"ephemeral_5m_input_tokens": usage.cache_write_5m or 0, "ephemeral_1h_input_tokens": usage.cache_write_1h or 0}
        encoded["cache_creation"] = split
    if usage.cache_read is not None:
        encoded["cache_read_input_tokens"] = usage.cache_read
    encoded["output_tokens"] = usage.output_total or 0
    if usage.reasoning is not None:
        encoded["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return encoded
