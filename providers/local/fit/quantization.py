"""How many bits a weight and a number of the KV cache take, by the names that engines give to quantizations; and who can compute with them."""

from typing import Literal

import msgspec

Part = Literal["linear", "experts"]


class Quantization(msgspec.Struct, frozen=True):
    """`bits` for a weight, its share of scales and zero points included. `of`: which weights it makes smaller.

    `made`: by vLLM while it loads weights that are not quantized, or beforehand, so that a checkpoint or file has to be in it.
    `capability`: the least compute capability of a GPU that vLLM takes it on, times ten.
    """

    bits: float
    made: Literal["on load", "beforehand"]
    capability: int
    of: tuple[Part, ...] = ("linear", "experts")


NONE = "none"
# vLLM 0.32's: the names on load from vllm/config/quantization.py, capabilities from vllm/model_executor/layers/quantization/*.py;
# awq and gptq in groups of 128.
QUANTIZATIONS: dict[str, Quantization] = {
    NONE: Quantization(16, "on load", 60),
    "fp8_per_tensor": Quantization(8, "on load", 75),
    "fp8_per_channel": Quantization(8, "on load", 75),
    "fp8_per_block": Quantization(8 + 32 / 128**2, "on load", 75),
    "mxfp8": Quantization(8 + 8 / 32, "on load", 75),
    "mxfp4": Quantization(4 + 8 / 32, "on load", 80),
    "int8_per_channel_weight_only": Quantization(8, "on load", 75, of=("experts",)),
    "nvfp4_per_token": Quantization(4 + 8 / 16, "on load", 100, of=("experts",)),
    "fp8": Quantization(8, "beforehand", 75),
    "awq": Quantization(4 + 20 / 128, "beforehand", 75),
    "gptq": Quantization(4 + 20 / 128, "beforehand", 60),
    "modelopt_fp4": Quantization(4 + 8 / 16, "beforehand", 75),
}
SHOWN = (NONE, "fp8_per_tensor", "awq", "modelopt_fp4")  # without a wish for another: two that vLLM makes, two that a checkpoint has
UNQUANTIZED_BITS = 16

# Bits for each number kept, from vllm/config/cache.py. llama.cpp, as it is started here, keeps 16.
KV_BITS: dict[str, float] = {"auto": 16, "bfloat16": 16, "float16": 16, "fp8": 8, "fp8_e4m3": 8, "fp8_e5m2": 8}
