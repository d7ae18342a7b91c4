"""A service account's token: signed by its own key, for Vertex AI, and made anew only when it is about to end."""

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from providers.credentials import GOOGLE_AUDIENCE, GoogleSigner

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
FILE = {
    "type": "service_account",
    "client_email": "bot@project.iam.gserviceaccount.com",
    "private_key_id": "k1",
    "private_key": PEM,
    "token_uri": "https://oauth2.googleapis.com/token",
}


def unpacked(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))


async def token_of(signer: GoogleSigner) -> bytes:
    ((name, value),) = await signer.headers("aiplatform.googleapis.com", "/v1beta1/x", b"{}")
    assert name == b"authorization" and value.startswith(b"Bearer ")
    return value.removeprefix(b"Bearer ")


async def test_a_token_is_signed_by_the_key_and_names_its_account_and_audience() -> None:
    head, claims, signature = (await token_of(GoogleSigner(FILE))).split(b".")
    KEY.public_key().verify(unpacked(signature), head + b"." + claims, padding.PKCS1v15(), hashes.SHA256())
    header: dict[str, Any] = json.loads(unpacked(head))
    told: dict[str, Any] = json.loads(unpacked(claims))
    assert (header["alg"], header["kid"]) == ("RS256", "k1")
    assert told["iss"] == told["sub"] == FILE["client_email"] and told["aud"] == GOOGLE_AUDIENCE
    assert 0 < told["exp"] - told["iat"] <= 3600


async def test_a_token_serves_many_requests() -> None:
    signer = GoogleSigner(FILE)
    assert await token_of(signer) == await token_of(signer)


@pytest.mark.parametrize("broken", [{}, {**FILE, "private_key": "no key"}, {**FILE, "private_key": ""}, {"client_email": "a"}])
def test_a_file_that_is_no_key_is_refused_without_showing_it(broken: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^the service account's key file cannot be used$"):
        GoogleSigner(broken)
