"""What lies on disk under a model's name: a checkpoint's config.json and weights' heads, or a GGUF file; and what that says of the model."""

import json
import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path

import msgspec

from providers.local.fit.gguf import GgufHead, NotGguf, read_head
from providers.local.fit.shape import ModelShape, Parameters, UnknownShape, shape_of
from providers.local.models.hub import pulled_path
from providers.local.weights import BUILTIN_PREFIX, WeightsNotFound, resolve_model

MAX_HEAD_BYTES = 100_000_000  # the limit of the safetensors format itself
_LAYER = re.compile(r"\blayers?\.(\d+)\.")
_TOWER = re.compile(r"vision|visual|audio")
_KEPT = re.compile(rf"embed|lm_head|norm|router|\bgate\.|{_TOWER.pattern}")


class Model(msgspec.Struct, frozen=True):
    """`weight_bytes`: of the weights as they lie there; None where only a config.json does. `gguf`: how a GGUF file's weights are packed."""

    name: str
    shape: ModelShape
    parameters: Parameters
    counted_from: str
    weight_bytes: int | None
    gguf: str | None = None

    @property
    def fixed(self) -> str | None:
        """The quantization that the weights are in already."""
        return self.gguf or self.shape.quantization


def read_model(name: str, models: Path) -> Model:
    """By a folder, its config.json, a GGUF file or the name of one that was pulled to `models`. Raises UnknownShape, WeightsNotFound, NoSuchModel."""
    path = resolve_model(name, models) if name.startswith(BUILTIN_PREFIX) else pulled_path(name, models) or Path(name).expanduser()
    if path.is_dir():
        path = path / "config.json"
    if not path.is_file():
        raise WeightsNotFound(f"{name!r} is no folder with a config.json, no config.json and no GGUF file; `turnout models pull` fetches one")
    try:
        return _checkpoint(name, path) if path.suffix == ".json" else _gguf(name, path)
    except OSError as exc:
        raise WeightsNotFound(f"{path} cannot be read: {exc.strerror}") from exc


def _checkpoint(name: str, path: Path) -> Model:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as exc:
        raise UnknownShape(f"{path} is not JSON") from exc
    if not isinstance(config, dict):
        raise UnknownShape(f"{path} is not a model's configuration")
    shape = shape_of(config)
    if files := _weights(path.parent):
        stored, size = _measured(files, shape.layers)
        if shape.quantization is not None:  # what is stored are packed numbers
            return Model(name, shape, shape.parameters or stored, "counted from config.json" if shape.parameters else "as they are packed", size)
        return Model(name, shape, stored, f"counted in {len(files)} file{'s' if len(files) > 1 else ''} of weights", size)
    if shape.parameters is None or (shape.quantization is not None and shape.packed_bits is None):
        what = shape.architecture if shape.parameters is None else f"the quantization {shape.quantization}"
        raise UnknownShape(f"{what} is not counted by its config.json alone: its *.safetensors files have to lie beside it")
    return Model(name, shape, shape.parameters, "counted from config.json", None)


def _weights(folder: Path) -> list[Path]:
    """A checkpoint's files of weights: those that its index names, or all that lie there but copies in another's format."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        found = sorted(folder.glob("*.safetensors"))
        own = [file for file in found if not file.name.startswith("consolidated")]
        return own or found
    try:
        named = sorted({folder / str(file) for file in json.loads(index.read_bytes())["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise WeightsNotFound(f"{index} is damaged: it names no files") from exc
    lacking = [file.name for file in named if not file.is_file()]
    if len(lacking) == len(named):
        return []  # the configuration alone
    if lacking:
        raise WeightsNotFound(f"{folder} lacks {len(lacking)} of its files of weights, {lacking[0]} first: it was not copied whole")
    return named


def _measured(files: list[Path], layers: int) -> tuple[Parameters, int]:
    """Counts of numbers as they are stored (packed ones count as what they are packed in), and their bytes."""
    counts, size = {"linear": 0, "experts": 0, "other": 0}, 0
    for name, numbers, dimensions, stored in (each for file in files for each in _tensors(file)):
        layer = _LAYER.search(name)
        if layer and int(layer[1]) >= layers and not _TOWER.search(name):
            continue  # layers that foretell several tokens, which are not loaded
        size += stored
        matrix = dimensions >= 2 and layer is not None and not _KEPT.search(name)
        counts["other" if not matrix else "experts" if "expert" in name and "shared" not in name else "linear"] += numbers
    return Parameters(**counts), size


def _tensors(file: Path) -> Iterator[tuple[str, int, int, int]]:
    """Each tensor's name, its numbers, its dimensions and its bytes, from the file's head."""
    with file.open("rb") as opened:
        head = opened.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else MAX_HEAD_BYTES + 1
        if length > MAX_HEAD_BYTES:
            raise WeightsNotFound(f"{file} is not a safetensors file")
        try:
            entries = json.loads(opened.read(length))
            for name, entry in entries.items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    yield name, prod(entry["shape"]), len(entry["shape"]), end - begin
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise WeightsNotFound(f"{file} is damaged: its head does not list its tensors") from exc


def _gguf(name: str, path: Path) -> Model:
    try:
        heads = [read_head(part) for part in _parts(path)]
        return _of_gguf(name, path, heads)
    except NotGguf as exc:
        raise WeightsNotFound(str(exc)) from exc


def _of_gguf(name: str, path: Path, heads: list[GgufHead]) -> Model:
    head = heads[0]
    of = head.of_model
    hidden, heads_count = of("embedding_length"), of("attention.head_count")
    if not (hidden and heads_count and of("block_count")):
        raise UnknownShape(f"{path} does not say its layers and heads")
    head_dim = of("attention.key_length") or hidden // heads_count
    for name_of_it, what in (("attention.sliding_window", "a window alone"), ("attention.kv_lora_rank", "latent keys"), ("ssm.state_size", "states")):
        if of(name_of_it):
            raise UnknownShape(f"{path} has layers with {what}: how much of each llama.cpp keeps is not known here")
    parameters = sum(each.parameters for each in heads)
    shape = ModelShape(
        architecture=str(head.values.get("general.architecture")),
        context=of("context_length"),
        hidden=hidden,
        vocab=of("vocab_size"),
        width=3 * of("feed_forward_length"),
        full_layers=of("block_count"),
        window_layers=0,
        window=0,
        heads=heads_count,
        kv_heads=of("attention.head_count_kv") or heads_count,
        head_dim=head_dim,
        value_dim=of("attention.value_length") or head_dim,
        latent=0,
        quantization=None,
        packed_bits=None,
        parameters=None,
        also_sees=False,
    )
    counted = Parameters(0, 0, parameters)
    return Model(name, shape, counted, "counted in the GGUF file", sum(each.data_bytes for each in heads), head.quantization)


def _parts(path: Path) -> list[Path]:
    """A file that was split, whole."""
    split = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.gguf", path.name)
    return [path.with_name(f"{split[1]}-{n:05}-of-{split[2]}.gguf") for n in range(1, int(split[2]) + 1)] if split else [path]
