"""What a signed token must be, without a provider: each thing that may be wrong with it, one at a time."""

import base64
import hmac
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey
from joserfc.registry import Header

from gateway.admin.refused import TokenRefused, UnknownKey
from gateway.admin.roles import values_of
from gateway.admin.tokens import ALGORITHMS, SKEW_S, key_set, verified

ISSUER, CLIENT = "https://id.example", "turnout"
NOW = time.time()
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
KEYS = key_set({"keys": [key.as_dict(private=False) for key in (RSA, EC, ED)]})
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": CLIENT, "sub": "ada", "iat": int(NOW), "exp": int(NOW) + 300}


def signed(claims: dict[str, Any] | None = None, key: Any = RSA, alg: str = "RS256", **header: Any) -> str:
    head: Header = {"alg": alg, "kid": key.kid, **header}
    return jwt.encode(head, {**CLAIMS, **(claims or {})}, key, algorithms=[alg])


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def checked(token: str, now: float = NOW, keys: KeySet = KEYS) -> dict[str, Any]:
    return verified(token, keys, ISSUER, CLIENT, now).claims


@pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (RSA, "PS384"), (EC, "ES256"), (ED, "Ed25519")], ids=lambda value: str(value)[:7])
def test_a_good_token_is_believed(key: Any, alg: str) -> None:
    assert checked(signed(key=key, alg=alg))["sub"] == "ada"


def test_no_token_without_a_signature_is_believed() -> None:
    bare = f"{part({'alg': 'none'})}.{part(CLAIMS)}."
    for token in (bare, bare.replace(part({"alg": "none"}), part({"alg": "nOnE", "kid": "rsa"})), signed().rpartition(".")[0] + "."):
        with pytest.raises(TokenRefused):
            checked(token)


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    head, body = part({"alg": "HS256", "kid": "rsa"}), part(CLAIMS)
    mac = hmac.new(RSA.as_pem(private=False), f"{head}.{body}".encode(), "sha256").digest()
    with pytest.raises(TokenRefused):
        checked(f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


def test_a_key_that_a_token_brings_along_is_not_used() -> None:
    own = RSAKey.generate_key(2048, {"kid": "rsa"})
    with pytest.raises(TokenRefused):
        checked(signed(key=own, jwk=own.as_dict(private=False)))


def test_a_key_of_another_kind_does_not_verify() -> None:
    other = ECKey.generate_key("P-256", {"kid": "rsa"})
    with pytest.raises(TokenRefused):
        checked(signed(key=other, alg="ES256"))


def test_a_changed_claim_is_noticed() -> None:
    head, _, signature = signed().split(".")
    with pytest.raises(TokenRefused):
        checked(f"{head}.{part({**CLAIMS, 'sub': 'eve'})}.{signature}")


def test_an_unknown_key_is_told_apart_so_that_newer_ones_are_fetched() -> None:
    with pytest.raises(UnknownKey):
        checked(signed(key=RSAKey.generate_key(2048, {"kid": "newer"})))


def test_a_critical_header_that_is_not_understood_is_refused() -> None:
    text = jws.serialize_compact({"alg": "RS256", "kid": "rsa"}, json.dumps(CLAIMS).encode(), RSA)
    head = {"alg": "RS256", "kid": "rsa", "crit": ["exp"], "exp": 1}
    with pytest.raises(TokenRefused):
        checked(f"{part(head)}.{text.split('.', 1)[1]}")


@pytest.mark.parametrize(("seconds", "holds"), [(300 + SKEW_S - 2, True), (300 + SKEW_S + 2, False), (-SKEW_S + 2, True), (-SKEW_S - 2, False)])
def test_clocks_may_differ_by_a_minute_and_no_more(seconds: int, holds: bool) -> None:
    token = signed()
    if holds:
        assert checked(token, NOW + seconds)
        return
    with pytest.raises(TokenRefused):
        checked(token, NOW + seconds)


BAD: list[dict[str, Any]] = [{name: None} for name in CLAIMS]
BAD += [{"sub": ""}, {"sub": 7}, {"aud": [7]}, {"exp": "soon"}, {"exp": True}, {"iss": [ISSUER]}]


@pytest.mark.parametrize("claims", BAD)
def test_a_claim_that_is_missing_or_of_another_type_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        checked(signed(claims))


@pytest.mark.filterwarnings("ignore:Key size")  # joserfc's own
def test_keys_that_are_weak_or_secret_or_not_for_signatures_are_left_out() -> None:
    good = EC.as_dict(private=False)
    weak = RSAKey.generate_key(1024, {"kid": "weak"}).as_dict(private=False)
    others = [weak, OctKey.generate_key(256).as_dict(private=True), {**good, "kid": "enc", "use": "enc"}, {"kty": "AKP"}, {"kty": "RSA"}, 7]
    assert [key.kid for key in key_set({"keys": [*others, good]})] == ["ec"]


def test_what_is_not_a_key_set_is_told() -> None:
    with pytest.raises(ValueError, match="JWK set"):
        key_set({"keys": "none"})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda each: st.lists(each, max_size=3), max_leaves=4)


HEADERS = JSON | st.fixed_dictionaries({"alg": JSON, "kid": JSON})


@settings(max_examples=150, deadline=None)
@given(st.text() | st.builds(lambda head, rest: f"{part(head)}.{rest}", HEADERS, st.text(max_size=20)))
def test_whatever_is_sent_as_a_token_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(TokenRefused):
        checked(text)


FIELDS = {"alg": JSON | st.sampled_from(ALGORITHMS), "kid": JSON | st.just("rsa"), "b64": JSON, "crit": JSON, "typ": JSON}


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_no_header_makes_a_wrong_signature_right(header: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused):
        checked(f"{part(header)}.{part(CLAIMS)}.{base64.urlsafe_b64encode(bytes(256)).decode().rstrip('=')}")


CLAIM = {"groups": ["a", 7, "b"], "one": "a", "https://example.com/roles": ["c"], "realm_access": {"roles": ["d"]}, "odd": {"x": 1}}


READ = {"groups": {"a", "b"}, "one": {"a"}, "https://example.com/roles": {"c"}, "realm_access.roles": {"d"}}
READ |= {"odd": set(), "odd.x.y": None, "no": None}


@pytest.mark.parametrize(("name", "values"), READ.items())
def test_a_claim_of_roles_is_read_whole_or_by_its_path(name: str, values: set[str] | None) -> None:
    assert values_of(CLAIM, name) == values
