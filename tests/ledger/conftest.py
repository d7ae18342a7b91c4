"""Databases of either kind: what holds in the one holds in the other."""

import pytest

from tests.ledger.rows import url_of


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a new one for the module's tests; each of them empties it (rows.emptied)."""
    if request.param == "sqlite":
        return url_of(tmp_path_factory.mktemp("ledger") / "turnout.db")
    url: str = request.getfixturevalue("postgres").database()
    return url
