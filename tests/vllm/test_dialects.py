"""What the embedded engine is held to in every dialect, asked of vLLM: the same tests. Its own completions and embeddings are in test_answers."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway
from tests.gateway.test_engine_dialects import (
    test_a_conversation_goes_on_from_a_kept_response,
    test_a_message_is_made_whole_and_streamed,
    test_a_message_s_tokens_are_counted_by_the_engine,
    test_a_response_follows_a_schema,
    test_a_response_is_made_whole_and_streamed,
)
from tests.vllm.conftest import PATIENCE_S, engine_of

__all__ = [
    "test_a_conversation_goes_on_from_a_kept_response",
    "test_a_message_is_made_whole_and_streamed",
    "test_a_message_s_tokens_are_counted_by_the_engine",
    "test_a_response_follows_a_schema",
    "test_a_response_is_made_whole_and_streamed",
]
pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def anthropic(gateway: Gateway) -> AsyncIterator[AsyncAnthropic]:
    await engine_of(gateway).wait_ready(PATIENCE_S)
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        yield client
