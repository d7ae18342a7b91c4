"""Providers as rows of data: a provider that differs in URL, key and facts only is a row here, not code.

Base URLs, key variables and facts are from the providers' own documentation, read in 2026-11. docs/adding-a-provider.md adds one.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from contract.call import Dialect
from providers.wires.facts import Facts

StreamUsage = Literal["ask", "always"]
Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "aws", "google"]
WireName = Literal["openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock", "cohere", "mistral"]
Batch = Literal[
    "openai", "azure", "anthropic", "gemini", "vertex", "mistral", "bedrock", "together", "groq", "fireworks", "cerebras", "xai", "openrouter"
]
Paths = Mapping[Dialect, str]

# where a provider that speaks a dialect usually does, below its base URL
DIALECT_PATHS: dict[Dialect, str] = {
    "openai_chat": "/chat/completions",
    "openai_completions": "/completions",
    "openai_responses": "/responses",
    "openai_embeddings": "/embeddings",
    "anthropic_messages": "/messages",
    "anthropic_count_tokens": "/messages/count_tokens",
}
IMAGES = ("/images/generations", "/images/edits", "/images/variations")
SPEECH = ("/audio/speech",)
TRANSCRIPTION = ("/audio/transcriptions", "/audio/translations")
RESPONSES_EXTRA = ("/responses/compact", "/responses/input_tokens")


def speaks(*dialects: Dialect) -> Paths:
    """Those dialects, each at its usual path."""
    return {dialect: DIALECT_PATHS[dialect] for dialect in dialects}


def same(*paths: str) -> Mapping[str, str]:
    """Endpoints that the provider has under our own path."""
    return {path: path for path in paths}


class ProviderKind(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `base_url` None: the configuration must name it; `{region}`, `{project}` and `{api_version}` in it are the provider's settings.

    `key_env`: the variable that usually holds the key; None: none is needed. `price_provider`: genai-prices' id; None: prices come from the
    configuration only. `native`: the dialects that the provider itself speaks, with the path of each: those requests pass as bytes.
    `wire`: what a request of any other dialect is translated to. `embeddings`: the embedder, where they are not OpenAI's.
    `passes`: further endpoints that are passed through, ours to the provider's path. `stream_usage`: ask for usage in streams by
    `stream_options`, or it comes always and asking may be refused. `terminal`: whether a whole stream ends with an event that says so.
    `keeps_responses`: `previous_response_id` works there. `batch`: its batch API.
    """

    base_url: str | None
    key_env: str | None = None
    auth: Auth = "bearer"
    wire: WireName = "openai_chat"
    native: Paths = {}
    embeddings: str | None = None
    passes: Mapping[str, str] = {}
    headers: tuple[tuple[bytes, bytes], ...] = ()
    price_provider: str | None = None
    stream_usage: StreamUsage = "ask"
    terminal: bool = True
    keeps_responses: bool = False
    batch: Batch | None = None
    facts: Facts = Facts()


_ALL = Facts(audio=True, files=True, logprobs=True, n=True, seed=True)
_OLD_LIMIT = {"max_completion_tokens": "max_tokens"}
_CHAT = speaks("openai_chat")
_CHAT_AND_EMBEDDINGS = speaks("openai_chat", "openai_embeddings")
_CLASSIC = speaks("openai_chat", "openai_completions", "openai_embeddings")
_OPENAI = speaks("openai_chat", "openai_completions", "openai_responses", "openai_embeddings")
_GOOGLE = Facts(audio=True, files=True, logprobs=True, n=True, seed=True)

