"""Keys made at run time, in a real database: what is kept of them, what holds, and that every change is counted."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from sqlalchemy import select

from contract.errors import LedgerUnavailable
from ledger.database import open_engine
from ledger.keys import MAX_GRACE_S, PREFIX, Keys, Secret
from ledger.schema import key_secrets, keys, tenancy_changes
from tests.ledger.rows import emptied, without


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: str, clock: Clock) -> Iterator[Keys]:
    engine = open_engine(database)
    emptied(engine)
    yield Keys(engine, clock)
    engine.dispose()


def secrets(store: Keys) -> list[Secret]:
    found: list[Secret] = []
    store.snapshot(found.append)
    return found


def holding(store: Keys) -> dict[bytes, str]:
    return {secret.digest: secret.key_id for secret in secrets(store)}


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def test_a_secret_has_256_random_bits_behind_a_prefix_and_only_its_hash_is_kept(store: Keys) -> None:
    key, secret = store.make("red", "ci", "ada")
    other, another = store.make("red", "ci", "ada")
    assert secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 and secret != another and key.id != other.id
    assert key.last4 == secret[-4:] and key.id.startswith("key_") and len(key.id) == 20
    assert holding(store) == {digest(secret): key.id, digest(another): other.id}
    with store.engine.connect() as connection:
        kept = repr([connection.execute(select(table)).all() for table in (keys, key_secrets, tenancy_changes)])
    assert key.id in kept and secret[len(PREFIX) :] not in kept


def test_what_was_made_is_found_and_listed_in_its_order(store: Keys, clock: Clock) -> None:
    key, _ = store.make("red", "ci", "ada", '{"models":["solo"]}', 60)
    clock.now += 1
    blue, _ = store.make("blue", "", "tom")
    assert store.find(key.id) == key and store.find("key_0") is None
    assert (key.own, key.made_by, key.expires_at_us) == ('{"models":["solo"]}', "ada", key.made_at_us + 60_000_000)
    assert store.of() == [key, blue] and store.of("blue") == [blue] and store.of("green") == []


def test_a_revoked_key_holds_no_more_and_stays_listed(store: Keys) -> None:
    key, _ = store.make("red", "ci", "ada")
    revoked = store.revoke(key.id)
    assert revoked is not None and revoked.revoked_at_us is not None
    assert holding(store) == {} and store.of() == [revoked] and store.snapshot([].append).teams == {"red"}
    assert store.revoke(key.id) == revoked and store.revoke("key_0") is None
    assert store.rotate(key.id) is None


def test_an_expired_key_holds_no_more_and_cannot_be_rotated(store: Keys, clock: Clock) -> None:
    key, secret = store.make("red", "ci", "ada", expires_in_s=60)
    (kept,) = secrets(store)
    assert kept.digest == digest(secret) and kept.expires_at_us == key.expires_at_us
    clock.now += 60
    assert holding(store) == {} and store.rotate(key.id) is None


def test_a_rotated_key_keeps_its_id_and_its_old_secret_ends_at_once(store: Keys) -> None:
    key, old = store.make("red", "ci", "ada")
    done = store.rotate(key.id)
    assert done is not None and done[0].id == key.id and done[0].last4 == done[1][-4:]
    assert holding(store) == {digest(done[1]): key.id} and digest(old) not in holding(store)


def test_the_old_secret_holds_for_its_grace(store: Keys, clock: Clock) -> None:
    key, old = store.make("red", "ci", "ada")
    done = store.rotate(key.id, 3600)
    assert done is not None and set(holding(store)) == {digest(old), digest(done[1])}
    clock.now += 3600
    assert set(holding(store)) == {digest(done[1])}


def test_a_second_rotation_never_lengthens_a_grace(store: Keys, clock: Clock) -> None:
    key, first = store.make("red", "ci", "ada", expires_in_s=10 * MAX_GRACE_S)
    second = store.rotate(key.id, 60)
    clock.now += 30
    third = store.rotate(key.id, 100 * MAX_GRACE_S)
    assert second is not None and third is not None
    ends = {secret.digest: secret.expires_at_us for secret in secrets(store)}
    assert ends[digest(first)] == (clock.now + 30) * 1e6
    assert ends[digest(second[1])] == (clock.now + MAX_GRACE_S) * 1e6
    assert ends[digest(third[1])] == key.expires_at_us


def test_a_secret_s_grace_ends_with_its_key(store: Keys, clock: Clock) -> None:
    key, _ = store.make("red", "ci", "ada", expires_in_s=60)
    store.rotate(key.id, 3600)
    assert {secret.expires_at_us for secret in secrets(store)} == {key.expires_at_us}
    clock.now += 61
    assert holding(store) == {}


def test_every_change_is_counted_and_a_refusal_is_none(store: Keys) -> None:
    assert store.changes() == 0
    key, _ = store.make("red", "ci", "ada")
    store.rotate(key.id)
    store.revoke(key.id)
    assert store.changes() == store.snapshot([].append).changes == 3
    store.revoke(key.id), store.rotate(key.id), store.revoke("key_0")
    assert store.changes() == 3


def test_another_process_sees_the_change_and_its_count(store: Keys, database: str) -> None:
    engine = open_engine(database)
    other = Keys(engine)
    key, secret = store.make("red", "ci", "ada")
    assert other.changes() == 1 and holding(other) == {digest(secret): key.id}
    engine.dispose()


def test_a_database_that_fails_is_told_as_such(store: Keys) -> None:
    with without(store.engine, "keys"):
        with pytest.raises(LedgerUnavailable):
            secrets(store)
        with pytest.raises(LedgerUnavailable):
            store.make("red", "ci", "ada")


def test_what_fails_halfway_changes_nothing(store: Keys) -> None:
    key, secret = store.make("red", "ci", "ada")
    with without(store.engine, "tenancy_changes"):
        for write in (store.rotate, store.revoke):
            with pytest.raises(LedgerUnavailable):
                write(key.id)
    assert store.of() == [key] and key.last4 == secret[-4:] and holding(store) == {digest(secret): key.id}
