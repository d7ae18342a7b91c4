"""Signatures that cross a dialect: the provider's opaque proof, wrapped with the target it belongs to, so that it finds its way back.

A client keeps what looks to it like a signature of its own dialect and returns it unchanged. No secret: it names a target and holds what
that target gave; one that was tampered with is refused by the provider that checks it.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
from msgspec.structs import replace

PREFIX = "tnt1_"
MARK = PREFIX.encode()  # what tells a body that holds a seal


class Seal(msgspec.Struct, frozen=True, array_like=True):
    """`target`: the label of the target that made it. `maker`: its wire. `call_id`: the tool call it belongs to, if it is a call's.

    `redacted`, `id`: as the reasoning's. An empty `signature`: the target gave none, and what is told is only who made it.
    """

    target: str
    maker: str
    signature: str = ""
    call_id: str | None = None
    redacted: bool = False
    id: str | None = None


NOBODY = "-"  # the maker of a seal that the target to be asked must not take for its own
_SEAL = re.compile(re.escape(MARK) + rb"[A-Za-z0-9_-]+")
_decoder = msgspec.json.Decoder(Seal)


def seal(value: Seal) -> str:
    """Text of letters, digits, `-` and `_`."""
    return PREFIX + urlsafe_b64encode(msgspec.json.encode(value)).decode().rstrip("=")


def unseal(text: str) -> Seal | None:
    """What was sealed; None: it is not one of ours."""
    if not text.startswith(PREFIX):
        return None
    packed = text[len(PREFIX) :]
    try:
        return _decoder.decode(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    except (ValueError, msgspec.DecodeError):
        return None


def seals_in(text: bytes) -> list[Seal]:
    """All that stand in a text, in their order."""
    return [found for match in _SEAL.finditer(text) if (found := unseal(match[0].decode())) is not None]


def disowned(body: bytes, provider: str) -> bytes:
    """The body with the seals of other providers' targets made nobody's: a signature is worth something to its own provider alone."""

    def mark(found: re.Match[bytes]) -> bytes:
        sealed = unseal(found[0].decode())
        if sealed is None or not sealed.signature or sealed.target.partition("/")[0] == provider:
            return found[0]
        return seal(replace(sealed, maker=NOBODY)).encode()

    return _SEAL.sub(mark, body) if body.find(MARK) >= 0 else body
