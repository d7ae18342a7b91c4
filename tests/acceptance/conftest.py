"""Where the programs of others ask: BASE_URL without /v1, API_KEY, and MODELS, the names that every test is run with."""

import os

import pytest


@pytest.fixture(scope="session")
def base_url() -> str:
    return os.environ.get("BASE_URL", "http://127.0.0.1:18100")


@pytest.fixture(scope="session")
def api_key() -> str:
    return os.environ.get("API_KEY", "sk-acceptance")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`model` is every name of MODELS; `openai_model` the names of OpenAI targets, where only they have the operation."""
    if "model" in metafunc.fixturenames:
        metafunc.parametrize("model", os.environ.get("MODELS", "standin").split())
    if "openai_model" in metafunc.fixturenames:
        metafunc.parametrize("openai_model", os.environ.get("OPENAI_MODELS", "standin").split())


def sibling(model: str, name: str) -> str:
    """Another model of the same target: `ant/standin` and `err-429` make `ant/err-429`."""
    return f"{model.rpartition('/')[0]}/{name}".lstrip("/")


@pytest.fixture
def failing(model: str) -> str:
    return sibling(model, "err-429")


@pytest.fixture
def cut(model: str) -> str:
    return sibling(model, "cut-stream")


@pytest.fixture
def gateway_only() -> None:
    """The stand-in knows neither keys nor names of models."""
    if os.environ.get("MODELS", "standin") == "standin":
        pytest.skip("asked of the stand-in itself")
