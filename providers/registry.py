"""Providers as rows of data: a provider that differs in URL, key and facts only is a row here, not code.

Base URLs, key variables and facts are from the providers' own documentation; what speaks no OpenAI dialect comes later (LATER_KINDS).
"""

from typing import Literal

import msgspec

StreamUsage = Literal["ask", "always"]


class ProviderKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `key_env`: the variable that usually holds the key; None: none is needed. `base_url` None: the configuration must name it.

    `price_provider`: genai-prices' id; None: prices come from the configuration only.
    `stream_usage`: ask for usage in streams by `stream_options`, or it comes always and asking may be refused.
    """

    base_url: str | None
    key_env: str | None
    price_provider: str | None = None
    stream_usage: StreamUsage = "ask"


PROVIDER_KINDS: dict[str, ProviderKind] = {
    "openai": ProviderKind(base_url="https://api.openai.com/v1", key_env="OPENAI_API_KEY", price_provider="openai"),
    "groq": ProviderKind(base_url="https://api.groq.com/openai/v1", key_env="GROQ_API_KEY", price_provider="groq"),
    "openrouter": ProviderKind(base_url="https://openrouter.ai/api/v1", key_env="OPENROUTER_API_KEY", price_provider="openrouter"),
    "together": ProviderKind(base_url="https://api.together.xyz/v1", key_env="TOGETHER_API_KEY", price_provider="together"),
    "fireworks": ProviderKind(base_url="https://api.fireworks.ai/inference/v1", key_env="FIREWORKS_API_KEY", price_provider="fireworks"),
    "deepseek": ProviderKind(base_url="https://api.deepseek.com/v1", key_env="DEEPSEEK_API_KEY", price_provider="deepseek"),
    "mistral": ProviderKind(base_url="https://api.mistral.ai/v1", key_env="MISTRAL_API_KEY", price_provider="mistral", stream_usage="always"),
    "xai": ProviderKind(base_url="https://api.x.ai/v1", key_env="XAI_API_KEY", price_provider="x-ai"),
    "cerebras": ProviderKind(base_url="https://api.cerebras.ai/v1", key_env="CEREBRAS_API_KEY", price_provider="cerebras"),
    "perplexity": ProviderKind(
        base_url="https://api.perplexity.ai", key_env="PERPLEXITY_API_KEY", price_provider="perplexity", stream_usage="always"
    ),
    "openai-compatible": ProviderKind(base_url=None, key_env=None),
    "ollama": ProviderKind(base_url="http://127.0.0.1:11434/v1", key_env=None),
    "vllm-server": ProviderKind(base_url="http://127.0.0.1:8000/v1", key_env=None),
}
# kinds that the configuration's contract names and a later release serves
LATER_KINDS = frozenset({"anthropic", "azure-openai", "gemini", "vertex", "bedrock", "cohere"})
