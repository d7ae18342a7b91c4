"""The arithmetic of memory: what a model's weights, its intermediate results and its KV cache take on a GPU, and what then fits. Pure.

It follows vLLM's own: what weights and intermediate results leave of a share of the memory is KV cache. Checked with one figure: an 8B shape on an
H100 at a share of 0.85 had room for 433,504 tokens under vLLM 0.26; this arithmetic says 1.4 % less.
"""

import msgspec

from providers.local.fit.checkpoint import Model
from providers.local.fit.gpus import GIB, Gpu
from providers.local.fit.quantization import KV_BITS, NONE, QUANTIZATIONS, UNQUANTIZED_BITS
from providers.local.fit.shape import ModelShape

UTILIZATION = 0.9  # vLLM's default
RESERVE = GIB // 2  # for each GPU: what CUDA, its libraries and graphs take
LOGIT_BYTES = 10  # for each word of the vocabulary and sequence: 16 bits computed, 32 bits of them, 32 bits of their probabilities
NUMBER_BYTES = 2


class Wish(msgspec.Struct, frozen=True):
    """How it is to run: `gpus` that share each layer (tensor parallel), `kv_bits` for a number of the KV cache."""

    quantization: str = NONE
    kv_bits: float = KV_BITS["auto"]
    gpus: int = 1
    utilization: float = UTILIZATION


class Room(msgspec.Struct, frozen=True):
    """One GPU's memory in bytes, as it is divided. `kv` is below 0 by what lacks."""

    budget: int
    weights: int
    activations: int
    reserve: int

    @property
    def kv(self) -> int:
        return self.budget - self.weights - self.activations - self.reserve


def weight_bits(model: Model, quantization: str) -> tuple[float, float]:
    """For a weight of the layers' matrices, and of the experts."""
    if model.shape.packed_bits is not None:
        return model.shape.packed_bits
    how = QUANTIZATIONS[quantization]
    return tuple(how.bits if part in how.of else UNQUANTIZED_BITS for part in ("linear", "experts"))  # type: ignore[return-value]


def weight_bytes(model: Model, quantization: str) -> int:
    """All of the weights: as they lie there, when they are quantized already."""
    if model.weight_bytes is not None and model.fixed is not None:
        return model.weight_bytes
    linear, experts = weight_bits(model, quantization)
    counts = model.parameters
    return int((counts.linear * linear + counts.experts * experts + counts.other * UNQUANTIZED_BITS) / 8)


def activation_bytes(shape: ModelShape, gpu: Gpu, gpus: int) -> int:
    """The widest moment of a step: all of its tokens in the middle of a layer, or every sequence's next-token probabilities."""
    tokens = gpu.batched_tokens * (2 * shape.hidden + shape.width // gpus) * NUMBER_BYTES
    return max(tokens, gpu.sequences * shape.vocab * LOGIT_BYTES)


def room(model: Model, gpu: Gpu, wish: Wish) -> Room:
    return Room(
        budget=int(gpu.memory * wish.utilization),
        weights=-(-weight_bytes(model, wish.quantization) // wish.gpus),
        activations=activation_bytes(model.shape, gpu, wish.gpus),
        reserve=RESERVE,
    )


def kv_bytes_per_token(shape: ModelShape, wish: Wish) -> int:
    """In all layers, on each GPU."""
    return int(shape.layers * shape.kv_numbers(wish.gpus) * wish.kv_bits / 8)


def kv_bytes(shape: ModelShape, tokens: int, wish: Wish, step_tokens: int) -> int:
    """One sequence's. A layer that looks at a window keeps no more than that and one step's tokens (vllm/v1/kv_cache_interface.py)."""
    windowed = min(tokens, shape.window - 1 + step_tokens) if shape.window_layers else 0
    numbers = shape.kv_numbers(wish.gpus) * (shape.full_layers * tokens + shape.window_layers * windowed)
    return int(numbers * wish.kv_bits / 8)


def longest(shape: ModelShape, kv_room: int, wish: Wish, step_tokens: int) -> int:
    """Tokens of the longest single sequence that fits, the model's own limit at most."""
    low, high = 0, shape.context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if kv_bytes(shape, middle, wish, step_tokens) <= kv_room else (low, middle - 1)
    return low


def concurrent(shape: ModelShape, kv_room: int, tokens: int, wish: Wish, step_tokens: int) -> int:
    """How many sequences of that length fit at once."""
    return max(0, kv_room) // max(1, kv_bytes(shape, tokens, wish, step_tokens))


def refusal(model: Model, quantization: str, gpu: Gpu | None = None, gpus: int = 1) -> str | None:
    """Why these weights cannot be had in that quantization, or those GPUs cannot compute with it; None where nothing speaks against it."""
    how = QUANTIZATIONS[quantization]
    if model.shape.heads % gpus:
        return f"{model.shape.heads} heads cannot be shared evenly by {gpus} GPUs"
    fixed = model.shape.quantization
    if fixed is not None and quantization != NONE:
        return f"the checkpoint is quantized already ({fixed}): take its original for another"
    if how.made == "on load" and not sum(getattr(model.parameters, part) for part in how.of):
        return f"{quantization} makes experts alone smaller, and this model has none: it would change nothing"
    if gpu is not None and gpu.capability is not None and gpu.capability < how.capability:
        return f"{gpu.name} has compute capability {gpu.capability / 10:.1f}; {quantization} needs {how.capability / 10:.1f}"
    return None
