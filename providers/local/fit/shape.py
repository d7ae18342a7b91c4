"""A model's shape as its config.json tells it: what it keeps of each token, and how many parameters it has of which kind. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from providers.local.fit.families import FAMILIES, Family
from providers.local.fit.quantization import QUANTIZATIONS, UNQUANTIZED_BITS

NESTED = ("text_config", "llm_config", "language_config")  # where a model that also sees or hears has its language model
GROWING, WINDOWED = "full_attention", "sliding_attention"


class UnknownShape(ValueError):
    """It cannot be told what this model needs; the message says why."""


class Parameters(msgspec.Struct, frozen=True):
    """`linear`: the layers' matrices, which quantization makes smaller; `experts`: those of a mixture's experts; `other`: what stays as it is."""

    linear: int
    experts: int
    other: int

    @property
    def total(self) -> int:
        return self.linear + self.experts + self.other


class ModelShape(msgspec.Struct, frozen=True, kw_only=True):
    """`latent`: numbers that are kept for a token in one layer in the place of keys and values (MLA); 0 where those are kept."""

    architecture: str
    context: int
    hidden: int
    vocab: int
    width: int  # of the widest intermediate result of one token
    full_layers: int
    window_layers: int
    window: int
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    latent: int
    quantization: str | None  # what the checkpoint says of itself
    packed_bits: tuple[float, float] | None  # by that, for a weight of the layers' matrices and of the experts; None: not known, or not quantized
    parameters: Parameters | None  # None: counted by the weights alone
    also_sees: bool

    @property
    def layers(self) -> int:
        return self.full_layers + self.window_layers

    def kv_numbers(self, gpus: int = 1) -> int:
        """Numbers kept for one token in one layer, on each of the GPUs that share the layer."""
        return self.latent or -(-self.kv_heads // gpus) * (self.head_dim + self.value_dim)


class _Config:
    """A config.json's fields, by any of the names they go by."""

    def __init__(self, fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        self._fields = fields
        self._defaults = defaults

    def number(self, *names: str, default: int | None = None) -> int:
        for fields in (self._fields, self._defaults):
            for name in names:
                value = fields.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                    return value
        if default is None:
            raise UnknownShape(f"its config.json does not say {names[0]!r}")
        return default

    def flag(self, name: str, default: bool) -> bool:
        value = self._fields.get(name)
        return value if isinstance(value, bool) else default


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """Raises UnknownShape."""
    nested = next((config[name] for name in NESTED if isinstance(config.get(name), Mapping)), None)
    text: Mapping[str, Any] = config if nested is None else nested
    kind = str(text.get("model_type") or config.get("model_type") or "")
    known = FAMILIES.get(kind)
    family = known or Family()
    fields = _Config(text, family.defaults)
    layers, heads = fields.number("num_hidden_layers", "n_layer"), fields.number("num_attention_heads", "n_head")
    hidden = fields.number("hidden_size", "n_embd")
    head_dim = fields.number("head_dim", default=hidden // max(1, heads))
    rope = fields.number("qk_rope_head_dim", default=0)
    latent = fields.number("kv_lora_rank", default=0)
    kinds = _layer_kinds(text, fields, family, layers)
    quantized = text.get("quantization_config") or config.get("quantization_config") or {}
    names = config.get("architectures") or text.get("architectures") or [kind or "a model without a name"]
    return ModelShape(
        architecture=str(names[0]),
        context=fields.number("max_position_embeddings", "n_positions", "max_sequence_length"),
        hidden=hidden,
        vocab=fields.number("vocab_size"),
        width=_width(fields),
        full_layers=kinds.count(GROWING),
        window_layers=kinds.count(WINDOWED),
        window=fields.number("sliding_window", default=0),
        heads=heads,
        kv_heads=fields.number("num_key_value_heads", default=heads),
        head_dim=head_dim,
        value_dim=head_dim,
        latent=latent + rope if latent else 0,
        quantization=_method(quantized),
        packed_bits=_packed(quantized),
        parameters=_parameters(fields, family, hidden, head_dim) if known else None,
        also_sees=nested is not None,
    )


def _method(quantized: object) -> str | None:
    if not isinstance(quantized, Mapping) or not quantized:
        return None
    return str(quantized.get("quant_method") or "one without a name")


def _packed(quantized: object) -> tuple[float, float] | None:
    if not isinstance(quantized, Mapping):
        return None
    match quantized.get("quant_method"):
        case "fp8":
            return 8, 8
        case "mxfp4":
            return UNQUANTIZED_BITS, QUANTIZATIONS["mxfp4"].bits
        case "awq" | "gptq":
            bits, group = quantized.get("bits", 4), quantized.get("group_size", 128)
            if isinstance(bits, int) and isinstance(group, int):
                each = bits + (16 + bits) / group if group > 0 else float(bits)
                return each, each
    return None


def _layer_kinds(text: Mapping[str, Any], fields: _Config, family: Family, layers: int) -> list[str]:
    """GROWING or WINDOWED for each layer."""
    told = text.get("layer_types")
    if isinstance(told, Sequence) and told:
        strange = sorted({str(kind) for kind in told} - {GROWING, WINDOWED})
        if strange:
            raise UnknownShape(f"it has layers of the kind {', '.join(strange)}, and what those keep of a token is not known here")
        return [str(kind) for kind in told]
    window = fields.number("sliding_window", default=0)
    if family.sliding == "never" or not window:
        return [GROWING] * layers
    if family.sliding == "all":
        return [WINDOWED] * layers
    if family.sliding == "by_switch":
        from_layer = fields.number("max_window_layers", default=layers) if fields.flag("use_sliding_window", False) else layers
        return [GROWING if layer < from_layer else WINDOWED for layer in range(layers)]
    every = fields.number("sliding_window_pattern", default=6 if family.sliding == "every_6th_full" else 2)
    return [GROWING if (layer + 1) % every == 0 else WINDOWED for layer in range(layers)]


def _experts(fields: _Config) -> int:
    return fields.number("n_routed_experts", "num_experts", "num_local_experts", default=0)


def _width(fields: _Config) -> int:
    """Numbers that one token is at its widest: gate and up beside their product; of a mixture, those of all experts that it goes to."""
    dense = fields.number("intermediate_size", "n_inner", default=0)
    if not _experts(fields):
        return 3 * dense
    one = 3 * fields.number("moe_intermediate_size", default=dense) + fields.number("hidden_size")
    return max(3 * dense, one * fields.number("num_experts_per_tok", default=1))


def _parameters(fields: _Config, family: Family, hidden: int, head_dim: int) -> Parameters:
    layers, experts = fields.number("num_hidden_layers"), _experts(fields)
    dense_width = fields.number("intermediate_size")
    dense_layers = fields.number("first_k_dense_replace", default=0) if experts else layers
    attention, vectors = _attention(fields, family, hidden, head_dim)
    linear = layers * attention + dense_layers * 3 * hidden * dense_width
    other = layers * (vectors + family.norms * hidden) + hidden  # and the last norm
    of_experts = 0
    if experts:
        mixed, width = layers - dense_layers, fields.number("moe_intermediate_size", default=dense_width)
        shared = fields.number("shared_expert_intermediate_size", default=width * fields.number("n_shared_experts", default=0))
        bias = 2 * width + hidden if family.expert_bias else 0
        of_experts = mixed * experts * 3 * hidden * width
        linear += mixed * 3 * hidden * shared
        other += mixed * experts * (bias + hidden + family.router_offset) + mixed * hidden * family.shared_gate
    vocabulary = fields.number("vocab_size") * hidden
    tied = fields.flag("tie_word_embeddings", family.tied)
    return Parameters(linear, of_experts, other + vocabulary * (1 if tied else 2))


def _attention(fields: _Config, family: Family, hidden: int, head_dim: int) -> tuple[int, int]:
    """A layer's matrices and its vectors."""
    heads = fields.number("num_attention_heads")
    if latent := fields.number("kv_lora_rank", default=0):
        return _latent_attention(fields, hidden, heads, latent)
    kv_heads = fields.number("num_key_value_heads", default=heads)
    queries, keys_values = heads * head_dim, 2 * kv_heads * head_dim
    biased = fields.flag("attention_bias", False)
    vectors = (queries + keys_values) * (biased if family.qkv_bias is None else family.qkv_bias)
    vectors += hidden * (biased if family.out_bias is None else family.out_bias)
    vectors += 2 * head_dim * family.qk_norm + heads * family.sinks
    return hidden * (2 * queries + keys_values), vectors


def _latent_attention(fields: _Config, hidden: int, heads: int, latent: int) -> tuple[int, int]:
    rope, nope, value = fields.number("qk_rope_head_dim"), fields.number("qk_nope_head_dim"), fields.number("v_head_dim")
    low = fields.number("q_lora_rank", default=0)
    queries = low * (hidden + heads * (nope + rope)) if low else hidden * heads * (nope + rope)
    return queries + hidden * (latent + rope) + latent * heads * (nope + value) + heads * value * hidden, low + latent
