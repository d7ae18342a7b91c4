"""Rows of the registry that share OpenAI's chat wire: what they differ in are facts, so only the features that facts decide are asked of them."""

from types import SimpleNamespace

from providers.registry import PROVIDER_KINDS, ProviderKind
from tests.matrix.said import Asked, Json
from tests.matrix.wires import openai_chat

FEATURES = frozenset(
    {"text", "image", "file", "tool_call", "parallel_off", "reasoning", "json_schema", "max_tokens", "logprobs", "n", "seed", "top_k"}
)
DIALECTS = frozenset({"completions", "responses", "messages"})  # chat's bytes pass


def _row(name: str, kind: ProviderKind) -> SimpleNamespace:
    def read(body: Json) -> Asked:
        assert not kind.facts.renames.keys() & body.keys(), f"{name} calls it otherwise: {sorted(body)}"
        return openai_chat.read(body)

    version = 'api_version: "2024-10-21", ' if name == "azure" else ""
    config = f'kind: {name}, base_url: "{{url}}/v1", api_key: k, {version}dialects: [openai_chat]'
    return SimpleNamespace(**{**vars(openai_chat), "NAME": name, "PROVIDER": config, "read": read})


ROWS = [_row(name, kind) for name, kind in PROVIDER_KINDS.items() if kind.wire == "openai_chat" and name != "openai"]
