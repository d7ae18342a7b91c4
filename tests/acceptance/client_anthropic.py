"""The official Anthropic SDK: messages, streams, tools, structured output, counted tokens and models, at every target."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
PLACE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(base_url: str, api_key: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=base_url, api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


def ask(text: str) -> Any:
    return [{"role": "user", "content": text}]


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message(client: Anthropic, model: str) -> None:
    message = client.messages.create(model=model, max_tokens=64, system="Be brief.", messages=ask("SAY:hello"))
    assert text_of(message) == "hello" and message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0 and message.usage.output_tokens > 0


def test_a_streamed_message(client: Anthropic, model: str) -> None:
    with client.messages.stream(model=model, max_tokens=64, messages=ask("SAY:one two three")) as stream:
        assert "".join(stream.text_stream) == "one two three"
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens > 0


def test_events_come_in_order(client: Anthropic, model: str) -> None:
    events = [e.type for e in client.messages.create(model=model, max_tokens=64, messages=ask("SAY:one two"), stream=True) if e.type != "ping"]  # type: ignore[comparison-overlap]
    assert events[:2] == ["message_start", "content_block_start"]
    assert events[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_tool_round_trip(client: Anthropic, model: str) -> None:
    messages = ask('CALL:get_weather {"city": "Oslo"}')
    first = client.messages.create(model=model, max_tokens=64, messages=messages, tools=[WEATHER])
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert call.input == {"city": "Oslo"} and first.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "rain"}]}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    assert text_of(client.messages.create(model=model, max_tokens=64, messages=messages, tools=[WEATHER])) == "DONE:rain"


def test_parallel_calls_in_a_stream(client: Anthropic, model: str) -> None:
    text = 'CALL:get_weather {"city": "Oslo"}\nCALL:get_weather {"city": "Rome"}'
    with client.messages.stream(model=model, max_tokens=64, messages=ask(text), tools=[WEATHER]) as stream:
        calls = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert [c.input for c in calls] == [{"city": "Oslo"}, {"city": "Rome"}]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["any", "named"])
def test_a_forced_tool(client: Anthropic, model: str, choice: Any) -> None:
    message = client.messages.create(model=model, max_tokens=64, messages=ask("hi"), tools=[WEATHER], tool_choice=choice)
    assert [block.type for block in message.content] == ["tool_use"]


def test_structured_output(client: Anthropic, model: str) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": PLACE}}
    message = client.messages.create(model=model, max_tokens=64, messages=ask("a place"), output_config=form)
    assert '"people": 7' in text_of(message).replace('":7', '": 7')


def test_a_beta_call(client: Anthropic, model: str) -> None:
    message = client.beta.messages.create(model=model, max_tokens=64, messages=ask("SAY:hello"), betas=["a-beta-nobody-knows-2099-01-01"])
    assert message.content[0].type == "text" and message.content[0].text == "hello"


def test_a_cut_stream_is_an_error(client: Anthropic, cut: str) -> None:
    with (
        pytest.raises((anthropic.APIError, httpx2.RemoteProtocolError)),
        client.messages.stream(model=cut, max_tokens=64, messages=ask("SAY:one two three four five six")) as stream,
    ):
        stream.get_final_message()


def test_a_rate_limit_is_a_rate_limit_error(client: Anthropic, failing: str) -> None:
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model=failing, max_tokens=64, messages=ask("hi"))


def test_tokens_are_counted(client: Anthropic, model: str) -> None:
    assert client.messages.count_tokens(model=model, messages=ask("one two three")).input_tokens > 0


async def test_an_asynchronous_stream_with_an_auth_token(base_url: str, api_key: str, model: str) -> None:
    async with (
        AsyncAnthropic(base_url=base_url, auth_token=api_key, api_key=None, max_retries=0, timeout=30) as client,
        client.messages.stream(model=model, max_tokens=64, messages=ask("SAY:hello")) as stream,
    ):
        assert await stream.get_final_text() == "hello"


def test_models(client: Anthropic) -> None:
    assert [row.id for row in client.models.list()]


@pytest.mark.usefixtures("gateway_only")
def test_a_wrong_key_and_an_unknown_model(base_url: str, client: Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        Anthropic(base_url=base_url, api_key="sk-wrong", max_retries=0).messages.create(model="standin", max_tokens=64, messages=ask("hi"))
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nowhere/standin", max_tokens=64, messages=ask("hi"))
