"""A provider's settings beyond its key: what each kind needs and takes, told at its place."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.chosen import chosen_of, signer_of
from tests.config.files import loaded, places, refused

AMAZON = "credentials: {access_key_id: AKIDEXAMPLE, secret_access_key: secret}"


@pytest.fixture(scope="module")
def key_file() -> str:
    """A service account's key file, as Google writes it, with a key of our own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    account = {"type": "service_account", "project_id": "p", "private_key_id": "1", "private_key": pem, "client_email": "a@p.example"}
    return json.dumps({**account, "token_uri": "https://oauth2.example/token"})


# --- what loads ----------------------------------------------------------------------------------------------------------
LOADS = {
    "azure": 'kind: azure, base_url: "https://r.openai.azure.com/openai", api_version: "2024-10-21", api_key: k',
    "vertex with a token": "kind: vertex, region: europe-west4, project: my-project, api_key: ya29.token",
    "bedrock with a key": "kind: bedrock, region: eu-central-1, api_key: k",
    "bedrock with credentials": f"kind: bedrock, region: eu-central-1, {AMAZON}",
    "another wire": "kind: ollama, wire: openai_responses",
    "other dialects": "kind: ollama, dialects: [openai_chat, openai_responses]",
    "no dialect at all": "kind: ollama, dialects: []",
}


@pytest.mark.parametrize("text", LOADS.values(), ids=LOADS)
def test_a_provider_with_all_that_its_kind_needs_loads(tmp_path: Path, text: str) -> None:
    assert loaded(tmp_path, f"providers: {{a: {{{text}}}}}").settings.providers["a"].kind in text


def test_the_settings_reach_the_providers_package_as_plain_values(tmp_path: Path) -> None:
    text = "kind: vertex, region: europe-west4, project: p, api_key: k, wire: gemini, dialects: [openai_chat], headers: {x-team: search}"
    chosen = chosen_of("a", loaded(tmp_path, f"providers: {{a: {{{text}}}}}").settings.providers["a"])
    assert (chosen.region, chosen.project, chosen.key, chosen.wire) == ("europe-west4", "p", "k", "gemini")
    assert chosen.dialects == ("openai_chat",) and dict(chosen.headers) == {"x-team": "search"}


def test_an_access_key_makes_a_signer(tmp_path: Path) -> None:
    settings = loaded(tmp_path, f"providers: {{a: {{kind: bedrock, region: eu-central-1, {AMAZON}}}}}").settings
    assert signer_of(settings.providers["a"]) is not None


def test_a_service_accounts_key_file_makes_a_signer(tmp_path: Path, key_file: str) -> None:
    (tmp_path / "key.json").write_text(key_file)
    text = "providers: {a: {kind: vertex, region: global, project: p, credentials: {service_account: '${file:key.json}'}}}"
    assert signer_of(loaded(tmp_path, text).settings.providers["a"]) is not None


def test_a_provider_without_credentials_has_no_signer(tmp_path: Path) -> None:
    assert signer_of(loaded(tmp_path, "providers: {a: {kind: ollama}}").settings.providers["a"]) is None


