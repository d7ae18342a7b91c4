"""Many keys in the database: what each stands for, and that the next look keeps what it knew."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from contract.errors import AuthenticationFailed
from gateway.auth import KeyTable
from gateway.key_watch import KeyWatch
from ledger.database import open_engine
from ledger.keys import AT_ONCE, Keys, digest_of
from ledger.schema import key_secrets, keys
from tests.config.files import loaded

CONFIG = b"""
providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:1/v1", api_key: k}}
models: {m: {targets: [{provider: one, model: m}]}}
teams:
  search: {limits: {rpm: 60}, keys: [sk-file]}
  other: {}
"""
MANY = AT_ONCE + 500
OWN = {0: "{}", 1: '{"limits":{"rpm":7}}', 2: '{"max_tokens_per_request":9}', 3: "no JSON"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Keys]:
    engine = open_engine(f"sqlite:///{tmp_path}/turnout.db")
    yield Keys(engine)
    engine.dispose()


@pytest.fixture
def table() -> KeyTable:
    return KeyTable([])


@pytest.fixture
def watch(tmp_path: Path, store: Keys, table: KeyTable) -> KeyWatch:
    store.make("other", "first", "ada")
    made = {"made_at_us": 1, "made_by": "ada", "last4": "xxxx", "name": ""}
    with store.engine.begin() as connection:
        connection.execute(insert(keys), [{"id": f"key_{n}", "team": "search", "own": OWN[n % 4], **made} for n in range(MANY)])
        connection.execute(insert(key_secrets), [{"digest": digest_of(f"sk-{n}"), "key_id": f"key_{n}"} for n in range(MANY)])
    return KeyWatch(store, table, loaded(tmp_path, CONFIG).settings, {})


async def test_each_key_stands_for_its_team_with_what_is_its_own(watch: KeyWatch, table: KeyTable) -> None:
    await watch.look()
    found = [table.principal([(b"x-api-key", f"sk-{n}".encode())]) for n in (4, 1, 5, MANY - 2)]
    assert [(each.team, each.key_id) for each in found] == [("search", f"key_{n}") for n in (4, 1, 5, MANY - 2)]
    assert [[(scope.kind, scope.name, scope.limits.rpm) for scope in each.scopes] for each in found] == [
        [("team", "search", 60)],
        [("team", "search", 60), ("key", "key_1", 7)],
        [("team", "search", 60), ("key", "key_5", 7)],
        [("team", "search", 60)],
    ]
    assert [each.max_tokens for each in found] == [None, None, None, 9]
    assert table.of_id("key_5") is found[2] and table.of_id("key_3") is None
    with pytest.raises(AuthenticationFailed):
        table.principal([(b"x-api-key", b"sk-3")])


async def test_a_change_of_one_key_leaves_the_others_as_they_were(watch: KeyWatch, table: KeyTable, store: Keys) -> None:
    await watch.look()
    before = table.of_id("key_4")
    _, secret = store.make("other", "new", "ada", expires_in_s=60)
    store.revoke("key_8")
    await watch.look()
    assert table.of_id("key_4") is before is not None and table.of_id("key_8") is None
    assert table.principal([(b"x-api-key", secret.encode())]).expires_at is not None
