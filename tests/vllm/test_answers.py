"""What vLLM answers through the gateway: chat, tools, schemas, log probabilities, completions, an adapter; asked by the official SDK."""

import json
import re
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.gateway.conftest import Gateway
from tests.vllm.conftest import PATIENCE_S, engine_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}


class City(BaseModel):
    name: str
    country: str


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def ready(gateway: Gateway) -> None:
    await engine_of(gateway).wait_ready(PATIENCE_S)


@pytest.fixture
def sdk(gateway: Gateway) -> AsyncOpenAI:
    return gateway.sdk.with_options(timeout=PATIENCE_S)


async def test_an_answer_streamed_says_what_the_whole_one_says_and_counts_alike(sdk: AsyncOpenAI) -> None:
    whole = await sdk.chat.completions.create(model="chat", messages=QUESTION, max_tokens=12, temperature=0)
    text, usage, finish = "", None, None
    stream = await sdk.chat.completions.create(
        model="chat", messages=QUESTION, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    assert whole.usage is not None and usage is not None
    assert (text, finish) == (whole.choices[0].message.content, whole.choices[0].finish_reason) and text
    assert usage.total_tokens == whole.usage.total_tokens and usage.completion_tokens > 0


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}], ids=["required", "named"])
async def test_a_tool_call_that_is_forced_comes_with_arguments_of_its_schema(sdk: AsyncOpenAI, choice: Any) -> None:
    answer = await sdk.chat.completions.create(
        model="chat", messages=[{"role": "user", "content": "What is the weather in Paris?"}], tools=[WEATHER], tool_choice=choice, max_tokens=100
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function" and call.function.name == "weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_forced_call_comes_in_deltas_too(sdk: AsyncOpenAI) -> None:
    name = arguments = finish = ""
    stream = await sdk.chat.completions.create(
        model="chat",
        messages=QUESTION,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        stream=True,
        max_tokens=100,
    )
    async for chunk in stream:
        for call in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
            assert call.function is not None
            name, arguments = name + (call.function.name or ""), arguments + (call.function.arguments or "")
        finish = (chunk.choices[0].finish_reason or finish) if chunk.choices else finish
    assert finish == "tool_calls" and name == "weather" and list(json.loads(arguments)) == ["city"]


async def test_a_schema_is_kept(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.parse(model="chat", messages=QUESTION, response_format=City, max_tokens=200, temperature=0)
    assert isinstance(answer.choices[0].message.parsed, City)


async def test_log_probabilities_are_those_of_the_tokens(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="chat", messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=2, temperature=0)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None and answer.usage is not None
    assert len(logprobs.content) == answer.usage.completion_tokens
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in logprobs.content)


async def test_several_choices_a_seed_and_a_stop(sdk: AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(model="chat", messages=QUESTION, n=3, max_tokens=8, temperature=1.0)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    seeded = [await sdk.chat.completions.create(model="chat", messages=QUESTION, seed=11, max_tokens=16, temperature=1.0) for _ in range(2)]
    assert seeded[0].choices[0].message.content == seeded[1].choices[0].message.content
    count: Any = [{"role": "user", "content": "Repeat: one two three four"}, {"role": "assistant", "content": "one two three four"}, QUESTION[0]]
    stopped = await sdk.chat.completions.create(model="chat", messages=count, stop=["a", "e", "i"], max_tokens=40, temperature=0)
    assert stopped.choices[0].finish_reason == "stop" and not set("aei") & set(stopped.choices[0].message.content or "")


async def test_completions_take_a_prompt_as_text_and_as_tokens(sdk: AsyncOpenAI, gateway: Gateway) -> None:
    text = await sdk.completions.create(model="chat", prompt="One, two, three,", max_tokens=5, temperature=0, logprobs=1)
    assert text.choices[0].text and text.usage is not None and text.usage.prompt_tokens > 3
    shown = text.choices[0].logprobs
    assert shown is not None and shown.tokens is not None and len(shown.tokens) == text.usage.completion_tokens
    asked = await gateway.post({"model": "chat", "prompt": "One, two, three,", "max_tokens": 1, "return_token_ids": True}, path="/v1/completions")
    ids = asked.json()["choices"][0]["prompt_token_ids"]
    tokens = await sdk.completions.create(model="chat", prompt=ids, max_tokens=5, temperature=0)
    assert tokens.choices[0].text == text.choices[0].text
    streamed = [chunk async for chunk in await sdk.completions.create(model="chat", prompt=ids, max_tokens=5, temperature=0, stream=True)]
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == text.choices[0].text
    (row,) = await gateway.rows(asked.headers["x-request-id"])
    assert row.target == "own" and row.usage is not None and row.engine_prefill_us > 0


async def test_an_adapter_is_a_model_of_its_own(sdk: AsyncOpenAI) -> None:
    plain, tuned = [
        await sdk.chat.completions.create(model=name, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True) for name in ("chat", "tuned")
    ]
    assert tuned.choices[0].message.content and plain.choices[0].logprobs is not None and tuned.choices[0].logprobs is not None
    assert tuned.choices[0].logprobs.content != plain.choices[0].logprobs.content


async def test_other_dialects_are_answered(gateway: Gateway, sdk: AsyncOpenAI) -> None:
    response = await sdk.responses.create(model="chat", input="Say hello.", max_output_tokens=12, temperature=0)
    assert response.output_text
    asked = {"model": "chat", "max_tokens": 12, "messages": QUESTION}
    message = await gateway.post(asked, path="/v1/messages", **{"anthropic-version": "2023-06-01"})
    assert message.status_code == 200 and message.json()["content"][0]["text"]


async def test_what_it_cannot_do_is_the_caller_s_fault_and_says_so(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        await sdk.chat.completions.create(model="chat", messages=[{"role": "user", "content": "word " * 3000}], max_tokens=4)
    with pytest.raises(openai.BadRequestError, match="'own' is not one for /embeddings"):
        await sdk.embeddings.create(model="chat", input="hello")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}}, "objekt|chema"),
        ({"structured_outputs": {"regex": "("}}, "egex"),
        ({"stop_token_ids": [10**9]}, "stop_token_ids|token"),
        ({"logprobs": True, "top_logprobs": 21}, "from 0 to 20"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "nope"}}}, "not among `tools`"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_refused_request_hears_why(gateway: Gateway, fields: dict[str, Any], words: str, stream: bool) -> None:
    refused = await gateway.post({"model": "chat", "messages": QUESTION, "max_tokens": 3, "stream": stream, **fields})
    message = refused.json()["error"]["message"]
    assert refused.status_code == 400 and re.search(words, message) and "'own'" in message, refused.text
