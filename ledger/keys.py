"""Keys made at run time, in the ledger's database: every process over it follows one counter, and so knows of each within a moment.

A secret is 256 random bits behind a prefix. Whoever makes it sees it once; the database has its SHA-256. A key keeps its id when its secret
is changed, so what it spent and where its limits stand go on.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from secrets import token_hex, token_urlsafe
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, delete, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import LedgerUnavailable
from ledger.database import upsert
from ledger.schema import key_secrets, keys, tenancy_changes

PREFIX = "sk-turnout-"
MAX_GRACE_S = 7 * 86_400
ONLY_ROW = 1
AT_ONCE = 2_000  # rows in memory

T = TypeVar("T")


class MadeKey(msgspec.Struct, frozen=True):
    """A key as the database has it. Times are microseconds of Unix time. `own`: what it may by itself, as JSON that nothing here reads."""

    id: str
    name: str
    team: str
    last4: str
    made_at_us: int
    made_by: str
    expires_at_us: int | None
    revoked_at_us: int | None
    own: str

    def holds(self, now_us: int) -> bool:
        return self.revoked_at_us is None and (self.expires_at_us is None or now_us < self.expires_at_us)


class Secret(NamedTuple):
    """The SHA-256 of a secret that holds, whose it is, and until when: the sooner of its own end and its key's. `own`: as of `MadeKey`."""

    digest: bytes
    key_id: str
    team: str
    own: str
    expires_at_us: int | None


class Snapshot(msgspec.Struct, frozen=True):
    """A count of changes, and every team that ever had a key until then."""

    changes: int
    teams: frozenset[str]


class Keys:
    """Each call takes one transaction: make it in a thread. Every method raises LedgerUnavailable. `now`: Unix seconds."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.time) -> None:
        self.engine = engine
        self._now = now

    def make(self, team: str, name: str, made_by: str, own: str = "{}", expires_in_s: float | None = None) -> tuple[MadeKey, str]:
        """A new key and its secret, which nobody can be told again."""
        secret, now_us = _new_secret(), self.now_us()
        expires_at_us = None if expires_in_s is None else now_us + int(expires_in_s * 1_000_000)
        key = MadeKey(f"key_{token_hex(8)}", name, team, secret[-4:], now_us, made_by[:300], expires_at_us, None, own)

        def write(connection: Connection) -> None:
            connection.execute(insert(keys), msgspec.structs.asdict(key))
            _keep(connection, secret, key.id)
            _changed(connection)

        self._run(write)
        return key, secret

    def rotate(self, id: str, grace_s: float = 0) -> tuple[MadeKey, str] | None:
        """The key with a new secret; those before it hold for `grace_s` more. None: there is no such key, or it is over."""
        secret, now_us = _new_secret(), self.now_us()
        last_us = now_us + int(min(grace_s, MAX_GRACE_S) * 1_000_000)
        holds = (keys.c.id == id, keys.c.revoked_at_us.is_(None), or_(keys.c.expires_at_us.is_(None), keys.c.expires_at_us > now_us))
        of_key = key_secrets.c.key_id == id
        lasts = or_(key_secrets.c.expires_at_us.is_(None), key_secrets.c.expires_at_us > last_us)

        def write(connection: Connection) -> MadeKey | None:
            if not connection.execute(update(keys).where(*holds), {"last4": secret[-4:]}).rowcount:
                return None
            connection.execute(update(key_secrets).where(of_key, lasts), {"expires_at_us": last_us})
            connection.execute(delete(key_secrets).where(of_key, key_secrets.c.expires_at_us <= now_us))
            _keep(connection, secret, id)
            _changed(connection)
            return _one(connection, id)

        key = self._run(write)
        return None if key is None else (key, secret)

    def revoke(self, id: str) -> MadeKey | None:
        """The key, which holds no more. None: there is no such key. Idempotent."""
        now_us = self.now_us()

        def write(connection: Connection) -> MadeKey | None:
            revoked = update(keys).where(keys.c.id == id, keys.c.revoked_at_us.is_(None))
            if connection.execute(revoked, {"revoked_at_us": now_us}).rowcount:
                connection.execute(delete(key_secrets).where(key_secrets.c.key_id == id))
                _changed(connection)
            return _one(connection, id)

        return self._run(write)

    def find(self, id: str) -> MadeKey | None:
        return self._run(lambda connection: _one(connection, id))

    def of(self, team: str | None = None) -> list[MadeKey]:
        """Every key that was ever made, the oldest first; `team`: of that one alone."""
        query = select(keys).order_by(keys.c.made_at_us, keys.c.id)
        if team is not None:
            query = query.where(keys.c.team == team)
        return self._run(lambda connection: [_key(row) for row in connection.execute(query).mappings()])

    def changes(self) -> int:
        """Grows with every change of a key; 0: there was none yet."""
        return self._run(_count)

    def snapshot(self, take: Callable[[Secret], None]) -> Snapshot:
        """Every secret that holds is given to `take`, one by one, for there may be many.

        The count is read before the rows: a change in between is found again by the next look.
        """
        now_us = self.now_us()
        columns = (key_secrets.c.digest, keys.c.id, keys.c.team, keys.c.own, keys.c.expires_at_us, key_secrets.c.expires_at_us.label("ends_at_us"))
        query = select(*columns).join(key_secrets, key_secrets.c.key_id == keys.c.id).where(keys.c.revoked_at_us.is_(None))

        def read(connection: Connection) -> Snapshot:
            changes = _count(connection)
            for rows in connection.execution_options(yield_per=AT_ONCE).execute(query).partitions():
                for digest, key_id, team, own, ends, ends_too in rows:
                    if ends is None or (ends_too is not None and ends_too < ends):
                        ends = ends_too
                    if ends is None or now_us < ends:
                        take(Secret(digest, key_id, team, own, ends))
            return Snapshot(changes, frozenset(connection.execute(select(keys.c.team).distinct()).scalars()))

        return self._run(read)

    def now_us(self) -> int:
        return int(self._now() * 1_000_000)

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            with self.engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as exc:
            raise LedgerUnavailable("keys cannot be read or written just now; try again") from exc


def digest_of(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _new_secret() -> str:
    return PREFIX + token_urlsafe(32)


def _keep(connection: Connection, secret: str, id: str) -> None:
    connection.execute(insert(key_secrets), {"digest": digest_of(secret), "key_id": id, "expires_at_us": None})


def _changed(connection: Connection) -> None:
    """In the transaction of the change itself, so that nobody sees the one without the other."""
    first = upsert(connection, tenancy_changes).values(id=ONLY_ROW, changes=1)
    connection.execute(first.on_conflict_do_update(index_elements=["id"], set_={"changes": tenancy_changes.c.changes + 1}))


def _count(connection: Connection) -> int:
    return connection.execute(select(tenancy_changes.c.changes)).scalar() or 0


def _one(connection: Connection, id: str) -> MadeKey | None:
    row = connection.execute(select(keys).where(keys.c.id == id)).mappings().one_or_none()
    return None if row is None else _key(row)


def _key(row: RowMapping) -> MadeKey:
    values: dict[str, Any] = {name: row[name] for name in MadeKey.__struct_fields__}
    return MadeKey(**values)
