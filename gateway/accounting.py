"""What an attempt's usage comes to: as its provider told it, estimated where an answer never came to its end, and never absurd. Pure."""

from msgspec.structs import astuple, replace

from contract.call import Call
from contract.errors import AttemptError, AttemptTimeout, ConnectionLost, MalformedResponse, StreamCut
from contract.usage import COUNTS, MOST_TOKENS, Usage, tells_tier_alone

STANDARD_TIERS = frozenset({"default", "standard", "standard_only", "on_demand"})  # by their makers' names
MOST_TIER = 40  # characters of a tier's name
_CACHED = ("cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "image_input")
_MADE = ("reasoning", "audio_output", "image_output")
_TOOLS = ("server_tool_calls", "web_searches", "file_searches")
_WITH_OUTPUT = ("/images/", "/audio/")  # endpoints that pass unread, whose answers have output tokens
_CLASSES = tuple(name for name in Usage.__struct_fields__ if name not in ("source", "raw", "service_tier"))


def settled(told: Usage | None, whole: bool, prompt_tokens: int, tokens_seen: int | None) -> Usage | None:
    """`told`: by the provider, so far. `prompt_tokens`: about. `tokens_seen`: of the output that came, about; None: it cannot be told, some of it is
    no text. Returns None where nothing is known of the attempt's usage.

    An answer that was cut, or whose provider told nothing of its input or its output, or nothing that can be, is flagged `estimated`: the counts that
    were told are kept, but for an output count that cannot be of what came. Of one that is no text the half is as good as nothing.
    """
    told = None if told is None else plausible(told)
    if whole and told is not None and told.input_uncached is not None and told.output_visible is not None:
        return told
    if told is not None and tells_tier_alone(told):
        estimate = settled(None, whole, prompt_tokens, tokens_seen)
        return None if estimate is None else replace(estimate, service_tier=told.service_tier or None)
    if tokens_seen is None:
        return _uncounted(told or Usage(), whole)
    if told is None:
        return Usage(input_uncached=prompt_tokens, output_visible=tokens_seen, source="estimated") if tokens_seen else None
    return _completed(told, prompt_tokens, tokens_seen) if whole else _cut(told, prompt_tokens, tokens_seen)


def _uncounted(told: Usage, whole: bool) -> Usage:
    """Of an answer some of which is no text: what its provider told of both sides, or nothing."""
    if told.input_total is None or told.output_total is None:
        return replace(told, **dict.fromkeys(_CLASSES, None), source="estimated")
    return told if whole else replace(told, source="estimated")


def _completed(told: Usage, prompt_tokens: int, tokens_seen: int) -> Usage:
    """Of a whole answer: where text came, it has both input and output."""
    if not tokens_seen:
        half = told.input_total is None and told.output_total is not None
        return replace(told, **dict.fromkeys(_CLASSES, None)) if half else told
    read, made = told.input_uncached, told.output_visible
    if read is None:
        read = max(0, prompt_tokens - (told.input_total or 0))
    if made is None:
        made = max(0, tokens_seen - (told.output_total or 0))
        if not made and told.input_uncached is not None:
            return told  # all of it was thought, or is no text
    return replace(told, input_uncached=read, output_visible=made, source="estimated")


def _cut(told: Usage, prompt_tokens: int, tokens_seen: int) -> Usage:
    output = told.output_total or 0
    unseen = 0 if output * 2 >= tokens_seen else tokens_seen - output  # Anthropic tells a token at the start, and all of them at the end
    return replace(
        told,
        input_uncached=prompt_tokens if told.input_total is None else told.input_uncached,
        output_visible=(told.output_visible or 0) + unseen,
        source="estimated",
    )


def settled_whole(call: Call, told: Usage | None, prompt_tokens: int, tokens_seen: int | None) -> Usage | None:
    """`settled`, of a whole answer to `call`. Embeddings whose tokens are not told are estimated by their prompt, as text is; of an image or a
    transcript whose output is not told nothing is known."""
    usage = settled(told, True, prompt_tokens, tokens_seen)
    if usage is not None and usage.input_uncached is not None and usage.output_visible is not None:
        return usage
    if call.dialect == "openai_embeddings" and (usage is None or usage.input_total is None):
        return replace(usage or Usage(), input_uncached=prompt_tokens, source="estimated")
    if usage is not None and call.path.startswith(_WITH_OUTPUT) and usage.output_total is None:
        return replace(usage, **dict.fromkeys(_CLASSES, None))
    return usage


def unawaited(call: Call, prompt_tokens: int) -> Usage | None:
    """Of a request that was sent, and whose answer never came whole: its provider charges the prompt, and tells nobody. One that is no text has no
    count that could be told, so that its cost is not known. None: it costs nothing, tokens were only to be counted."""
    if call.dialect == "anthropic_count_tokens":
        return None
    return Usage(input_uncached=None if call.dialect == "passthrough" else prompt_tokens, source="estimated")


def may_be_charged(error: AttemptError | str | None, answered: bool) -> bool:
    """Whether the provider of a request that was sent may charge for it, though its answer never came whole. `error`: what ended the attempt, a plain
    string where that was no failure of the provider's. `answered`: status 200 had come; from then on what is lost was made."""
    return isinstance(error, str | AttemptTimeout) or (answered and isinstance(error, StreamCut | ConnectionLost | MalformedResponse))


def tier_asked(call: Call) -> str | None:
    """The service tier that the request asks for: "" the standard one; None: it leaves that to the provider."""
    told = call.fields.get("service_tier")
    if told is None or (raw := bytes(told)) in (b"null", b'"auto"', b'""'):
        return None
    tier = raw.decode(errors="replace").strip('"')
    return "" if tier in STANDARD_TIERS else tier[:MOST_TIER]


def plausible(usage: Usage) -> Usage:
    """Without counts below 0 or beyond all reason: those are unknown, as is what is left of a total that one was taken from; without such a count of
    tools' calls it is an estimate. `raw` has what was said."""
    for count in filter(None, astuple(usage)[:COUNTS]):
        if not 0 < count <= MOST_TOKENS:
            return _believed(usage)
    return usage


def _believed(usage: Usage) -> Usage:
    absurd = {name: None for name in _CLASSES if (count := getattr(usage, name)) is not None and not 0 <= count <= MOST_TOKENS}
    for rest, parts in (("input_uncached", _CACHED), ("output_visible", _MADE)):
        if not absurd.keys().isdisjoint(parts):
            absurd[rest] = None
    if not absurd:
        return usage
    return replace(usage, **absurd, source=usage.source if absurd.keys().isdisjoint(_TOOLS) else "estimated")
