"""Which format has what: every wire, dialect and byte path by name."""

from contract.call import Dialect as DialectName
from providers.wires.anthropic_messages import ANTHROPIC_COUNT, ANTHROPIC_MESSAGES
from providers.wires.bedrock import BEDROCK, BEDROCK_EMBEDDINGS
from providers.wires.cohere import COHERE, COHERE_EMBEDDINGS
from providers.wires.gemini import GEMINI, GEMINI_EMBEDDINGS, VERTEX_EMBEDDINGS
from providers.wires.mistral import MISTRAL
from providers.wires.openai_chat import OPENAI_CHAT
from providers.wires.openai_completions import OPENAI_COMPLETIONS
from providers.wires.openai_embeddings import OPENAI_EMBEDDINGS
from providers.wires.openai_responses import OPENAI_RESPONSES
from providers.wires.port import Dialect, Embedder, Native, Resumable, Upstream, Variant

UPSTREAMS: dict[str, Upstream] = {
    "openai_chat": OPENAI_CHAT,
    "openai_responses": OPENAI_RESPONSES,
    "anthropic_messages": ANTHROPIC_MESSAGES,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
    "cohere": COHERE,
    "mistral": MISTRAL,
}
DIALECTS: dict[DialectName, Dialect] = {
    "openai_chat": OPENAI_CHAT,
    "openai_completions": OPENAI_COMPLETIONS,
    "openai_responses": OPENAI_RESPONSES,
    "anthropic_messages": ANTHROPIC_MESSAGES,
}
RESUMABLES: dict[DialectName, Resumable] = {
    "openai_chat": OPENAI_CHAT,
    "openai_completions": OPENAI_COMPLETIONS,
    "openai_responses": OPENAI_RESPONSES,
    "anthropic_messages": ANTHROPIC_MESSAGES,
}
NATIVES: dict[DialectName, Native] = {
    "openai_chat": OPENAI_CHAT,
    "openai_completions": OPENAI_COMPLETIONS,
    "openai_responses": OPENAI_RESPONSES,
    "anthropic_messages": ANTHROPIC_MESSAGES,
    "anthropic_count_tokens": ANTHROPIC_COUNT,
    "openai_embeddings": OPENAI_EMBEDDINGS,
}
# wires that are near enough to a dialect for its bytes to pass, if not all of them
VARIANTS: dict[tuple[str, DialectName], Variant] = {("mistral", "openai_chat"): MISTRAL}
EMBEDDERS: dict[str, Embedder] = {
    "gemini": GEMINI_EMBEDDINGS,
    "vertex": VERTEX_EMBEDDINGS,
    "bedrock": BEDROCK_EMBEDDINGS,
    "cohere": COHERE_EMBEDDINGS,
}
