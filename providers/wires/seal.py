"""Signatures that cross a dialect: the provider's opaque proof, wrapped with the target it belongs to, so that it finds its way back.

A client keeps what looks to it like a signature of its own dialect and returns it unchanged. No secret: it names a target and holds what
that target gave; one that was tampered with is refused by the provider that checks it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

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
