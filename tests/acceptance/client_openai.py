"""The official OpenAI SDK: chat completions and responses at every target, completions and embeddings where they exist."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CHAT_TOOL: Any = {"type": "function", "function": WEATHER}
RESPONSES_TOOL: Any = {"type": "function", **WEATHER}


class Place(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def client(base_url: str, api_key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{base_url}/v1", api_key=api_key, max_retries=0, timeout=30) as client:
        yield client


def ask(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_chat_completion(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=ask("SAY:hello"), max_tokens=64)
    assert answer.choices[0].message.content == "hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.completion_tokens > 0


def test_a_streamed_chat_completion_with_usage(client: OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=ask("SAY:one two three four"), max_tokens=64, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two three four"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage and chunks[-1].usage.prompt_tokens > 0 and not chunks[-1].choices


def test_usage_that_was_not_asked_for_is_not_sent(client: OpenAI, model: str) -> None:
    chunks = list(client.chat.completions.create(model=model, messages=ask("SAY:hello"), max_tokens=64, stream=True))
    assert all(c.choices and c.usage is None for c in chunks)


def test_a_tool_round_trip_in_chat(client: OpenAI, model: str) -> None:
    messages = ask('CALL:get_weather {"city": "Oslo"}')
    first = client.chat.completions.create(model=model, messages=messages, tools=[CHAT_TOOL], max_tokens=64)
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    assert first.choices[0].finish_reason == "tool_calls"
    messages += [first.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert client.chat.completions.create(model=model, messages=messages, tools=[CHAT_TOOL], max_tokens=64).choices[0].message.content == "DONE:rain"


def test_parallel_tool_calls_in_a_chat_stream(client: OpenAI, model: str) -> None:
    text = 'CALL:get_weather {"city": "Oslo"}\nCALL:get_weather {"city": "Rome"}'
    with client.chat.completions.stream(model=model, messages=ask(text), tools=[CHAT_TOOL], max_tokens=64) as stream:
        message = stream.get_final_completion().choices[0].message
    assert [json.loads(c.function.arguments)["city"] for c in message.tool_calls or []] == ["Oslo", "Rome"]
    assert len({c.id for c in message.tool_calls or []}) == 2


def test_a_forced_tool_in_chat(client: OpenAI, model: str) -> None:
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(model=model, messages=ask("hi"), tools=[CHAT_TOOL], tool_choice=choice, max_tokens=64)
    assert answer.choices[0].message.tool_calls


def test_structured_output_in_chat(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=ask("a place"), response_format=Place, max_tokens=64)
    assert answer.choices[0].message.parsed == Place(name="x", people=7)


def test_a_cut_chat_stream_is_an_error(client: OpenAI, cut: str) -> None:
    with pytest.raises((openai.APIError, httpx2.RemoteProtocolError)):
        list(client.chat.completions.create(model=cut, messages=ask("SAY:one two three four five six"), max_tokens=64, stream=True))


def test_a_rate_limit_is_a_rate_limit_error(client: OpenAI, failing: str) -> None:
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=failing, messages=ask("hi"), max_tokens=64)
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model=failing, input="hi")


def test_a_response(client: OpenAI, model: str) -> None:
    answer = client.responses.create(model=model, input="SAY:hello", instructions="Be brief.")
    assert answer.output_text == "hello" and answer.status == "completed"
    assert answer.usage and answer.usage.output_tokens > 0


def test_a_streamed_response(client: OpenAI, model: str) -> None:
    events = list(client.responses.create(model=model, input="SAY:one two three", stream=True))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "one two three"
    assert [e.sequence_number for e in events] == sorted({e.sequence_number for e in events})
    assert events[-1].response.output_text == "one two three"


def test_a_tool_round_trip_in_responses(client: OpenAI, model: str) -> None:
    items = ask('CALL:get_weather {"city": "Oslo"}')
    first = client.responses.create(model=model, input=items, tools=[RESPONSES_TOOL])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert json.loads(call.arguments) == {"city": "Oslo"}
    items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    assert client.responses.create(model=model, input=items, tools=[RESPONSES_TOOL]).output_text == "DONE:rain"


def test_structured_output_in_responses(client: OpenAI, model: str) -> None:
    assert client.responses.parse(model=model, input="a place", text_format=Place).output_parsed == Place(name="x", people=7)


async def test_many_at_once(base_url: str, api_key: str, model: str) -> None:
    import asyncio

    async with AsyncOpenAI(base_url=f"{base_url}/v1", api_key=api_key, max_retries=0, timeout=30) as client:
        asked = [client.chat.completions.create(model=model, messages=ask(f"SAY:number {n}"), max_tokens=64) for n in range(16)]
        answers = await asyncio.gather(*asked)
    assert [a.choices[0].message.content for a in answers] == [f"number {n}" for n in range(16)]


def test_a_completion(client: OpenAI, openai_model: str) -> None:
    assert client.completions.create(model=openai_model, prompt="SAY:hello").choices[0].text == "hello"
    stream = client.completions.create(model=openai_model, prompt="SAY:hello you", stream=True)
    assert "".join(c.choices[0].text for c in stream if c.choices) == "hello you"


def test_embeddings(client: OpenAI, openai_model: str) -> None:
    answer = client.embeddings.create(model=openai_model, input=["one", "two"], dimensions=4)
    assert [len(row.embedding) for row in answer.data] == [4, 4]
    plain = client.embeddings.create(model=openai_model, input=["one", "two"], dimensions=4, encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(answer.data[0].embedding)


def test_models(client: OpenAI, model: str) -> None:
    assert [row.id for row in client.models.list()]


@pytest.mark.usefixtures("gateway_only")
def test_a_wrong_key_and_an_unknown_model(base_url: str, api_key: str, client: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{base_url}/v1", api_key="sk-wrong", max_retries=0).responses.create(model="standin", input="hi")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nowhere/standin", messages=ask("hi"))
