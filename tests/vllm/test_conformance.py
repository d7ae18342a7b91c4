"""vLLM held to what every owned engine is held to (tests/gateway/engine_conformance.py), and to what it alone can do, in each dialect."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.engine_conformance import *  # noqa: F403
from tests.gateway.engine_conformance import EACH, STREAMED, Has, of
from tests.gateway.engine_dialects import Clients, Name, Wish
from tests.vllm.conftest import CHECKPOINT, PATIENCE_S, PYTHON, engine_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def has() -> Has:
    return frozenset({"n", "tools"})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clients(gateway: Gateway) -> AsyncIterator[Clients]:
    await engine_of(gateway).wait_ready(PATIENCE_S)
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=PATIENCE_S) as client:
        yield Clients(gateway.sdk.with_options(timeout=PATIENCE_S), client)


@STREAMED
@of(*EACH)
async def test_an_adapter_is_asked_for_by_its_model_s_name(clients: Clients, dialect: Name, stream: bool) -> None:
    plain, tuned = [await clients.ask(dialect, stream, Wish(model=model, tokens=16)) for model in ("local", "tuned")]
    assert plain.texts != tuned.texts and plain.prompt_tokens == tuned.prompt_tokens


async def test_tokens_are_a_prompt_as_its_text_is(clients: Clients, gateway: Gateway) -> None:
    asked: Any = {"model": "local", "prompt": "One, two, three,", "max_tokens": 5, "temperature": 0}
    told = await gateway.post({**asked, "return_token_ids": True}, path="/v1/completions")
    ids = told.json()["choices"][0]["prompt_token_ids"]
    again = await clients.openai.completions.create(**{**asked, "prompt": ids})
    assert again.choices[0].text == told.json()["choices"][0]["text"] and again.usage is not None and again.usage.prompt_tokens == len(ids)
    both = await clients.openai.completions.create(**{**asked, "prompt": [ids, ids]})
    assert [choice.text for choice in both.choices] == [again.choices[0].text] * 2


async def test_thoughts_have_their_place_in_each_dialect(tmp_path: Path) -> None:
    """Read by a parser that takes all before `</think>` for thoughts, which this model never ends."""
    text = f"""
state: {{database: "sqlite:///{tmp_path}/turnout.db"}}
engines:
  thinks: {{kind: vllm, python: "{PYTHON}", model: "{CHECKPOINT}", slots: 2, context: 512, reasoning_parser: deepseek_r1, args: [--enforce-eager]}}
models: {{local: {{targets: [{{engine: thinks}}]}}}}
teams: {{search: {{keys: [{KEY}]}}}}
"""
    asked: Any = [{"role": "user", "content": "Think of ships."}]
    async with running(text, tmp_path) as gateway, AsyncAnthropic(base_url=gateway.url, api_key=KEY, timeout=PATIENCE_S) as anthropic:
        await engine_of(gateway, "thinks").wait_ready(PATIENCE_S)
        chat: Any = await gateway.sdk.chat.completions.create(model="local", messages=asked, max_tokens=8, temperature=0)
        thought = chat.choices[0].message.reasoning_content
        assert thought and not chat.choices[0].message.content and chat.usage.completion_tokens == 8
        chunks: Any = await gateway.sdk.chat.completions.create(model="local", messages=asked, max_tokens=8, temperature=0, stream=True)
        streamed = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" async for chunk in chunks if chunk.choices]
        assert "".join(streamed) == thought
        response = await gateway.sdk.responses.create(model="local", input=asked, max_output_tokens=8, temperature=0)
        (item,) = [item for item in response.output if item.type == "reasoning"]
        assert thought in "".join(part.text for part in (*item.summary, *(item.content or ())))
        message = await anthropic.messages.create(model="local", messages=asked, max_tokens=8, extra_body={"temperature": 0})
        assert [(block.type, getattr(block, "thinking", None)) for block in message.content] == [("thinking", thought)]
        async with anthropic.messages.stream(model="local", messages=asked, max_tokens=8, extra_body={"temperature": 0}) as stream:
            final = await stream.get_final_message()
        assert [getattr(block, "thinking", None) for block in final.content] == [thought]


async def test_a_model_without_embeddings_says_so(clients: Clients) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await clients.openai.embeddings.create(model="local", input="x")
    assert refused.value.status_code in (400, 404)
