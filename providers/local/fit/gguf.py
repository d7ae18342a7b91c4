"""Reads what a GGUF file says of itself: its metadata and its tensors' shapes, not their data. The format: ggml's docs/gguf.md, version 3.

Only the head is read, a few MB; long lists (a vocabulary, say) are stepped over.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from providers.local.weights import GGUF_MAGIC

Value = int | float | bool | str | tuple[int | float | bool, ...]
VERSIONS = (2, 3)
MAX_TEXT = 1 << 24
MAX_COUNT = 1 << 24
SHORT = 1024  # of a list of numbers that is kept: one for each layer
CONTEXT = ".context_length"
_STRING, _LIST, _BOOL = 8, 9, 7
_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", _BOOL: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# `general.file_type`, of llama.cpp's include/llama.h
FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip


class NotGguf(ValueError):
    """The file is no GGUF file that can be read; the message says why."""


class GgufHead(msgspec.Struct, frozen=True):
    """`values`: the metadata, without long lists. `data_bytes`: of the weights alone."""

    values: dict[str, Value]
    parameters: int
    data_bytes: int

    def of_model(self, name: str) -> int:
        """A number that stands under the architecture's own name; 0 when there is none. Raises NotGguf where layers differ in it."""
        value = self.values.get(f"{self.values.get('general.architecture')}.{name}", 0)
        if isinstance(value, tuple):
            if len(set(value)) != 1:
                raise NotGguf(f"its layers differ in {name}, which is not counted here")
            value = value[0]
        return value if isinstance(value, int) else 0

    @property
    def quantization(self) -> str:
        kind = self.values.get("general.file_type")
        return FILE_TYPES.get(kind, f"type {kind}") if isinstance(kind, int) else "of a type that it does not say"


def read_head(path: Path) -> GgufHead:
    """Raises NotGguf, OSError."""
    with path.open("rb") as file:
        try:
            return _head(file, path.stat().st_size)
        except (struct.error, UnicodeDecodeError, KeyError) as exc:
            raise NotGguf(f"{path} ends early or is damaged") from exc


def trained_tokens(path: Path) -> int | None:
    """Of prompt and answer together, that the model was trained for; None: the file does not say. Reads no further. Raises NotGguf, OSError."""
    with path.open("rb") as file:
        try:
            pairs = _begin(file)[1]
            found = next((value for name, value in _pairs(file, pairs) if name.endswith(CONTEXT)), None)
        except (struct.error, UnicodeDecodeError, KeyError) as exc:
            raise NotGguf(f"{path} ends early or is damaged") from exc
    return found if isinstance(found, int) else None


def _begin(file: BinaryIO) -> tuple[int, int]:
    """How many tensors and how many pairs of metadata follow."""
    if file.read(4) != GGUF_MAGIC:
        raise NotGguf(f"{file.name} is not a GGUF file")
    version = _number(file, "<I")
    if version not in VERSIONS:
        raise NotGguf(f"{file.name} is of version {version} of GGUF; {VERSIONS} are known")
    return _count(file), _count(file)


def _pairs(file: BinaryIO, count: int) -> Iterator[tuple[str, Value | None]]:
    for _ in range(count):
        yield _text(file), _value(file, int(_number(file, "<I")))


def _head(file: BinaryIO, size: int) -> GgufHead:
    tensors, pairs = _begin(file)
    values = {name: value for name, value in _pairs(file, pairs) if value is not None}
    parameters = 0
    for _ in range(tensors):
        _text(file)
        numbers = 1
        for _ in range(int(_number(file, "<I"))):
            numbers *= int(_number(file, "<Q"))
        parameters += numbers
        file.read(12)  # type and offset
    return GgufHead(values, parameters, size - file.tell())


def _value(file: BinaryIO, kind: int) -> Value | None:
    """None: a list that was stepped over."""
    if kind == _STRING:
        return _text(file)
    if kind != _LIST:
        return _number(file, _NUMBERS[kind])
    inner, count = int(_number(file, "<I")), _count(file)
    if inner in _NUMBERS:
        if count <= SHORT:
            return tuple(_number(file, _NUMBERS[inner]) for _ in range(count))
        file.seek(count * struct.calcsize(_NUMBERS[inner]), 1)
        return None
    for _ in range(count):
        _value(file, inner)
    return None


def _number(file: BinaryIO, form: str) -> int | float | bool:
    number: int | float | bool = struct.unpack(form, file.read(struct.calcsize(form)))[0]
    return number


def _count(file: BinaryIO) -> int:
    count = int(_number(file, "<Q"))
    if count > MAX_COUNT:
        raise NotGguf(f"{file.name} is damaged: it would hold a list of {count}")
    return count


def _text(file: BinaryIO) -> str:
    length = int(_number(file, "<Q"))
    if length > MAX_TEXT:
        raise NotGguf(f"{file.name} is damaged: it would hold a text of {length} bytes")
    return file.read(length).decode()
