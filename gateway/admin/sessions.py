"""Who is signed in: sessions in the ledger's database, so that every process over it knows them and a logout ends them in all.

A session's id is 256 random bits that only its browser has; the database has its SHA-256. No token of the provider is kept.
"""

import hmac
import time
from collections.abc import Callable
from hashlib import sha256
from secrets import token_urlsafe
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Engine, delete, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError

from contract.errors import LedgerUnavailable
from ledger.schema import admin_sessions

IDLE_S = 30 * 60
ABSOLUTE_S = 8 * 3600
SEEN_S = 60  # how exactly it is known when a session was last used

T = TypeVar("T")
table = admin_sessions


class Session(msgspec.Struct, frozen=True):
    """`values`: of the provider's roles claim at sign-in; what they are worth is asked of the configuration at each use."""

    subject: str
    name: str
    values: tuple[str, ...]


class Sessions:
    """Each call takes one transaction: make it in a thread. Every method raises LedgerUnavailable. `now`: Unix seconds."""

    def __init__(self, engine: Engine, issuer: str, now: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._issuer = issuer
        self._now = now

    def make(self, session: Session) -> str:
        """A new session's id. Sessions that are over are forgotten."""
        id, now_us = token_urlsafe(32), self._now_us()
        row = {
            "digest": _digest(id),
            "issuer": self._issuer,
            "subject": session.subject[:255],
            "name": session.name[:200],
            "roles": msgspec.json.encode(session.values).decode(),
            "made_at_us": now_us,
            "seen_at_us": now_us,
        }
        over = or_(table.c.made_at_us <= now_us - ABSOLUTE_S * 1_000_000, table.c.seen_at_us <= now_us - IDLE_S * 1_000_000)

        def write(connection: Connection) -> None:
            connection.execute(delete(table).where(over))
            connection.execute(insert(table), row)

        self._run(write)
        return id

    def find(self, id: str) -> Session | None:
        """The session, if it is not over; its idle time begins anew."""
        now_us, digest = self._now_us(), _digest(id)

        def read(connection: Connection) -> Session | None:
            holds = (
                table.c.digest == digest,
                table.c.issuer == self._issuer,
                table.c.made_at_us > now_us - ABSOLUTE_S * 1_000_000,
                table.c.seen_at_us > now_us - IDLE_S * 1_000_000,
            )
            row = connection.execute(select(table).where(*holds)).one_or_none()
            if row is None:
                return None
            if now_us - row.seen_at_us > SEEN_S * 1_000_000:
                connection.execute(update(table).where(table.c.digest == digest), {"seen_at_us": now_us})
            return Session(row.subject, row.name, msgspec.json.decode(row.roles, type=tuple[str, ...]))

        return self._run(read)

    def end(self, id: str) -> None:
        """At once, for every process. Idempotent."""
        self._run(lambda connection: connection.execute(delete(table).where(table.c.digest == _digest(id))))

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as exc:
            raise LedgerUnavailable("sessions cannot be read or written just now; try again, or use the admin key") from exc

    def _now_us(self) -> int:
        return int(self._now() * 1_000_000)


def csrf_of(id: str) -> str:
    """What a page of ours sends along with a write, and a page of another site cannot know."""
    return hmac.new(id.encode(), b"turnout csrf", sha256).hexdigest()


def _digest(id: str) -> bytes:
    return sha256(id.encode()).digest()
