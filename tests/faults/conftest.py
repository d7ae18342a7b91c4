"""The gateway's own fixtures serve here too."""

from tests.gateway.conftest import one, pytest_asyncio_loop_factories, two

__all__ = ["one", "pytest_asyncio_loop_factories", "two"]
