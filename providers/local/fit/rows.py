"""What fits, as rows: a model on GPUs by quantization under vLLM, or a GGUF file in a machine's memory under llama.cpp. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from providers.local.fit.checkpoint import Model
from providers.local.fit.gpus import Gpu
from providers.local.fit.memory import Room, Wish, concurrent, kv_bytes_per_token, longest, refusal, room
from providers.local.fit.quantization import NONE, SHOWN

LENGTHS = (2048, 8192, 32_768, 131_072)  # of a sequence, prompt and answer together
UBATCH = 512  # tokens that llama.cpp computes at once
LLAMACPP_RESERVE = 128 << 20  # its library and its process
WIDE_BYTES = 4  # llama.cpp's intermediate results are of 32 bits


class Fit(msgspec.Struct, frozen=True):
    """`longest`: tokens of one sequence alone. `concurrent`: sequences at once, by their length. All None where `refused` says why."""

    on: str
    quantization: str
    room: Room | None
    kv_tokens: int | None
    longest: int | None
    concurrent: dict[int, int] | None
    refused: str | None = None


def lengths(model: Model, wanted: int | None) -> tuple[int, ...]:
    """The lengths that are told: the one asked for, or some up to the model's own limit."""
    limit = model.shape.context
    return (min(wanted, limit),) if wanted else tuple(dict.fromkeys(min(length, limit) for length in LENGTHS))


def quantizations(model: Model, wanted: str | None) -> tuple[str, ...]:
    if wanted is not None:
        return (wanted,)
    return (NONE,) if model.shape.quantization is not None else tuple(name for name in SHOWN if refusal(model, name) is None)


def on_gpus(model: Model, gpus: Iterable[Gpu], names: Sequence[str], wish: Wish, of_length: Sequence[int]) -> list[Fit]:
    """vLLM, each GPU with each quantization."""
    return [_on_gpu(model, gpu, msgspec.structs.replace(wish, quantization=name), of_length) for gpu in gpus for name in names]


def _on_gpu(model: Model, gpu: Gpu, wish: Wish, of_length: Sequence[int]) -> Fit:
    on = f"{wish.gpus} x {gpu.name}" if wish.gpus > 1 else gpu.name
    if refused := refusal(model, wish.quantization, gpu, wish.gpus):
        return Fit(on, wish.quantization, None, None, None, None, refused)
    return _fit(model, on, room(model, gpu, wish), wish, gpu.batched_tokens, of_length)


def in_memory(model: Model, on: str, memory: int, of_length: Sequence[int], share: float) -> Fit:
    """llama.cpp, with the weights as the file has them."""
    shape = model.shape
    compute = UBATCH * WIDE_BYTES * (shape.width + 4 * shape.hidden)
    divided = Room(budget=int(memory * share), weights=model.weight_bytes or 0, activations=compute, reserve=LLAMACPP_RESERVE)
    return _fit(model, on, divided, Wish(quantization=model.fixed or NONE), UBATCH, of_length)


def _fit(model: Model, on: str, divided: Room, wish: Wish, step: int, of_length: Sequence[int]) -> Fit:
    kv = max(0, divided.kv)
    return Fit(
        on=on,
        quantization=wish.quantization,
        room=divided,
        kv_tokens=kv // max(1, kv_bytes_per_token(model.shape, wish)) if not model.shape.window_layers else None,
        longest=longest(model.shape, kv, wish, step),
        concurrent={length: concurrent(model.shape, kv, length, wish, step) for length in of_length},
    )
