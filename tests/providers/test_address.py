"""Where a provider's requests go, and the headers that they carry: from its row and its own settings."""

import pytest

from contract.call import Call
from gateway.peek import EMBEDDINGS, MESSAGES, Reader, passing, read_chat_call
from providers.address import Chosen, address_of, headers_of, missing
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS

AZURE = Chosen(name="a", base_url="https://r.openai.azure.com/openai/", key="k", api_version="2024-10-21")
READERS = {
    "openai_chat": (read_chat_call, b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'),
    "anthropic_messages": (Reader(MESSAGES).read, b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'),
    "openai_embeddings": (Reader(EMBEDDINGS).read, b'{"model":"m","input":"Hi"}'),
    "passthrough": (Reader(passing("/images/generations")).read, b'{"model":"m","prompt":"a cat"}'),
}


def call(dialect: str) -> Call:
    read, body = READERS[dialect]
    return read("r", body, [])


def url(kind: str, chosen: Chosen, dialect: str = "openai_chat", model: str = "m1") -> str:
    """The whole URL that a request of a dialect goes to."""
    row = PROVIDER_KINDS[kind]
    origin, base = address_of(row, chosen)
    prepared = routes_of(row, chosen)[dialect].prepare(call(dialect), model, "hints")  # type: ignore[index]
    return f"{'https' if origin.tls else 'http'}://{origin.host}:{origin.port}{base}{prepared.path}"


# --- azure -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("openai_chat", "chat/completions"),
        ("openai_embeddings", "embeddings"),
        ("anthropic_messages", "chat/completions"),
        ("passthrough", "images/generations"),
    ],
)
def test_azures_path_names_the_deployment_and_the_version(dialect: str, path: str) -> None:
    expected = f"https://r.openai.azure.com:443/openai/deployments/my-deployment/{path}?api-version=2024-10-21"
    assert url("azure", AZURE, dialect, "my-deployment") == expected


def test_a_deployments_name_cannot_leave_its_place_in_the_path() -> None:
    assert "/deployments/a%2F..%2Fb%3Fx/chat" in url("azure", AZURE, model="a/../b?x")


def test_azures_key_has_a_header_of_its_own() -> None:
    assert dict(headers_of(PROVIDER_KINDS["azure"], AZURE, signed=False))[b"api-key"] == b"k"


# --- google ------------------------------------------------------------------------------------------------------------------
def vertex(region: str) -> Chosen:
    return Chosen(name="v", key="ya29", region=region, project="my-project")


@pytest.mark.parametrize(("region", "host"), [("europe-west4", "europe-west4-aiplatform.googleapis.com"), ("global", "aiplatform.googleapis.com")])
def test_vertexs_region_is_in_its_host_and_its_path(region: str, host: str) -> None:
    expected = f"https://{host}:443/v1beta1/projects/my-project/locations/{region}/publishers/google/models/gemini-2.5-flash:generateContent"
    assert url("vertex", vertex(region), model="gemini-2.5-flash") == expected


def test_vertex_takes_a_bearer_token_and_gemini_a_key_in_a_header_of_its_own() -> None:
    assert dict(headers_of(PROVIDER_KINDS["vertex"], vertex("global"), signed=False))[b"authorization"] == b"Bearer ya29"
    assert dict(headers_of(PROVIDER_KINDS["gemini"], Chosen(name="g", key="k"), signed=False))[b"x-goog-api-key"] == b"k"


# --- amazon ------------------------------------------------------------------------------------------------------------------
def test_bedrocks_region_is_in_its_host_and_the_model_in_its_path() -> None:
    model = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
    expected = "https://bedrock-runtime.eu-central-1.amazonaws.com:443/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    assert url("bedrock", Chosen(name="b", region="eu-central-1"), model=model) == expected


def test_a_signed_provider_carries_no_constant_key() -> None:
    assert b"authorization" not in dict(headers_of(PROVIDER_KINDS["bedrock"], Chosen(name="b", key="k", region="r"), signed=True))


def test_bedrock_takes_a_bearer_key_where_nothing_signs() -> None:
    assert dict(headers_of(PROVIDER_KINDS["bedrock"], Chosen(name="b", key="k", region="r"), signed=False))[b"authorization"] == b"Bearer k"


# --- any ---------------------------------------------------------------------------------------------------------------------
MISSING = [
    ("azure", Chosen(name="x", base_url="https://r.example/openai"), ["api_version"]),
    ("vertex", Chosen(name="x"), ["region", "project"]),
    ("vertex", Chosen(name="x", region="global"), ["project"]),
    ("vertex", Chosen(name="x", base_url="http://127.0.0.1:1"), []),
    ("bedrock", Chosen(name="x"), ["region"]),
    ("openai", Chosen(name="x"), []),
]


@pytest.mark.parametrize(("kind", "chosen", "names"), MISSING)
def test_what_the_url_and_the_paths_need_and_nobody_gave_is_missing(kind: str, chosen: Chosen, names: list[str]) -> None:
    assert missing(PROVIDER_KINDS[kind], chosen) == names


def test_a_url_of_ones_own_wins_and_keeps_its_port_and_path() -> None:
    chosen = Chosen(name="x", base_url="http://127.0.0.1:9100/v1/")
    assert url("openai", chosen) == "http://127.0.0.1:9100/v1/chat/completions"


def test_headers_of_ones_own_are_added_and_win() -> None:
    headers = dict(
        headers_of(PROVIDER_KINDS["anthropic"], Chosen(name="x", key="k", headers={"X-Team": "a", "anthropic-version": "2099"}), signed=False)
    )
    assert headers == {b"user-agent": b"turnout", b"x-api-key": b"k", b"x-team": b"a", b"anthropic-version": b"2099"}


def test_a_provider_without_a_key_gets_none() -> None:
    assert dict(headers_of(PROVIDER_KINDS["ollama"], Chosen(name="x"), signed=False)) == {b"user-agent": b"turnout"}
