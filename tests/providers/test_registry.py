"""The registry's rows: each is whole, agrees with what is known elsewhere of its provider, and gives a route to every dialect."""

import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from genai_prices.data import providers as PRICED

from contract.call import Call
from gateway.endpoints import ENDPOINTS
from gateway.peek import CHAT, MESSAGES, Reader, read_chat_call
from providers.address import Chosen, address_of, base_url_of, native_dialects
from providers.build import routes_of
from providers.registry import PROVIDER_KINDS, ProviderKind
from providers.wires.table import DIALECTS, EMBEDDERS, NATIVES, UPSTREAMS

# fmt: off
NAMED = [
    "openai", "azure", "anthropic", "gemini", "vertex", "bedrock", "mistral", "cohere", "groq", "deepseek", "xai", "together", "fireworks",
    "openrouter", "cerebras", "perplexity", "nvidia", "huggingface", "ollama", "vllm", "llama.cpp", "lm-studio", "tgi", "openai-compatible",
]
# fmt: on
ROWS = pytest.mark.parametrize(("name", "row"), PROVIDER_KINDS.items(), ids=PROVIDER_KINDS)


def chosen(name: str, **more: Any) -> Chosen:
    """Settings that lack nothing."""
    url = None if PROVIDER_KINDS[name].base_url else "https://own.example/openai"
    return Chosen(name=name, **{"base_url": url, "key": "k", "region": "r1", "project": "p1", "api_version": "v1", **more})


def chat(**more: Any) -> Call:
    return read_chat_call("r", json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more}).encode(), [])


def messages(**more: Any) -> Call:
    return Reader(MESSAGES).read(
        "r", json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}], **more}).encode(), []
    )


def test_every_provider_that_was_promised_has_a_row() -> None:
    assert list(PROVIDER_KINDS) == NAMED


@ROWS
def test_a_row_names_only_what_there_is(name: str, row: ProviderKind) -> None:
    assert row.wire in UPSTREAMS and set(row.native) <= set(NATIVES)
    assert row.embeddings is None or row.embeddings in EMBEDDERS
    assert {f"/v1{path}" for path in row.passes} <= set(ENDPOINTS)
    assert all(path.startswith("/") for path in (*row.native.values(), *row.passes.values()))
    assert set(re.findall(r"{(\w+)}", " ".join([row.base_url or "", *row.native.values(), *row.passes.values()]))) <= {
        "model",
        "region",
        "project",
        "api_version",
    }


@ROWS
def test_a_row_without_a_key_is_of_a_server_of_ones_own(name: str, row: ProviderKind) -> None:
    own = row.base_url is None or (urlsplit(row.base_url).hostname or "") == "127.0.0.1"
    assert own if row.key_env is None else re.fullmatch(r"[A-Z][A-Z_]+", row.key_env)


@ROWS
def test_a_managed_row_is_reached_by_tls(name: str, row: ProviderKind) -> None:
    assert row.base_url is None or row.key_env is None or row.base_url.startswith("https://")


@ROWS
def test_a_rows_url_is_the_one_that_the_price_list_knows_its_provider_by(name: str, row: ProviderKind) -> None:
    if row.price_provider is None:
        assert name in ("nvidia", "huggingface") or row.key_env is None
        return
    (priced,) = [provider for provider in PRICED if provider.id == row.price_provider]
    url = base_url_of(row, chosen(name, base_url=None if row.base_url else "https://own.openai.azure.com/openai"))
    assert re.match(priced.api_pattern, url), (priced.api_pattern, url)


@ROWS
def test_a_provider_that_keeps_responses_speaks_them(name: str, row: ProviderKind) -> None:
    assert not row.keeps_responses or "openai_responses" in row.native


@ROWS
def test_only_googles_streams_end_without_a_word(name: str, row: ProviderKind) -> None:
    assert row.terminal is (row.wire != "gemini")


# --- routes -----------------------------------------------------------------------------------------------------------------
@ROWS
def test_every_dialect_of_conversation_reaches_every_provider(name: str, row: ProviderKind) -> None:
    assert set(routes_of(row, chosen(name))) >= {*DIALECTS, "anthropic_count_tokens", *row.native}


@ROWS
def test_a_chat_request_is_prepared_for_every_provider(name: str, row: ProviderKind) -> None:
    prepared = routes_of(row, chosen(name))["openai_chat"].prepare(chat(), "target-model", "hints")
    assert "target-model" in prepared.path + prepared.body.decode() and "{" not in prepared.path
    assert prepared.read is not None


