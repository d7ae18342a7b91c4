"""What goes to Cohere, and what is told to be lost."""

import json
from typing import Any

import pytest

from contract import requests as r
from providers.registry import PROVIDER_KINDS
from providers.wires.cohere import COHERE
from providers.wires.facts import honoured
from providers.wires.losses import Losses
from providers.wires.openai_chat import OPENAI_CHAT
from tests.providers.wires.chat_requests import CALL, PIXEL, SCHEMA, USER, WEATHER, image, request, text, user

FACTS = PROVIDER_KINDS["cohere"].facts
TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


def sent(body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The body that Cohere gets of an OpenAI client's, and the names of what is lost."""
    return encoded(OPENAI_CHAT.decode_request(json.dumps(body).encode()))


def encoded(chat: r.ChatRequest) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    body = json.loads(COHERE.encode_request(honoured(chat, FACTS, losses), "command-a", FACTS, losses))
    return body, [*losses.fatal, *losses.hints]


def test_a_plain_request_says_the_same_in_coheres_words() -> None:
    body, lost = sent(request(temperature=0.5, top_p=0.9, top_k=7, seed=3, stop=["END"], max_completion_tokens=9, frequency_penalty=0.1, stream=True))
    assert body == {
        "model": "command-a",
        "messages": [USER],
        "stream": True,
        "temperature": 0.5,
        "p": 0.9,
        "k": 7,
        "seed": 3,
        "stop_sequences": ["END"],
        "max_tokens": 9,
        "frequency_penalty": 0.1,
    }
    assert lost == []


@pytest.mark.parametrize(("asked", "got"), [(1, 0.99), (0, 0.01), (0.5, 0.5)])
def test_top_p_stays_within_what_cohere_takes(asked: float, got: float) -> None:
    assert sent(request(top_p=asked))[0]["p"] == got


@pytest.mark.parametrize(("choice", "word"), [("auto", None), ("none", "NONE"), ("required", "REQUIRED")])
def test_a_tool_choice_is_coheres_word(choice: str, word: str | None) -> None:
    body, lost = sent(request(tools=[WEATHER], tool_choice=choice))
    assert body.get("tool_choice") == word and lost == ["tools.strict"]
    function = {name: value for name, value in WEATHER["function"].items() if name != "strict"}  # type: ignore[attr-defined]
    assert body["tools"] == [{"type": "function", "function": function}]


def test_a_named_tool_is_the_only_one_given() -> None:
    body, lost = sent(request(tools=[TOOL, WEATHER], tool_choice={"type": "function", "function": {"name": "clock"}}))
    assert body["tools"] == [TOOL] and body["tool_choice"] == "REQUIRED" and lost == ["tools.strict"]


def test_a_named_tool_that_is_not_there_is_told_to_be_lost() -> None:
    body, lost = sent(request(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}}))
    assert "tool_choice" not in body and lost == ["tool_choice"]


def test_tool_calls_and_results_follow_one_another() -> None:
    messages = [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
    body, lost = sent(request(*messages))
    assert body["messages"] == [USER, {"role": "assistant", "tool_calls": [CALL]}, messages[2]] and lost == []


def test_several_texts_of_a_result_stay_apart_and_its_image_is_told_to_be_lost() -> None:
    parts = (r.TextPart(text="a"), r.TextPart(text="b"), r.ImagePart(data="AAAA", media_type="image/png"))
    result = r.ToolResultPart(tool_call_id="c", content=parts, is_error=True)
    said = r.Message(role="user", parts=(result, r.TextPart(text="and?")))
    body, lost = encoded(r.ChatRequest(model="m", messages=(said,)))
    texts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert body["messages"] == [{"role": "tool", "tool_call_id": "c", "content": texts}, {"role": "user", "content": "and?"}]
    assert sorted(lost) == ["messages.image", "messages.is_error"]


def test_images_go_as_urls_and_as_data() -> None:
    parts = [text("What?"), image("https://x/y.png", detail="low"), image(PIXEL)]
    body, lost = sent(request(user(*parts)))
    assert body["messages"][0]["content"] == parts and lost == []


def test_a_schema_is_given_bare() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA, "strict": True}}
    body, lost = sent(request(response_format=wanted))
    assert body["response_format"] == {"type": "json_object", "json_schema": SCHEMA} and lost == []


def test_any_json_is_asked_without_a_schema() -> None:
    assert sent(request(response_format={"type": "json_object"}))[0]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    ("reasoning", "thinking"),
    [
        (r.Reasoning(effort="none"), {"type": "disabled"}),
        (r.Reasoning(budget_tokens=500), {"type": "enabled", "token_budget": 500}),
        (r.Reasoning(effort="low"), {"type": "enabled", "token_budget": 2048}),
        (r.Reasoning(), {"type": "enabled"}),
    ],
)
def test_reasoning_is_thinking_with_a_budget(reasoning: r.Reasoning, thinking: dict[str, Any]) -> None:
    message = r.Message(role="user", parts=(r.TextPart(text="Hi"),))
    assert encoded(r.ChatRequest(model="m", messages=(message,), reasoning=reasoning))[0]["thinking"] == thinking


def test_earlier_thinking_goes_back_and_a_signed_one_is_told_to_be_lost() -> None:
    parts = (r.ReasoningPart(text="hm"), r.ReasoningPart(text="x", signature="s", maker="anthropic_messages"), r.TextPart(text="42"))
    body, lost = encoded(r.ChatRequest(model="m", messages=(r.Message(role="assistant", parts=parts), r.Message(role="user"))))
    assert body["messages"][0]["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "42"}]
    assert body["messages"][1] == {"role": "user", "content": ""}
    assert lost == ["messages.reasoning"]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ({"n": 2}, "n"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 3}, "top_logprobs"),
        ({"user": "u"}, "user"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"parallel_tool_calls": False, "tools": [TOOL]}, "parallel_tool_calls"),
        ({"store": True}, "extra.store"),
    ],
)
def test_what_has_no_place_is_told_by_name(field: dict[str, Any], name: str) -> None:
    assert sent(request(**field))[1] == [name]


def test_a_developer_is_the_system() -> None:
    assert sent(request({"role": "developer", "content": "Be brief"}, USER))[0]["messages"][0] == {"role": "system", "content": "Be brief"}


def test_that_calls_may_be_parallel_asks_for_nothing() -> None:
    body, lost = sent(request(tools=[TOOL], parallel_tool_calls=True))
    assert "parallel_tool_calls" not in body and lost == []
