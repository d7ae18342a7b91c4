"""What makes two requests the same: a digest of who asks, whom, for what, and under which rule. Pure."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import msgspec

EXACT = 1 << 53  # beyond it a float does not tell one whole number from the next
_write = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `route`: the entry of `models`, the model's name and the targets. `generation`: of the rule that it is answered by.

    `headers`: the client's that go on to a provider. `fields`: the body's top-level members, each still JSON.
    """

    organisation: str
    team: str
    endpoint: str
    dialect: str
    route: tuple[str, ...]
    generation: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    fields: Mapping[str, msgspec.Raw]


def key_of(asked: Asked) -> bytes:
    """32 bytes. Every part counts with its length, so that no two requests can be written the same. Raises msgspec.DecodeError."""
    digest = sha256()
    for part in _parts(asked):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def _parts(asked: Asked) -> Iterable[bytes]:
    yield asked.organisation.encode()
    yield asked.team.encode()
    yield asked.endpoint.encode()
    yield asked.dialect.encode()
    yield b"%d" % len(asked.route)
    for part in asked.route:
        yield part.encode()
    yield asked.generation
    yield b"%d" % len(asked.headers)
    for name, value in sorted(asked.headers):
        yield name
        yield value
    yield canonical(asked.fields)


def canonical(fields: Mapping[str, msgspec.Raw]) -> bytes:
    """The same body with its top-level members in order, and every string and number written in one way: `"\\u0061"` is `"a"`, and 1.0 is 1.

    Below the top level the order stays: of a JSON schema it is the order in which a model answers.
    """
    return b"{%b}" % b",".join([b"%b:%b" % (_write(name), _canonical(fields[name])) for name in sorted(fields)])


def _canonical(raw: msgspec.Raw) -> bytes:
    try:
        return _write(_plain(msgspec.json.decode(raw)))
    except msgspec.ValidationError:  # it holds a number beyond all floats: as it is written
        return msgspec.json.format(bytes(raw), indent=-1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= EXACT:
        return int(value)
    return value
