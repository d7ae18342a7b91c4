"""Weights in the quantization that is asked for: which GGUF file of a folder is in it, and what vLLM calls what everybody calls int8 and nvfp4."""

import json
from pathlib import Path

from providers.local.fit.gguf import NotGguf, read_head
from providers.local.weights import WeightsNotFound, resolve_model

AUTO = "auto"
# What vLLM 0.32 makes of weights while it loads them. A checkpoint that is in one says so itself, and vLLM needs no word.
MADE_ON_LOAD = {"int8": "int8_per_channel_weight_only", "nvfp4": "nvfp4_per_token"}
HOLD = {
    "int8": ("compressed-tensors", "quark", "torchao", "inc", "experts_int8"),
    "nvfp4": ("modelopt", "modelopt_fp4", "compressed-tensors", "quark"),
}


def resolve_variant(model: str, quantization: str, models: Path | None = None) -> Path:
    """The GGUF file that `model` names, where it is in that quantization; of a folder the one that is. Raises WeightsNotFound."""
    folder = Path(model).expanduser()
    files = sorted(folder.glob("*.gguf")) if folder.is_dir() else [resolve_model(model, models)]
    found = {path: _quantization(path) for path in files}
    for path, has in found.items():
        if has.upper() == quantization.upper():
            return path.resolve()
    if not folder.is_dir():
        raise WeightsNotFound(f"{model!r} is quantized as {found[files[0]]}, not as {quantization}: name a file that is, or leave `quantization` out")
    there = ", ".join(f"{path.name} ({has})" for path, has in found.items()) or "no GGUF file at all"
    raise WeightsNotFound(f"no GGUF file in {model!r} is quantized as {quantization}; there is {there}")


def vllm_name(quantization: str | None, checkpoint: Path) -> str | None:
    """vLLM's own name of it; None: nothing needs to be said. Raises WeightsNotFound for a checkpoint that is quantized in another way."""
    if quantization not in MADE_ON_LOAD:
        return None if quantization == AUTO else quantization
    method = _method(checkpoint)
    if method is None:
        return MADE_ON_LOAD[quantization]
    if method not in HOLD[quantization]:
        raise WeightsNotFound(
            f"the checkpoint {str(checkpoint)!r} is quantized as {method}, not as {quantization}: leave `quantization` out, or take another"
        )
    return None


def _quantization(path: Path) -> str:
    try:
        return read_head(path).quantization
    except (NotGguf, OSError) as exc:
        raise WeightsNotFound(f"{str(path)!r} does not say how it is quantized: {exc}") from exc


def _method(checkpoint: Path) -> str | None:
    try:
        said = json.loads((checkpoint / "config.json").read_bytes()).get("quantization_config") or {}
        return str(said["quant_method"]) if said else None
    except (OSError, ValueError, KeyError, AttributeError) as exc:
        raise WeightsNotFound(f"the config.json of {str(checkpoint)!r} does not say how it is quantized: {exc}") from exc