@ROWS
def test_a_request_in_another_dialect_goes_where_the_providers_own_wire_is(name: str, row: ProviderKind) -> None:
    routes = routes_of(row, chosen(name))
    native = row.native.get(row.wire)  # type: ignore[call-overload]
    dialect = "openai_chat" if row.wire == "anthropic_messages" else "anthropic_messages"
    call = chat() if dialect == "openai_chat" else messages()
    path = routes[dialect].prepare(call, "m1", "hints").path
    if native is not None:
        assert path == native.replace("{model}", "m1").replace("{api_version}", "v1")
    assert path.startswith("/")


RENAMING = [(name, old, new) for name, row in PROVIDER_KINDS.items() for old, new in row.facts.renames.items()]


@pytest.mark.parametrize(("name", "old", "new"), RENAMING)
def test_a_field_that_the_provider_calls_otherwise_is_renamed_in_its_own_dialect(name: str, old: str, new: str) -> None:
    body = json.loads(routes_of(PROVIDER_KINDS[name], chosen(name))["openai_chat"].prepare(chat(**{old: 7}), "m1", "hints").body)
    assert body[new] == 7 and old not in body


@pytest.mark.parametrize(("name", "new"), [(name, new) for name, old, new in RENAMING if old == "max_completion_tokens"])
def test_a_field_that_the_provider_calls_otherwise_is_renamed_in_translation(name: str, new: str) -> None:
    body = json.loads(routes_of(PROVIDER_KINDS[name], chosen(name))["anthropic_messages"].prepare(messages(), "m1", "hints").body)
    assert body[new] == 9 and "max_completion_tokens" not in body


def test_the_configuration_may_say_that_a_provider_speaks_less() -> None:
    row = PROVIDER_KINDS["openai"]
    few = chosen("openai", dialects=("openai_chat",))
    assert native_dialects(row, few) == {"openai_chat": "/chat/completions"}
    call = ENDPOINTS["/v1/responses"].read("r", b'{"model":"m","input":"Hi"}', [])
    assert routes_of(row, few)["openai_responses"].prepare(call, "m1", "hints").path == "/chat/completions"


def test_the_configuration_may_say_which_wire_to_translate_to() -> None:
    other = chosen("openai", wire="openai_responses")
    assert routes_of(PROVIDER_KINDS["openai"], other)["anthropic_messages"].prepare(messages(), "m1", "hints").path == "/responses"


def test_every_form_of_conversation_is_read_from_its_own_endpoint() -> None:
    assert ENDPOINTS["/v1/chat/completions"].form is CHAT and ENDPOINTS["/v1/messages"].form is MESSAGES


# --- what was recorded --------------------------------------------------------------------------------------------------------
OPS = {
    "openai.chat": "openai_chat",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic_messages",
    "anthropic.count_tokens": "anthropic_count_tokens",
    "embeddings": "openai_embeddings",
}
FOLDER = os.environ.get("TURNOUT_ACCEPTANCE")


def recorded_paths() -> Iterator[tuple[str, str, str]]:
    with gzip.open(Path(FOLDER or "") / "visible.jsonl.gz") as lines:
        for line in lines:
            exchange = json.loads(line)
            yield exchange["host"], exchange["op"], urlsplit(exchange["request"]["path"]).path


def row_of(host: str) -> tuple[str, ProviderKind] | None:
    for name, row in PROVIDER_KINDS.items():
        pattern = (
            re.escape(urlsplit(row.base_url or "").hostname or "-").replace(r"\{region\}\-", "([a-z0-9-]+-)?").replace(r"\{region\}", "[a-z0-9-]+")
        )
        if re.fullmatch(pattern, host):
            return name, row
    return None


@pytest.mark.skipif(not FOLDER, reason="TURNOUT_ACCEPTANCE names no folder of recorded exchanges")
def test_recorded_exchanges_went_to_the_rows_own_paths() -> None:
    seen = set()
    for host, op, path in recorded_paths():
        found = row_of(host)
        if found is None or op == "files" or path.startswith(("/v1beta/openai/", "/together/")):
            continue  # Google's OpenAI layer, and an older address of the router
        name, row = found
        base = address_of(row, chosen(name, region=(re.search(r"locations/([^/]+)", path) or ["", "r1"])[1]))[1]
        base = re.sub("projects/p1", (re.search(r"projects/[^/]+", path) or ["-"])[0], base)
        assert path.startswith(base), (name, path)
        if op in OPS:
            assert path == base + row.native[OPS[op]], (name, path)  # type: ignore[index]
        seen.add(name)
    assert seen >= {"openai", "anthropic", "gemini", "vertex", "bedrock", "mistral", "cohere", "groq", "deepseek", "openrouter", "cerebras"}
