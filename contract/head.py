"""An answer's headers: as pairs of a name and a value, and as the lines that they are sent as."""

from collections.abc import Iterable

HeaderList = list[tuple[bytes, bytes]]

_CONTROLS = bytes([*range(0x09), *range(0x0A, 0x20), 0x7F])  # what no name or value may hold; CR and LF only end lines
_TO_LF = bytes.maketrans(_CONTROLS, b"\n" * len(_CONTROLS))


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Each with its end. Raises RuntimeError for one that would break out of its line."""
    pieces: list[bytes] = []
    for name, value in headers:
        pieces += (name, b": ", value, b"\r\n")
    told = b"".join(pieces)
    if told.translate(_TO_LF).count(b"\n") * 2 != len(pieces):
        raise RuntimeError("a response header holds a control character")
    return told


def pairs_of(lines: bytes) -> HeaderList:
    """What `lines_of` made lines of."""
    return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])]
