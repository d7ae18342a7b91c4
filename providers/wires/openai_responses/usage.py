"""The Responses usage object to disjoint classes and back: input includes cached tokens, output includes reasoning.

Of tools that are charged beside the tokens xAI's tells the calls; with all others the answer's output items do.
"""

from collections.abc import Iterable
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


class _OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Tools(msgspec.Struct, frozen=True):
    """xAI's. Calls of MCP servers cost their tokens alone, and are not here."""

    web_search_calls: int = 0
    file_search_calls: int = 0
    document_search_calls: int = 0
    x_search_calls: int = 0
    code_interpreter_calls: int = 0
    image_generation_calls: int = 0


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None
    server_side_tool_usage_details: _Tools | None = None


class _Action(msgspec.Struct, frozen=True):
    type: str = "search"


class _Item(msgspec.Struct, frozen=True):
    type: str = ""
    action: _Action | None = None


# what costs more than its tokens: a container's time, pictures (developers.openai.com/api/docs/pricing)
_OTHERS = frozenset({"code_interpreter_call", "image_generation_call", "x_search_call"})
_item = msgspec.json.Decoder(_Item)
_decoder = msgspec.json.Decoder(_Usage)
_NO_INPUT, _NO_OUTPUT = _InputDetails(), _OutputDetails()


def decode_usage(raw: msgspec.Raw, output: Iterable[msgspec.Raw] | None = None, tier: msgspec.Raw = _NONE) -> Usage:
    """Takes the classes apart; an object of another shape is kept raw, with every class unknown. `output`: the answer's items, `tier` its
    `service_tier`."""
    kept = msgspec.Raw(bytes(raw))
    try:
        given = _decoder.decode(kept)
    except msgspec.ValidationError:
        return Usage(raw=kept, service_tier=tier_of(tier))
    into, out = given.input_tokens_details or _NO_INPUT, given.output_tokens_details or _NO_OUTPUT
    tools = given.server_side_tool_usage_details
    web, files, others = _charged(output or ()) if tools is None else _told(tools)
    read = input_of(given.input_tokens, into.cached_tokens, into.cache_write_tokens, into.audio_tokens)
    made = output_of(given.output_tokens, out.reasoning_tokens, out.audio_tokens)
    return Usage(
        input_uncached=read.uncached,
        cache_read=read.cache_read,
        cache_write_5m=read.cache_write,
        audio_input=read.audio,
        output_visible=made.visible,
        reasoning=made.reasoning,
        audio_output=made.audio,
        server_tool_calls=web + files + others or None,
        web_searches=web or None,
        file_searches=files or None,
        source=source_of(read, made),
        raw=kept,
        service_tier=tier_of(tier),
    )


def _told(tools: _Tools) -> tuple[int, int, int]:
    others = tools.x_search_calls + tools.code_interpreter_calls + tools.image_generation_calls
    return tools.web_search_calls, tools.file_search_calls + tools.document_search_calls, others


def _charged(output: Iterable[msgspec.Raw]) -> tuple[int, int, int]:
    """Searches of the web, in files, and calls of other tools. To open a page that was found, or to look for a word in it, is no search."""
    web = files = others = 0
    for raw in output:
        try:
            item = _item.decode(raw)
        except msgspec.DecodeError:
            continue
        web += item.type == "web_search_call" and (item.action is None or item.action.type == "search")
        files += item.type == "file_search_call"
        others += item.type in _OTHERS
    return web, files, others


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
