"""One world after the other for each test that takes `world`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.conftest import pytest_asyncio_loop_factories
from tests.providers.batch.worlds import SERVERS, World, world_of

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture(params=SERVERS)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(request.param, tmp_path) as world:
        yield world
