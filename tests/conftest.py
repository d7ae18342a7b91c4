"""For all tests: the one PostgreSQL of a session, and a garbage collector that does not walk what was collected again and again."""

import gc
from collections.abc import Iterator

import pytest

from tests.postgres_server import PostgresServer


def pytest_configure() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Started by the first test that wants one."""
    server = PostgresServer().start()
    yield server
    server.end()
