"""What `turnout engines fit` shows: the model, each figure with the arithmetic it comes from, and what fits where."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from providers.local.fit.checkpoint import Model
from providers.local.fit.gpus import GIB
from providers.local.fit.memory import Room, Wish, kv_bytes, kv_bytes_per_token, weight_bits, weight_bytes
from providers.local.fit.quantization import NONE, QUANTIZATIONS, UNQUANTIZED_BITS
from providers.local.fit.rows import Fit


def about(model: Model) -> Iterator[str]:
    shape = model.shape
    fixed = f", quantized already ({model.fixed})" if model.fixed else ""
    yield f"{model.name}: {shape.architecture}{fixed}, context {shape.context:,}"
    yield f"parameters: {model.parameters.total:,}, {model.counted_from}"
    if shape.also_sees and model.weight_bytes is None:
        yield "  what it sees with (a vision tower, say) is not in its language model's configuration and is not counted"


def weights(model: Model, names: Sequence[str]) -> Iterator[str]:
    """The weights' bytes for each quantization, as a sum."""
    if model.weight_bytes is not None and model.fixed is not None:
        yield f"weights: {gib(model.weight_bytes)}, as they lie there"
        return
    for name in names:
        linear, experts = weight_bits(model, name)
        counts = model.parameters
        parts = ((counts.linear, linear), (counts.experts, experts), (counts.other, UNQUANTIZED_BITS))
        total = " + ".join(f"{billions(count)} x {bits:.4g} bit" for count, bits in parts if count)
        if name == NONE:
            total = f"{billions(counts.total)} x {UNQUANTIZED_BITS} bit" if model.fixed is None else total
        how = QUANTIZATIONS[name].made
        made = "" if name == NONE else ", made while loading" if how == "on load" else ", for which a checkpoint has to be in it"
        yield f"weights, {model.fixed or name}: {total} = {gib(weight_bytes(model, name))}{made}"


def kv_cache(model: Model, wish: Wish, length: int, step_tokens: int) -> Iterator[str]:
    """Bytes for one token and for one sequence."""
    shape = model.shape
    kept = (
        f"{shape.latent} latent numbers" if shape.latent else f"{-(-shape.kv_heads // wish.gpus)} KV heads x ({shape.head_dim} + {shape.value_dim})"
    )
    each = "" if wish.gpus == 1 else f" on each of {wish.gpus} GPUs"
    yield f"KV cache: {shape.layers} layers x {kept} x {wish.kv_bits:g} bit = {kv_bytes_per_token(shape, wish):,} bytes a token{each}"
    if shape.window_layers:
        yield f"  {shape.window_layers} of the layers keep {shape.window:,} tokens and one step's at most"
    yield f"  a sequence of {length:,} tokens: {gib(kv_bytes(shape, length, wish, step_tokens))}"


def division(fit: Fit, room: Room) -> str:
    """One GPU's memory, divided."""
    kept = f"{gib(room.budget)} - weights {gib(room.weights)} - one step's results {gib(room.activations)} - reserve {gib(room.reserve)}"
    tokens = f", {fit.kv_tokens:,} tokens" if fit.kv_tokens and room.kv > 0 else ""
    return f"{fit.on}, {fit.quantization}: {kept} = {gib(room.kv)} for the KV cache{tokens}"


def cells(fit: Fit, columns: int) -> list[str]:
    """A row of the table: what the GPU leaves for the KV cache, the longest sequence, and how many at once by length."""
    if fit.room is None or fit.concurrent is None:
        return [fit.on, fit.quantization, "no", *("-" for _ in range(columns))]
    if fit.room.kv <= 0:
        return [fit.on, fit.quantization, f"lacks {gib(-fit.room.kv)}", "-", *("0" for _ in fit.concurrent)]
    return [fit.on, fit.quantization, gib(fit.room.kv), f"{fit.longest:,}", *(f"{count:,}" for count in fit.concurrent.values())]


def head(length: Sequence[int]) -> list[str]:
    return ["on", "quantization", "KV cache", "longest", *(f"{each:,} tokens" for each in length)]


def as_json(model: Model, fits: Sequence[Fit], wish: Wish) -> Mapping[str, Any]:
    """All figures as plain values, in bytes and tokens."""
    shape = msgspec.to_builtins(model.shape)
    return {
        "model": model.name,
        "architecture": shape.pop("architecture"),
        "parameters": msgspec.to_builtins(model.parameters) | {"total": model.parameters.total},
        "counted": model.counted_from,
        "quantized": model.fixed,
        "shape": {key: value for key, value in shape.items() if key not in ("parameters", "packed_bits", "quantization")},
        "kv_bytes_per_token": kv_bytes_per_token(model.shape, wish),
        "fits": [msgspec.to_builtins(fit) | {"kv_bytes": fit.room.kv if fit.room else None} for fit in fits],
    }


def gib(count: float) -> str:
    return f"{count / GIB:,.2f} GiB"


def billions(count: int) -> str:
    return f"{count / 1e9:,.3f}e9" if count >= 1e7 else f"{count / 1e6:,.3f}e6"
