"""Databases of either kind, each new: what holds in the one holds in the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.schema import bring_up
from batch.store import Store
from ledger.database import open_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/turnout.db" if request.param == "sqlite" else request.getfixturevalue("postgres").database()
    engine = open_engine(url)
    bring_up(engine)
    yield Store(engine)
    engine.dispose()
