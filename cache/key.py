"""What makes two requests the same: a digest of who asks, whom, for what, and under which rule. Pure."""

from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

_name = msgspec.json.Encoder().encode


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
    """The same body with its top-level members in order and no white space; every string and number stays as its bytes are.

    Below the top level the order stays too: of a JSON schema it is the order in which a model answers.
    """
    return b"{%b}" % b",".join([b"%b:%b" % (_name(name), msgspec.json.format(bytes(fields[name]), indent=-1)) for name in sorted(fields)])
