"""A row of the registry and a provider's own settings to its routes: how it answers each dialect."""

from collections.abc import Callable

from contract.call import Dialect
from providers.address import Chosen, native_dialects
from providers.registry import ProviderKind, WireName
from providers.routes import Counter, CountRoute, EmbeddingRoute, NativeRoute, PassRoute, Route, TranslatedRoute, by_status, takes_all
from providers.wires.anthropic_messages import ANTHROPIC_MESSAGES
from providers.wires.anthropic_messages.models import model_of
from providers.wires.bedrock import BEDROCK
from providers.wires.bedrock.models import prefills as bedrock_prefills
from providers.wires.gemini import GEMINI
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.table import DIALECTS, EMBEDDERS, NATIVES, UPSTREAMS, VARIANTS

# wires of whose models some do not go on from an answer that was begun, and how it is known which
PREFILLS: dict[WireName, Callable[[str], bool]] = {"anthropic_messages": lambda model: model_of(model).prefill, "bedrock": bedrock_prefills}
# wires whose providers count tokens; `openai_chat`'s own count only where they have OpenAI's Responses too
COUNTERS: dict[str, Counter] = {
    "anthropic_messages": ANTHROPIC_MESSAGES,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
    "openai_responses": OPENAI_RESPONSES,
}


def routes_of(kind: ProviderKind, chosen: Chosen) -> dict[Dialect, Route]:
    """A route for every dialect that the provider can serve."""
    facts = kind.facts
    wire = chosen.wire or kind.wire
    paths = {name: _versioned(path, chosen) for name, path in native_dialects(kind, chosen).items()}
    at = next((path for name, path in paths.items() if name == wire), None)
    routes: dict[Dialect, Route] = {name: TranslatedRoute(chosen.name, dialect, UPSTREAMS[wire], facts, at) for name, dialect in DIALECTS.items()}
    routes["anthropic_count_tokens"] = CountRoute(COUNTERS.get(_counting_wire(kind, chosen)), facts)
    if kind.embeddings is not None:
        routes["openai_embeddings"] = EmbeddingRoute(EMBEDDERS[kind.embeddings])
    asks_usage = kind.stream_usage == "ask"
    for name, path in paths.items():
        variant = VARIANTS.get((wire, name))
        own = variant or UPSTREAMS.get(name)
        resealed = None if own is None else TranslatedRoute(chosen.name, DIALECTS[name], own, facts, path)
        native, takes = (NATIVES[name], takes_all) if variant is None else (variant, variant.takes)
        routes[name] = NativeRoute(native, path, facts, asks_usage, resealed, takes)
    if kind.passes:
        routes["passthrough"] = PassRoute({ours: _versioned(theirs, chosen) for ours, theirs in kind.passes.items()}, by_status)
    return routes


def prefills(kind: ProviderKind, chosen: Chosen, model: str) -> bool:
    """Whether that model there goes on from an assistant's message that stands last."""
    if not kind.facts.prefill:
        return False
    by_model = PREFILLS.get(chosen.wire or kind.wire)
    return by_model is None or by_model(model)


def _counting_wire(kind: ProviderKind, chosen: Chosen) -> str:
    """Which wire's way to count the provider has. One that is told to speak chat alone has not that of Responses."""
    wire = chosen.wire or kind.wire
    has_responses = "/responses/input_tokens" in kind.passes and "openai_responses" in native_dialects(kind, chosen)
    return "openai_responses" if wire == "openai_chat" and has_responses else wire


def _versioned(path: str, chosen: Chosen) -> str:
    return path.replace("{api_version}", chosen.api_version)
