"""What a config.json does not say of its architecture: biases, norms, defaults. For those whose parameters are counted without their weights."""

from typing import Any

import msgspec


class Family(msgspec.Struct, frozen=True):
    """`qkv_bias`, `out_bias`: None where `attention_bias` says it. `norms`: vectors of the hidden size in a layer."""

    qkv_bias: bool | None = None
    out_bias: bool | None = None
    qk_norm: bool = False
    sinks: bool = False
    expert_bias: bool = False
    router_offset: bool = False  # a number for each expert beside the router's matrix
    shared_gate: bool = False
    norms: int = 2
    tied: bool = False  # the output shares the embedding, where `tie_word_embeddings` does not say
    sliding: str = "never"  # which layers look at a window alone, where `layer_types` does not say
    defaults: dict[str, Any] = {}


# By `model_type`, from the classes of transformers 5.19 (models/*/configuration_*.py and modeling_*.py).
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(qkv_bias=False, out_bias=False, sliding="all"),
    "mixtral": Family(qkv_bias=False, out_bias=False, sliding="all"),
    "granite": Family(),
    "phi3": Family(qkv_bias=False, out_bias=False, sliding="all"),
    "qwen2": Family(qkv_bias=True, out_bias=False, sliding="by_switch"),
    "qwen2_moe": Family(qkv_bias=True, out_bias=False, shared_gate=True, sliding="by_switch"),
    "qwen3": Family(qk_norm=True, sliding="by_switch"),
    "qwen3_moe": Family(qk_norm=True, sliding="by_switch"),
    "gemma2": Family(norms=4, tied=True, sliding="every_2nd_full"),
    "gemma3_text": Family(
        norms=4,
        qk_norm=True,
        tied=True,
        sliding="every_6th_full",
        defaults={
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "vocab_size": 262_208,
            "sliding_window": 4096,
            "max_position_embeddings": 131_072,
        },
    ),
    "gpt_oss": Family(sinks=True, expert_bias=True, router_offset=True),
    "deepseek_v2": Family(),
    "deepseek_v3": Family(router_offset=True),
}
