"""What makes two requests the same: a digest of who asks, whom, for what, and under which rule. Pure."""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

MAX_BODY = 1 << 20  # bytes of a request that is looked up: what reading it again costs is bounded
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_name = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `route`: the entry of `models`, the model's name and the targets. `generation`: of the rule that it is answered by.

    `headers`: the client's that go on to a provider. `body`: JSON.
    """

    organisation: str
    team: str
    endpoint: str
    dialect: str
    route: tuple[str, ...]
    generation: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def key_of(asked: Asked) -> bytes:
    """32 bytes. Every part counts with its length, so that no two requests can be written the same.

    Raises msgspec.DecodeError for a body that is no JSON, UnicodeDecodeError, RecursionError.
    """
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
    yield canonical(asked.body)


def canonical(body: bytes) -> bytes:
    """The same JSON with its members in order and no white space; every string and number stays as its bytes are.

    Of a member that an object has twice the last one counts, as it does for whoever reads it.
    """
    body = body.strip()
    if body[:1] == b"{":
        members = _members.decode(body)
        return b"{%b}" % b",".join([b"%b:%b" % (_name(name), canonical(bytes(members[name]))) for name in sorted(members)])
    if body[:1] == b"[":
        return b"[%b]" % b",".join([canonical(bytes(element)) for element in _elements.decode(body)])
    return body
