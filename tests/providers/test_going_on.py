"""The request for the rest of an answer as each provider gets it: its text so far is the beginning of what is asked for."""

import json
from typing import Any

import pytest

from contract.call import Call, Dialect
from providers.address import Chosen
from providers.build import prefills, routes_of
from providers.local.asking import ask
from providers.local.manner import MANNERS
from providers.registry import PROVIDER_KINDS
from providers.wires.table import RESUMABLES
from tests.gateway.continued_streams import QUESTIONS, asked

TOLD = "The quick"
BEGUN = {"role": "assistant", "content": TOLD}
GOING_ON = {"continue_final_message": True, "add_generation_prompt": False}


def rest(dialect: Dialect) -> Call:
    return RESUMABLES[dialect].go_on(asked(dialect), TOLD, 2)


def sent(kind: str, call: Call, model: str = "m") -> dict[str, Any]:
    """What goes to the provider; nothing of it may be lost."""
    chosen = Chosen(name=kind, base_url="https://own.example/v1", key="k", region="r1", project="p1", api_version="v1")
    body: dict[str, Any] = json.loads(routes_of(PROVIDER_KINDS[kind], chosen)[call.dialect].prepare(call, model, "nothing").body)
    return body


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages"])
def test_vllm_is_told_to_go_on_with_the_last_message(dialect: Dialect) -> None:
    body = sent("vllm", rest(dialect))
    assert body["messages"][-1] == BEGUN and body.items() >= GOING_ON.items()


def test_vllm_is_told_nothing_of_the_kind_for_an_ordinary_question() -> None:
    assert not GOING_ON.keys() & sent("vllm", asked("openai_chat")).keys()
    assert not GOING_ON.keys() & sent("vllm", asked("anthropic_messages")).keys()


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "anthropic_messages"])
def test_mistral_is_told_that_the_last_message_is_a_beginning(dialect: Dialect) -> None:
    assert sent("mistral", rest(dialect))["messages"][-1] == {**BEGUN, "prefix": True}


@pytest.mark.parametrize("dialect", list(QUESTIONS))
def test_anthropic_gets_the_text_as_the_assistants(dialect: Dialect) -> None:
    last = sent("anthropic", rest(dialect), "claude-sonnet-4-5")["messages"][-1]
    assert last["role"] == "assistant" and last["content"] in (TOLD, [{"type": "text", "text": TOLD}])


@pytest.mark.parametrize("dialect", list(QUESTIONS))
def test_bedrock_gets_the_text_as_the_assistants(dialect: Dialect) -> None:
    assert sent("bedrock", rest(dialect), "amazon.nova-pro-v1:0")["messages"][-1] == {"role": "assistant", "content": [{"text": TOLD}]}


@pytest.mark.parametrize("dialect", list(QUESTIONS))
def test_an_owned_engine_gets_the_text_as_the_assistants_in_every_dialect(dialect: Dialect) -> None:
    body = json.loads(ask(rest(dialect), "cpu", "cpu", MANNERS["llamacpp"], 1 << 20, "nothing").body)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant"] and body["messages"][-1]["content"] == TOLD
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    assert limit == 98


def test_a_provider_of_completions_gets_a_longer_prompt() -> None:
    body = sent("vllm", rest("openai_completions"))
    assert body["prompt"] == "Once" + TOLD and not GOING_ON.keys() & body.keys()


@pytest.mark.parametrize(
    ("kind", "model", "can"),
    [
        ("anthropic", "claude-sonnet-4-5", True),
        ("anthropic", "claude-opus-4-6", False),
        ("anthropic", "claude-opus-5-5", False),
        ("bedrock", "us.anthropic.claude-opus-4-6-v1", False),
        ("bedrock", "amazon.nova-pro-v1:0", True),
        ("mistral", "mistral-large-latest", True),
        ("vllm", "m", True),
        ("llama.cpp", "m", True),
        ("openai", "gpt-5.5", False),
        ("gemini", "gemini-3-pro", False),
        ("openai-compatible", "m", False),
    ],
)
def test_it_is_known_who_goes_on_from_an_answer_that_was_begun(kind: str, model: str, can: bool) -> None:
    assert prefills(PROVIDER_KINDS[kind], Chosen(name=kind), model) is can


def test_vllm_goes_on_with_an_answer_that_a_client_of_another_dialect_began() -> None:
    messages = [{"role": "user", "content": "Hi"}, BEGUN]
    body = sent("vllm", asked("anthropic_messages", messages=messages))
    assert body["messages"] == messages and body.items() >= GOING_ON.items()