# --- what is refused, and where ------------------------------------------------------------------------------------------
BEDROCK = "kind: bedrock, region: eu-central-1"
REFUSED = [
    (
        'kind: azure, base_url: "https://r.example/openai", api_key: k',
        "1:13: `providers.a.api_version` is missing: the kind `azure` needs it",
    ),
    ("kind: bedrock, api_key: k", "1:13: `providers.a.region` is missing: the kind `bedrock` needs it"),
    ("kind: vertex, region: global, api_key: k", "1:13: `providers.a.project` is missing: the kind `vertex` needs it"),
    (
        f'kind: bedrock, base_url: "http://127.0.0.1:1", {AMAZON}',
        "1:13: `providers.a.region` is missing: the kind `bedrock` needs it",
    ),
    (BEDROCK, '1:13: `providers.a.api_key` is missing; write api_key: "${AWS_BEARER_TOKEN_BEDROCK}"'),
    (
        f"{BEDROCK}, credentials: {{access_key_id: a}}",
        "1:67: `providers.a.credentials`: access_key_id and secret_access_key go together",
    ),
    (
        f"{BEDROCK}, credentials: {{}}",
        "1:67: `providers.a.credentials`: must hold either access_key_id and secret_access_key, or service_account",
    ),
    (
        f"{BEDROCK}, credentials: {{access_key_id: a, secret_access_key: s, service_account: x}}",
        "1:67: `providers.a.credentials`: must hold either access_key_id and secret_access_key, or service_account",
    ),
    (f"{BEDROCK}, api_key: k, {AMAZON}", "1:16: `providers.a`: has both an api_key and credentials; keep one"),
    (f"kind: ollama, {AMAZON}", "1:44: `providers.a.credentials`: the kind `ollama` takes an api_key"),
    (
        f"kind: vertex, region: global, project: p, {AMAZON}",
        "1:72: `providers.a.credentials`: the kind `vertex` takes service_account",
    ),
    (
        f"{BEDROCK}, credentials: {{service_account: x}}",
        "1:67: `providers.a.credentials`: the kind `bedrock` takes access_key_id and secret_access_key",
    ),
    (
        "kind: vertex, region: global, project: p, credentials: {service_account: '{}'}",
        "1:72: `providers.a.credentials`: service_account is not the JSON text of a service account's key file",
    ),
    (
        "kind: vertex, region: global, project: p, credentials: {service_account: 'no json'}",
        "1:72: `providers.a.credentials`: service_account is not the JSON text of a service account's key file",
    ),
    (
        "kind: vertex, region: global, project: p, credentials: {service_account: '[]'}",
        "1:72: `providers.a.credentials`: service_account is not the JSON text of a service account's key file",
    ),
    ("kind: bedrock, region: 'eu/central', api_key: k", "1:40: `providers.a.region`: it must be letters, digits, `.`, `_`, `:` and `-`"),
    (
        "kind: ollama, wire: openai_chats",
        "1:37: `providers.a.wire`: should be 'openai_chat', 'openai_responses', 'anthropic_messages', 'gemini', 'bedrock', 'cohere' or 'mistral'; "
        "did you mean `openai_chat`?",
    ),
    ("kind: ollama, dialects: openai_chat", "1:41: `providers.a.dialects`: must be a list"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED, ids=[text[:70] for text, _ in REFUSED])
def test_what_a_kind_lacks_or_cannot_take_is_told_at_its_place(tmp_path: Path, text: str, told: str) -> None:
    assert places(refused(tmp_path, f"providers: {{a: {{{text}}}}}")) == [told]


def test_a_dialect_that_no_provider_speaks_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (told,) = places(refused(tmp_path, "providers: {a: {kind: ollama, dialects: [openai_chatt]}}"))
    assert told.startswith("1:42: `providers.a.dialects.0`: should be 'openai_chat'") and "did you mean `openai_chat`?" in told


def test_secrets_of_credentials_are_never_shown(tmp_path: Path) -> None:
    text = f"providers: {{a: {{kind: ollama, {AMAZON.replace('secret}', 'sk-very-secret}')}}}}}"
    assert "sk-very-secret" not in str(refused(tmp_path, text))
    settings = loaded(tmp_path, f"providers: {{a: {{{BEDROCK}, {AMAZON.replace('secret}', 'sk-very-secret}')}}}}}").settings
    assert "sk-very-secret" not in repr(settings)


# --- what a target cannot honour -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "value"), [("{}", "hints"), ("{drop_unsupported: hints}", "hints")])
def test_hints_are_dropped_unless_the_policy_says_otherwise(tmp_path: Path, text: str, value: str) -> None:
    assert loaded(tmp_path, f"policies: {{p: {text}}}").settings.policies["p"].drop_unsupported == value


@pytest.mark.parametrize("value", [True, False])
def test_all_or_nothing_may_be_dropped(tmp_path: Path, value: bool) -> None:
    assert loaded(tmp_path, f"policies: {{p: {{drop_unsupported: {str(value).lower()}}}}}").settings.policies["p"].drop_unsupported is value


@pytest.mark.parametrize("value", ["all", "3", "[hints]"])
def test_no_other_word_says_what_to_drop(tmp_path: Path, value: str) -> None:
    (told,) = places(refused(tmp_path, f"policies: {{p: {{drop_unsupported: {value}}}}}"))
    assert told == "1:34: `policies.p.drop_unsupported`: must be true, false or hints"


@pytest.mark.parametrize(("days", "kept"), [("0", 0), ("365", 365)])
def test_answers_may_be_kept_for_as_long_as_wanted(tmp_path: Path, days: str, kept: int) -> None:
    assert loaded(tmp_path, f"state: {{responses_days: {days}}}").settings.state.responses_days == kept
