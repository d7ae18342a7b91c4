"""The embedded engine asked in every dialect, by the official SDKs: real tokens."""

from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic.types import Usage
from pydantic import BaseModel

from tests.gateway.conftest import KEY, Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
GREEDY = {"temperature": 0}  # which the SDK no longer names
QUESTION = "What is the capital of France? Answer in one short sentence."
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines:
  cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, threads: 1}}
models:
  local: {{targets: [{{engine: cpu}}]}}
teams:
  search: {{keys: [{key}]}}
"""


def prompt_tokens(usage: Usage) -> int:
    """All of the prompt: what the engine still had in its cache is told apart."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


class City(BaseModel):
    name: str
    country: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("engine")
    async with running(CONFIG.format(folder=folder, key=KEY), folder) as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def anthropic(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        yield client


async def test_a_response_is_made_whole_and_streamed(gateway: Gateway) -> None:
    whole = await gateway.sdk.responses.create(model="local", input=QUESTION, max_output_tokens=12, temperature=0)
    assert "Paris" in whole.output_text and whole.usage is not None and whole.usage.output_tokens > 3
    async with gateway.sdk.responses.stream(model="local", input=QUESTION, max_output_tokens=12, temperature=0) as stream:
        final = await stream.get_final_response()
    assert "Paris" in final.output_text and final.usage is not None and final.usage.input_tokens == whole.usage.input_tokens


async def test_a_conversation_goes_on_from_a_kept_response(gateway: Gateway) -> None:
    first = await gateway.sdk.responses.create(model="local", input="My name is Ada. Say hello to me.", max_output_tokens=10, temperature=0)
    second = await gateway.sdk.responses.create(
        model="local", input="What is my name?", previous_response_id=first.id, max_output_tokens=10, temperature=0
    )
    assert first.usage is not None and second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


async def test_a_response_follows_a_schema(gateway: Gateway) -> None:
    parsed = await gateway.sdk.responses.parse(model="local", input="Name a city.", text_format=City, max_output_tokens=300, temperature=0)
    assert parsed.output_parsed is not None and parsed.output_parsed.name


async def test_a_message_is_made_whole_and_streamed(anthropic: AsyncAnthropic) -> None:
    asked = [{"role": "user", "content": QUESTION}]
    whole = await anthropic.messages.create(model="local", messages=asked, max_tokens=16, extra_body=GREEDY)  # type: ignore[arg-type]
    assert "Paris" in whole.content[0].text and whole.stop_reason in ("end_turn", "max_tokens")  # type: ignore[union-attr]
    async with anthropic.messages.stream(model="local", messages=asked, max_tokens=16, extra_body=GREEDY) as stream:  # type: ignore[arg-type]
        final = await stream.get_final_message()
    assert "Paris" in final.content[0].text and prompt_tokens(final.usage) == prompt_tokens(whole.usage)  # type: ignore[union-attr]


async def test_a_message_s_tokens_are_counted_by_the_engine(anthropic: AsyncAnthropic) -> None:
    asked = [{"role": "user", "content": QUESTION}]
    counted = await anthropic.messages.count_tokens(model="local", messages=asked, system="Be brief.")  # type: ignore[arg-type]
    told = await anthropic.messages.create(model="local", messages=asked, system="Be brief.", max_tokens=1)  # type: ignore[arg-type]
    assert counted.input_tokens == prompt_tokens(told.usage)


async def test_an_old_completion_is_made(gateway: Gateway) -> None:
    done = await gateway.sdk.completions.create(model="local", prompt=QUESTION, max_tokens=30, temperature=0)
    assert "Paris" in done.choices[0].text and done.usage is not None


async def test_what_the_engine_has_not_is_refused_by_name(gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await gateway.sdk.embeddings.create(model="local", input="x")
    assert "/embeddings" in caught.value.message
