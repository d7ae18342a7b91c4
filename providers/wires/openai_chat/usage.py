"""OpenAI's usage object to disjoint classes and back. There, `prompt_tokens` includes cached tokens and `completion_tokens` reasoning.

With xAI `completion_tokens` is what is beside the reasoning, which its `total_tokens` tells (docs.x.ai, reasoning).
"""

from typing import Any

import msgspec

from contract.usage import Usage
from providers.wires.classes import input_of, output_of, source_of
from providers.wires.tiers import tier_of

_NONE = msgspec.Raw()


class _InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None  # xAI's


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None  # OpenRouter's


class _ServerTools(msgspec.Struct, frozen=True):
    web_search_requests: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's name for cached_tokens
    num_cached_tokens: int | None = None  # Mistral's
    num_search_queries: int | None = None  # Perplexity's
    server_tool_use: _ServerTools | None = None  # OpenRouter's
    num_sources_used: int | None = None  # xAI's, which charges each
    total_tokens: int | None = None


_decoder = msgspec.json.Decoder(_Usage)
_NO_INPUT, _NO_OUTPUT = _InputDetails(), _OutputDetails()


def decode_usage(raw: msgspec.Raw, tier: msgspec.Raw = _NONE) -> Usage:
    """Takes the classes apart; an object of another shape is kept raw, with every class unknown. `tier`: the answer's `service_tier`."""
    kept = msgspec.Raw(bytes(raw))
    try:
        given = _decoder.decode(raw)
    except msgspec.ValidationError:
        return Usage(raw=kept, service_tier=None if tier is _NONE else tier_of(tier))
    into, out = given.prompt_tokens_details or _NO_INPUT, given.completion_tokens_details or _NO_OUTPUT
    completion, thought = given.completion_tokens, out.reasoning_tokens
    if thought and completion is not None and given.total_tokens == (given.prompt_tokens or 0) + completion + thought:
        completion += thought
    cached = into.cached_tokens
    if cached is None:
        cached = given.num_cached_tokens if given.prompt_cache_hit_tokens is None else given.prompt_cache_hit_tokens
    read = input_of(given.prompt_tokens, cached, into.cache_write_tokens, into.audio_tokens, into.image_tokens)
    made = output_of(completion, thought, out.audio_tokens, out.image_tokens)
    return Usage(
        input_uncached=read.uncached,
        cache_read=read.cache_read,
        cache_write_5m=read.cache_write,
        audio_input=read.audio,
        image_input=read.images,
        output_visible=made.visible,
        reasoning=made.reasoning,
        audio_output=made.audio,
        image_output=made.images,
        server_tool_calls=given.num_sources_used or None,
        web_searches=given.num_search_queries if given.server_tool_use is None else given.server_tool_use.web_search_requests,
        source=source_of(read, made),
        raw=kept,
        service_tier=None if tier is _NONE else tier_of(tier),
    )


def with_thoughts(usage: Usage) -> Usage:
    """Of an answer that holds thoughts: that it has no tokens of them is not believed. vLLM counts none where the prompt's template begins them."""
    return msgspec.structs.replace(usage, reasoning=None) if usage.reasoning == 0 else usage


def encode_usage(usage: Usage) -> dict[str, Any]:
    """The OpenAI object for any provider's usage; classes that are unknown are left out of the details and count nothing in the sums."""
    writes = [count for count in (usage.cache_write_5m, usage.cache_write_1h) if count is not None]
    prompt, completion = usage.input_total or 0, usage.output_total or 0
    into = {"cached_tokens": usage.cache_read, "cache_write_tokens": sum(writes) if writes else None, "audio_tokens": usage.audio_input}
    out = {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output}
    encoded: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    for name, details in (("prompt_tokens_details", into), ("completion_tokens_details", out)):
        if known := {key: count for key, count in details.items() if count is not None}:
            encoded[name] = known
    return encoded
