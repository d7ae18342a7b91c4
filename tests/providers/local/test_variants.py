"""The quantization that is asked for and the one that the weights have."""

import json
import shutil
from pathlib import Path

import pytest

from config.engines import QUANTIZATIONS, EngineSettings
from gateway.engine_spec import engine_spec
from providers.local.fit.gguf import FILE_TYPES
from providers.local.variants import resolve_variant, vllm_name
from providers.local.weights import WeightsNotFound
from tests.providers.local.conftest import WEIGHTS


@pytest.mark.parametrize("named", ["Q4_1", "q4_1"])
def test_a_file_that_is_in_it_is_taken(named: str) -> None:
    assert engine_spec("cpu", EngineSettings(kind="llamacpp", model=WEIGHTS, quantization=named)).model_path == WEIGHTS


def test_a_file_that_is_not_is_refused_with_what_it_is() -> None:
    with pytest.raises(WeightsNotFound, match=r"is quantized as Q4_1, not as Q4_K_M"):
        resolve_variant("builtin:smollm2-135m-instruct", "Q4_K_M")


def test_of_a_folder_the_file_that_is_in_it_is_taken(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound, match="no GGUF file at all"):
        resolve_variant(str(tmp_path), "Q4_1")
    head = bytearray(Path(WEIGHTS).read_bytes())
    at = head.index(b"general.file_type") + len(b"general.file_type") + 4
    head[at] = 15
    (tmp_path / "a.gguf").write_bytes(head)
    shutil.copy(WEIGHTS, tmp_path / "b.gguf")
    assert resolve_variant(str(tmp_path), "Q4_1") == tmp_path / "b.gguf"
    assert resolve_variant(str(tmp_path), "Q4_K_M") == tmp_path / "a.gguf"
    with pytest.raises(WeightsNotFound, match=r"there is a.gguf \(Q4_K_M\), b.gguf \(Q4_1\)"):
        resolve_variant(str(tmp_path), "Q8_0")


@pytest.mark.parametrize(
    ("named", "method", "flag"),
    [
        ("int8", None, "int8_per_channel_weight_only"),
        ("nvfp4", None, "nvfp4_per_token"),
        ("nvfp4", "modelopt", None),
        ("int8", "compressed-tensors", None),
        ("fp8", None, "fp8"),
        ("auto", None, None),
        (None, "awq", None),
    ],
)
def test_vllm_is_told_by_its_own_names_what_the_checkpoint_does_not_say(
    tmp_path: Path, named: str | None, method: str | None, flag: str | None
) -> None:
    said = {} if method is None else {"quantization_config": {"quant_method": method}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert vllm_name(named, tmp_path) == flag
    args = engine_spec("g", EngineSettings(kind="vllm", model=str(tmp_path), quantization=named)).args
    assert ([args[args.index("--quantization") + 1]] if "--quantization" in args else []) == ([flag] if flag else [])


def test_a_checkpoint_that_is_quantized_otherwise_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    with pytest.raises(WeightsNotFound, match="is quantized as awq, not as nvfp4"):
        vllm_name("nvfp4", tmp_path)


def test_the_configuration_takes_every_name_that_a_gguf_file_may_have() -> None:
    assert set(QUANTIZATIONS["llamacpp"]) - {"auto"} == set(FILE_TYPES.values())
