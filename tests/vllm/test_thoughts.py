"""A model that thinks, read by vLLM's own reasoning parser: its thoughts reach each dialect apart from its answer, by the official SDKs, whole and
streamed. It ends its thoughts where it would end its first sentence (tests/vllm/make_model.py).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.vllm.conftest import HOME, PATIENCE_S, PYTHON, engine_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
ASKED, MOST = "Why is the sky blue?", 12
CONFIG = f"""
state: {{{{database: "sqlite:///{{folder}}/turnout.db"}}}}
engines:
  own: {{{{kind: vllm, python: "{PYTHON}", model: "{HOME}/model/thinker", slots: 2, context: 512, max_wait_s: 60, dtype: bfloat16,
         reasoning_parser: deepseek_r1, args: [--enforce-eager]}}}}
models: {{{{thinker: {{{{targets: [{{{{engine: own}}}}]}}}}}}}}
teams: {{{{search: {{{{keys: [{KEY}]}}}}}}}}
"""


@dataclass
class Said:
    thoughts: str
    text: str
    tokens: int


@dataclass
class World:
    gateway: Gateway
    anthropic: AsyncAnthropic


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("thinker")
    async with running(CONFIG.format(folder=folder), folder) as gateway:
        gateway.http.timeout = PATIENCE_S
        await engine_of(gateway).wait_ready(PATIENCE_S)
        async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
            yield World(gateway, client)


def told_apart(said: Said) -> None:
    assert said.thoughts.startswith("The sky") and said.text.strip(), said
    assert "think>" not in said.thoughts + said.text and "." not in said.thoughts
    assert said.tokens == MOST


@STREAMED
async def test_thoughts_stand_beside_the_answer_of_a_chat(world: World, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "thinker", "messages": [{"role": "user", "content": ASKED}], "max_tokens": MOST, "temperature": 0}
    said = Said("", "", 0)
    client = world.gateway.sdk.with_options(timeout=PATIENCE_S).chat.completions
    if stream:
        async for chunk in await client.create(**asked, stream=True, stream_options={"include_usage": True}):
            said.tokens = chunk.usage.completion_tokens if chunk.usage else said.tokens
            for choice in chunk.choices:
                said.thoughts += getattr(choice.delta, "reasoning", None) or ""  # as vLLM calls it: its bytes pass
                said.text += choice.delta.content or ""
    else:
        answer = await client.create(**asked)
        message: Any = answer.choices[0].message
        assert answer.usage is not None
        said = Said(message.reasoning_content, message.content or "", answer.usage.completion_tokens)
    told_apart(said)


@STREAMED
async def test_thoughts_are_a_block_of_a_message(world: World, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "thinker", "messages": [{"role": "user", "content": ASKED}], "max_tokens": MOST}
    asked["extra_body"] = {"temperature": 0}  # which the SDK no longer names
    if stream:
        async with world.anthropic.messages.stream(**asked) as events:
            message = await events.get_final_message()
    else:
        message = await world.anthropic.messages.create(**asked)
    thinking, text = message.content
    assert (thinking.type, text.type) == ("thinking", "text")
    told_apart(Said(thinking.thinking, text.text, message.usage.output_tokens))
    again = [{"role": "assistant", "content": [thinking.model_dump(), text.model_dump()]}, {"role": "user", "content": "Go on."}]
    later = await world.anthropic.messages.create(**{**asked, "messages": [*asked["messages"], *again]})
    assert later.usage.input_tokens > message.usage.input_tokens, "what it thought and said may be given back"


@STREAMED
async def test_thoughts_are_an_item_of_a_response(world: World, stream: bool) -> None:
    asked: dict[str, Any] = {"model": "thinker", "input": ASKED, "max_output_tokens": MOST, "temperature": 0}
    client = world.gateway.sdk.with_options(timeout=PATIENCE_S).responses
    if stream:
        events: list[Any] = [event async for event in await client.create(**asked, stream=True)]
        kinds, answer = [event.type for event in events], events[-1].response
        assert kinds.index("response.reasoning_summary_text.delta") < kinds.index("response.output_text.delta")
    else:
        answer = await client.create(**asked)
    thought, message = answer.output
    assert (thought.type, message.type) == ("reasoning", "message")
    told_apart(Said(thought.summary[0].text, message.content[0].text, answer.usage.output_tokens))


@STREAMED
async def test_how_many_tokens_it_thought_is_not_known_where_vllm_counts_none(world: World, stream: bool) -> None:
    asked = {"model": "thinker", "messages": [{"role": "user", "content": ASKED}], "max_tokens": MOST, "temperature": 0, "stream": stream}
    answer = await world.gateway.post(asked)
    (row,) = await world.gateway.rows(answer.headers["x-request-id"])
    assert (row.usage.reasoning, row.usage.output_visible) == (None, MOST)
