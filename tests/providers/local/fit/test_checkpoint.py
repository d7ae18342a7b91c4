"""A checkpoint is counted by what lies there: the heads of its weights, or a GGUF file's; and what is damaged is said to be."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from providers.local.fit.checkpoint import read_model
from providers.local.fit.gguf import NotGguf, read_head
from providers.local.fit.shape import UnknownShape, shape_of
from providers.local.weights import WeightsNotFound, resolve_model
from tests.providers.local.fit.configs import LLAMA_8B, SMOLLM2

BUILTIN = "builtin:smollm2-135m-instruct"


def write_safetensors(path: Path, shapes: dict[str, list[int]], dtype: str = "BF16", width: int = 2) -> None:
    """A file's head, without its data, which nobody reads."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = width
        for each in shape:
            size *= each
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def smollm2_shapes() -> dict[str, list[int]]:
    shapes = {"model.embed_tokens.weight": [49_152, 576], "model.norm.weight": [576]}
    for layer in range(30):
        at = f"model.layers.{layer}."
        shapes |= {at + f"self_attn.{name}_proj.weight": [rows, 576] for name, rows in (("q", 576), ("k", 192), ("v", 192), ("o", 576))}
        shapes |= {at + f"mlp.{name}_proj.weight": [1536, 576] for name in ("gate", "up", "down")}
        shapes |= {at + f"{name}_layernorm.weight": [576] for name in ("input", "post_attention")}
    return shapes


def test_the_heads_of_the_weights_count_what_config_json_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    assert read_model(str(tmp_path), tmp_path).counted_from == "counted from config.json"
    write_safetensors(tmp_path / "model.safetensors", smollm2_shapes())
    model = read_model(str(tmp_path), tmp_path)
    assert model.counted_from == "counted in 1 file of weights" and model.weight_bytes == 2 * 134_515_008
    assert model.parameters == shape_of(SMOLLM2).parameters


def test_the_built_in_gguf_file_says_its_shape(tmp_path: Path) -> None:
    model = read_model(BUILTIN, tmp_path)
    assert model.parameters.total == 134_515_008 and model.gguf == "Q4_1" and model.shape.context == 8192
    assert model.weight_bytes and model.weight_bytes < resolve_model(BUILTIN).stat().st_size
    assert model.shape.kv_numbers() * model.shape.layers * 2 == 23_040


def test_a_gguf_file_that_ends_early_or_is_none_is_said_to_be(tmp_path: Path) -> None:
    with resolve_model(BUILTIN).open("rb") as file:
        head = file.read(4096)
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 4, 8, 20, 24, 30, 100, 1000, 4096):
        cut.write_bytes(head[:length])
        with pytest.raises(NotGguf, match=r"not a GGUF file|ends early or is damaged"):
            read_head(cut)
    cut.write_bytes(head[:4] + struct.pack("<I", 99) + head[8:])
    with pytest.raises(NotGguf, match="version 99"):
        read_head(cut)
    cut.write_bytes(head[:8] + struct.pack("<Q", 1 << 60) + head[16:])
    with pytest.raises(NotGguf, match="damaged"):
        read_head(cut)


def test_a_checkpoint_that_was_not_copied_whole_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    write_safetensors(tmp_path / "model-00001-of-00002.safetensors", smollm2_shapes())
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    write_safetensors(tmp_path / "consolidated.safetensors", smollm2_shapes())
    with pytest.raises(WeightsNotFound, match=r"lacks 1 of its files of weights, model-00002-of-00002\.safetensors first"):
        read_model(str(tmp_path), tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert read_model(str(tmp_path), tmp_path).parameters.total == 134_515_008, "what the index does not name is not counted"
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(WeightsNotFound, match="is damaged: it names no files"):
        read_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize("content", [b"", b"short", struct.pack("<Q", 1 << 62), struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 8) + b'{"a": 1}'])
def test_weights_that_are_none_are_said_to_be(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMOLLM2))
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsNotFound, match=r"is not a safetensors file|is damaged"):
        read_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a model's configuration"),
        (json.dumps(LLAMA_8B | {"model_type": "new_kind", "architectures": ["NewForCausalLM"]}), "NewForCausalLM is not counted by its config.json"),
        (json.dumps(LLAMA_8B | {"quantization_config": {"quant_method": "quark"}}), "the quantization quark is not counted"),
    ],
)
def test_a_config_that_does_not_say_enough_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UnknownShape, match=says):
        read_model(str(tmp_path / "config.json"), tmp_path)
