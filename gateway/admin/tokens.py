"""What a signed token (JWT) must be before anybody believes it: pure, the time is an argument.

OpenID Connect Core 3.1.3.7 (ID tokens), RFC 8725 (best current practice), RFC 9068 (access tokens). The cryptography is joserfc's.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import JWKRegistry, Key, KeySet, OctKey, RSAKey
from joserfc.jws import JWSRegistry

from gateway.admin.refused import TokenRefused, UnknownKey

# No `none`, and no HS*: a provider's public keys are public, and a client's secret is not for signing.
HASHES = {
    **{f"{kind}{bits}": f"sha{bits}" for kind in ("RS", "PS", "ES") for bits in (256, 384, 512)},
    "Ed25519": "sha512",
}
ALGORITHMS = tuple(HASHES)
MAX_TOKEN_CHARS = 64 << 10
MIN_RSA_BITS = 2048
SKEW_S = 60  # by how much a provider's clock and ours may differ


class Verified(msgspec.Struct, frozen=True):
    """A token's claims, and the algorithm that it is signed with."""

    claims: dict[str, Any]
    algorithm: str


def key_set(document: dict[str, Any]) -> KeySet:
    """The keys of a JWK set that verify signatures; what is not understood is left out (RFC 7517, 5). Raises ValueError for what is no JWK set."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("not a JWK set")
    return KeySet([key for data in listed if isinstance(data, dict) and data.get("use", "sig") == "sig" and (key := _key(data)) is not None])


def _key(data: dict[str, Any]) -> Key | None:
    try:
        key = JWKRegistry.import_key(data)
        strong = not isinstance(key, OctKey) and not (isinstance(key, RSAKey) and key.raw_value.key_size < MIN_RSA_BITS)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if strong else None


def verified(token: str, keys: KeySet, issuer: str, client_id: str, now: float) -> Verified:
    """A token that this issuer signed for this client and that holds now (Unix seconds). Raises TokenRefused, UnknownKey."""
    if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2:
        raise TokenRefused("it is not a signed token")
    try:
        decoded = jwt.decode(token, keys, registry=JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False))
        wanted = jwt.JWTClaimsRegistry(
            now=int(now),
            leeway=SKEW_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
        )
        wanted.validate(decoded.claims)
    except InvalidKeyIdError as exc:
        raise UnknownKey("it is signed with an unknown key") from exc
    except JoseError as exc:
        raise TokenRefused(exc.error) from exc
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise TokenRefused("it is malformed") from exc
    return Verified(decoded.claims, decoded.header["alg"])


def check_id_token(token: Verified, client_id: str, nonce: str, access_token: str | None) -> None:
    """What an ID token must have beyond `verified`. Raises TokenRefused."""
    claims = token.claims
    if not isinstance(claims.get("nonce"), str) or not _same(claims["nonce"], nonce):
        raise TokenRefused("it answers another sign-in")
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise TokenRefused("it was given to another party")
    at_hash = claims.get("at_hash")
    if (
        at_hash is not None
        and access_token is not None
        and not (isinstance(at_hash, str) and _same(at_hash, half_hash(access_token, token.algorithm)))
    ):
        raise TokenRefused("it came with another access token")


def half_hash(text: str, algorithm: str) -> str:
    """`at_hash` (Core 3.1.3.6): base64url of the left half of the hash that the algorithm signs with."""
    digest = hashlib.new(HASHES[algorithm], text.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
