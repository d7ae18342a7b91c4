"""The embedded engine with its model, held to what every owned engine is held to (engine_conformance.py)."""

from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic

from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.engine_conformance import *  # noqa: F403
from tests.gateway.engine_conformance import Has
from tests.gateway.engine_dialects import Clients
from tests.gateway.test_engine_dialects import CONFIG

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def has() -> Has:
    return frozenset()  # its model has no place for tools in its template


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clients]:
    folder = tmp_path_factory.mktemp("conformance")
    async with running(CONFIG.format(folder=folder, key=KEY), folder) as gateway, anthropic_of(gateway) as client:
        yield Clients(gateway.sdk, client)


def anthropic_of(gateway: Gateway) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0)


async def test_it_makes_no_embeddings_and_says_so(clients: Clients) -> None:
    with pytest.raises(openai.BadRequestError, match="/embeddings"):
        await clients.openai.embeddings.create(model="local", input="x")
