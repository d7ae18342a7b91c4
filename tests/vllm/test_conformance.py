"""vLLM held to what every owned engine is held to (tests/gateway/engine_conformance.py), and to what it alone can do, in each dialect."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway
from tests.gateway.engine_conformance import *  # noqa: F403
from tests.gateway.engine_conformance import STREAMED, Has, of
from tests.gateway.engine_dialects import Clients, Name, Wish
from tests.vllm.conftest import PATIENCE_S, engine_of

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
@of("chat", "responses", "completions")
async def test_an_adapter_is_asked_for_by_its_model_s_name(clients: Clients, dialect: Name, stream: bool) -> None:
    plain, tuned = [await clients.ask(dialect, stream, Wish(model=model, tokens=4, logprobs=True)) for model in ("local", "tuned")]
    assert plain.logprobs != tuned.logprobs and plain.prompt_tokens == tuned.prompt_tokens


async def test_tokens_are_a_prompt_as_its_text_is(clients: Clients, gateway: Gateway) -> None:
    asked: Any = {"model": "local", "prompt": "One, two, three,", "max_tokens": 5, "temperature": 0}
    told = await gateway.post({**asked, "return_token_ids": True}, path="/v1/completions")
    ids = told.json()["choices"][0]["prompt_token_ids"]
    again = await clients.openai.completions.create(**{**asked, "prompt": ids})
    assert again.choices[0].text == told.json()["choices"][0]["text"] and again.usage is not None and again.usage.prompt_tokens == len(ids)
    both = await clients.openai.completions.create(**{**asked, "prompt": [ids, ids]})
    assert [choice.text for choice in both.choices] == [again.choices[0].text] * 2


async def test_a_model_without_embeddings_says_so(clients: Clients) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await clients.openai.embeddings.create(model="local", input="x")
    assert refused.value.status_code in (400, 404)