PROVIDER_KINDS: dict[str, ProviderKind] = {
    "openai": ProviderKind(
        base_url="https://api.openai.com/v1",
        key_env="OPENAI_API_KEY",
        native=_OPENAI,
        passes=same("/moderations", *IMAGES, *SPEECH, *TRANSCRIPTION, *RESPONSES_EXTRA),
        price_provider="openai",
        keeps_responses=True,
        batch="openai",
        facts=_ALL,
    ),
    "azure": ProviderKind(
        base_url=None,  # https://RESOURCE.openai.azure.com/openai; a target's model is the deployment's name
        key_env="AZURE_OPENAI_API_KEY",
        auth="api-key",
        native={
            "openai_chat": "/deployments/{model}/chat/completions?api-version={api_version}",
            "openai_completions": "/deployments/{model}/completions?api-version={api_version}",
            "openai_embeddings": "/deployments/{model}/embeddings?api-version={api_version}",
            "openai_responses": "/v1/responses",
        },
        passes={path: f"/deployments/{{model}}{path}?api-version={{api_version}}" for path in (*IMAGES[:2], *SPEECH, *TRANSCRIPTION)},
        price_provider="azure",
        keeps_responses=True,
        batch="azure",
        facts=_ALL,
    ),
    "anthropic": ProviderKind(
        base_url="https://api.anthropic.com/v1",
        key_env="ANTHROPIC_API_KEY",
        auth="x-api-key",
        wire="anthropic_messages",
        native=speaks("anthropic_messages", "anthropic_count_tokens"),
        headers=((b"anthropic-version", b"2023-06-01"),),
        price_provider="anthropic",
        stream_usage="always",
        batch="anthropic",
        facts=Facts(files=True, prefill=True),
    ),
    "gemini": ProviderKind(
        base_url="https://generativelanguage.googleapis.com/v1beta",
        key_env="GEMINI_API_KEY",
        auth="x-goog-api-key",
        wire="gemini",
        embeddings="gemini",
        price_provider="google",
        stream_usage="always",
        terminal=False,
        batch="gemini",
        facts=_GOOGLE,
    ),
    "vertex": ProviderKind(
        base_url="https://{region}-aiplatform.googleapis.com/v1beta1/projects/{project}/locations/{region}/publishers/google",
        key_env="GOOGLE_ACCESS_TOKEN",
        auth="google",
        wire="gemini",
        embeddings="vertex",
        price_provider="google",
        stream_usage="always",
        terminal=False,
        batch="vertex",
        facts=_GOOGLE,
    ),
    "bedrock": ProviderKind(
        base_url="https://bedrock-runtime.{region}.amazonaws.com",
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        auth="aws",
        wire="bedrock",
        embeddings="bedrock",
        price_provider="aws",
        stream_usage="always",
        batch="bedrock",
        facts=Facts(files=True, prefill=True),
    ),
    "mistral": ProviderKind(
        base_url="https://api.mistral.ai/v1",
        key_env="MISTRAL_API_KEY",
        wire="mistral",
        native=_CHAT_AND_EMBEDDINGS,
        passes=same("/moderations", "/audio/transcriptions"),
        price_provider="mistral",
        stream_usage="always",
        batch="mistral",
        facts=Facts(
            audio=True,
            files=True,
            logprobs=True,
            n=True,
            seed=True,
            prefill=True,
            prefill_repeats=True,
            renames={**_OLD_LIMIT, "seed": "random_seed", "dimensions": "output_dimension"},
        ),
    ),
    "cohere": ProviderKind(
        base_url="https://api.cohere.com",
        key_env="COHERE_API_KEY",
        wire="cohere",
        embeddings="cohere",
        passes={"/rerank": "/v2/rerank"},
        price_provider="cohere",
        stream_usage="always",
        facts=Facts(parallel_tools=False, logprobs=True, seed=True),
    ),
    "groq": ProviderKind(
        base_url="https://api.groq.com/openai/v1",
        key_env="GROQ_API_KEY",
        native=speaks("openai_chat", "openai_responses"),
        passes=same(*SPEECH, *TRANSCRIPTION),
        price_provider="groq",
        batch="groq",
        facts=Facts(seed=True, reasoning_field="reasoning"),
    ),
    "deepseek": ProviderKind(
        base_url="https://api.deepseek.com",
        key_env="DEEPSEEK_API_KEY",
        native=speaks("openai_chat", "openai_responses"),
        price_provider="deepseek",
        facts=Facts(images=False, json_schema=False, logprobs=True, reasoning_field="reasoning_content", renames=_OLD_LIMIT),
    ),
    "xai": ProviderKind(
        base_url="https://api.x.ai/v1",
        key_env="XAI_API_KEY",
        native=speaks("openai_chat", "openai_responses"),
        passes=same("/images/generations"),
        price_provider="x-ai",
        keeps_responses=True,
        batch="xai",
        facts=Facts(logprobs=True, n=True, seed=True),
    ),
    "together": ProviderKind(
        base_url="https://api.together.xyz/v1",
        key_env="TOGETHER_API_KEY",
        native=_CLASSIC,
        passes=same("/rerank", "/images/generations", *SPEECH, *TRANSCRIPTION),
        price_provider="together",
        batch="together",
        facts=Facts(logprobs=True, n=True, seed=True, top_k=True, reasoning_field="reasoning", renames=_OLD_LIMIT),
    ),
    "fireworks": ProviderKind(
        base_url="https://api.fireworks.ai/inference/v1",
        key_env="FIREWORKS_API_KEY",
        native=_OPENAI,
        passes=same("/rerank"),
        price_provider="fireworks",
        keeps_responses=True,
        batch="fireworks",
        facts=Facts(logprobs=True, n=True, seed=True, top_k=True, reasoning_field="reasoning_content"),
    ),
    "openrouter": ProviderKind(
        base_url="https://openrouter.ai/api/v1",
        key_env="OPENROUTER_API_KEY",
        native=_OPENAI,
        price_provider="openrouter",
        batch="openrouter",
        facts=Facts(audio=True, files=True, logprobs=True, seed=True, top_k=True, prefill=True, reasoning_field="reasoning"),
    ),
    "cerebras": ProviderKind(
        base_url="https://api.cerebras.ai/v1",
        key_env="CEREBRAS_API_KEY",
        native=speaks("openai_chat", "openai_completions"),
        price_provider="cerebras",
        batch="cerebras",
        facts=Facts(images=False, logprobs=True, seed=True, reasoning_field="reasoning"),
    ),
    "perplexity": ProviderKind(
        base_url="https://api.perplexity.ai",
        key_env="PERPLEXITY_API_KEY",
        native=_CHAT,
        price_provider="perplexity",
        stream_usage="always",
        facts=Facts(top_k=True, tools=False, renames=_OLD_LIMIT),
    ),
    "nvidia": ProviderKind(
        base_url="https://integrate.api.nvidia.com/v1",
        key_env="NVIDIA_API_KEY",
        native=_CLASSIC,
        facts=Facts(logprobs=True, seed=True, reasoning_field="reasoning_content", renames=_OLD_LIMIT),
    ),
    "huggingface": ProviderKind(
        base_url="https://router.huggingface.co/v1",
        key_env="HF_TOKEN",
        native=speaks("openai_chat", "openai_responses"),
        facts=Facts(logprobs=True, seed=True, renames=_OLD_LIMIT),
    ),
    "ollama": ProviderKind(
        base_url="http://127.0.0.1:11434/v1",
        native=_CLASSIC,
        facts=Facts(logprobs=True, seed=True, reasoning_field="reasoning", renames=_OLD_LIMIT),
    ),
    "vllm": ProviderKind(
        base_url="http://127.0.0.1:8000/v1",
        native=_CLASSIC,
        passes=same("/rerank", *TRANSCRIPTION),
        facts=Facts(
            audio=True,
            logprobs=True,
            n=True,
            seed=True,
            top_k=True,
            prefill=True,
            prefill_with={"continue_final_message": True, "add_generation_prompt": False},  # one excludes the other
            reasoning_field="reasoning",
        ),
    ),
    "llama.cpp": ProviderKind(
        base_url="http://127.0.0.1:8080/v1",
        native=_CLASSIC,
        passes=same("/rerank"),
        facts=Facts(audio=True, logprobs=True, seed=True, top_k=True, prefill=True, reasoning_field="reasoning_content"),
    ),
    "lm-studio": ProviderKind(
        base_url="http://127.0.0.1:1234/v1",
        native=_CLASSIC,
        facts=Facts(seed=True, top_k=True, renames=_OLD_LIMIT),
    ),
    "tgi": ProviderKind(
        base_url="http://127.0.0.1:3000/v1",
        native=_CHAT,
        facts=Facts(parallel_tools=False, logprobs=True, seed=True, renames=_OLD_LIMIT),
    ),
    "openai-compatible": ProviderKind(
        base_url=None,
        native=_CLASSIC,
        passes=same("/rerank", "/moderations", *IMAGES, *SPEECH, *TRANSCRIPTION),
        facts=_ALL,
    ),
}
