"""pydantic-ai, instructor, llm and openai-agents: answers, streams, tools and structured output in every dialect that each speaks."""

from collections.abc import Callable
from typing import Any

import instructor
import llm
import pytest
from agents import Agent as OpenAIAgent
from agents import OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from anthropic import Anthropic
from llm.default_plugins.openai_models import Chat
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.models.openai import OpenAIResponsesModel as PydanticResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

set_tracing_disabled(True)
CALL = 'CALL:get_weather {"city": "Oslo"}'


class Place(BaseModel):
    name: str
    people: int


def weather_in(city: str) -> str:
    return f"rain in {city}"


# pydantic-ai


@pytest.fixture(params=["chat", "responses", "anthropic"])
def pydantic_model(request: pytest.FixtureRequest, base_url: str, api_key: str, model: str) -> Model:
    if request.param == "anthropic":
        return AnthropicModel(model, provider=AnthropicProvider(base_url=base_url, api_key=api_key))
    kinds: dict[str, Callable[..., Model]] = {"chat": OpenAIChatModel, "responses": PydanticResponsesModel}
    return kinds[request.param](model, provider=OpenAIProvider(base_url=f"{base_url}/v1", api_key=api_key))


async def test_pydantic_ai_answers(pydantic_model: Model) -> None:
    result = await Agent(pydantic_model, instructions="Be brief.").run("SAY:hello")
    assert result.output == "hello" and result.usage.output_tokens > 0


async def test_pydantic_ai_streams(pydantic_model: Model) -> None:
    async with Agent(pydantic_model).run_stream("SAY:one two three") as result:
        assert "".join([text async for text in result.stream_text(delta=True)]) == "one two three"


async def test_pydantic_ai_calls_a_tool(pydantic_model: Model) -> None:
    agent = Agent(pydantic_model)
    agent.tool_plain(weather_in, name="get_weather")
    assert (await agent.run(CALL)).output == "DONE:rain in Oslo"


async def test_pydantic_ai_makes_an_object(pydantic_model: Model) -> None:
    assert (await Agent(pydantic_model, output_type=Place).run("a place")).output == Place(name="x", people=7)


# instructor


@pytest.mark.parametrize("mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA, instructor.Mode.RESPONSES_TOOLS])
def test_instructor_over_openai(base_url: str, api_key: str, model: str, mode: instructor.Mode) -> None:
    client = instructor.from_openai(OpenAI(base_url=f"{base_url}/v1", api_key=api_key), mode=mode)
    place = client.chat.completions.create(model=model, response_model=Place, messages=[{"role": "user", "content": "a place"}], max_retries=0)
    assert (place.name, place.people) == ("x", 7)


def test_instructor_over_anthropic(base_url: str, api_key: str, model: str) -> None:
    client = instructor.from_anthropic(Anthropic(base_url=base_url, api_key=api_key), mode=instructor.Mode.ANTHROPIC_TOOLS)
    asked: Any = [{"role": "user", "content": "a place"}]
    place = client.chat.completions.create(model=model, max_tokens=256, response_model=Place, messages=asked, max_retries=0)
    assert (place.name, place.people) == ("x", 7)


# llm


@pytest.fixture
def llm_model(base_url: str, api_key: str, model: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    return Chat(model, key=api_key, api_base=f"{base_url}/v1", supports_schema=True, supports_tools=True)


def test_llm_answers_whole_and_streamed(llm_model: Any, api_key: str) -> None:
    assert llm_model.prompt("SAY:hello", stream=False, key=api_key).text() == "hello"
    assert "".join(llm_model.prompt("SAY:one two", key=api_key)) == "one two"


def test_llm_calls_a_tool(llm_model: Any, api_key: str) -> None:
    tool = llm.Tool.function(weather_in, name="get_weather")
    assert llm_model.chain(CALL, tools=[tool], key=api_key).text().endswith("DONE:rain in Oslo")


def test_llm_fills_a_schema(llm_model: Any, api_key: str) -> None:
    assert Place.model_validate_json(llm_model.prompt("a place", schema=Place, key=api_key).text()) == Place(name="x", people=7)


# openai-agents


@pytest.fixture(params=["chat", "responses"])
def agents_model(request: pytest.FixtureRequest, base_url: str, api_key: str, model: str) -> Any:
    client = AsyncOpenAI(base_url=f"{base_url}/v1", api_key=api_key)
    return (OpenAIChatCompletionsModel if request.param == "chat" else OpenAIResponsesModel)(model, client)


async def test_agents_answer_with_a_tool(agents_model: Any) -> None:
    agent = OpenAIAgent("weather", model=agents_model, tools=[function_tool(weather_in, name_override="get_weather")])
    assert (await Runner.run(agent, "SAY:hello")).final_output == "hello"
    assert (await Runner.run(agent, CALL)).final_output == "DONE:rain in Oslo"


async def test_agents_stream(agents_model: Any) -> None:
    result = Runner.run_streamed(OpenAIAgent("plain", model=agents_model), "SAY:one two three")
    deltas = [e.data.delta async for e in result.stream_events() if e.type == "raw_response_event" and e.data.type == "response.output_text.delta"]
    assert "".join(deltas) == "one two three" == result.final_output


async def test_agents_make_an_object(agents_model: Any) -> None:
    agent = OpenAIAgent("places", model=agents_model, output_type=Place)
    assert (await Runner.run(agent, "a place")).final_output == Place(name="x", people=7)
