"""What a ledger asks of its connections to PostgreSQL. Imported where there is one: psycopg takes a while to load."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import Connection
from psycopg.types.string import StrDumperUnknown

# A server that is gone without a word is noticed within 15 s; what the URL itself says goes before this.
OPTIONS: Mapping[str, Any] = {
    "connect_timeout": 5,
    "application_name": "turnout",
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
SESSION = "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = '60s'"


class _WithoutNul(StrDumperUnknown):
    """PostgreSQL's text has no NUL: a name that a client made up must not cost the row."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def prepare(connection: Connection[Any], _: Any) -> None:
    connection.adapters.register_dumper(str, _WithoutNul)
    connection.execute(SESSION)
    connection.commit()


def insert(cursor: Any, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], missing: bool) -> None:
    """By COPY, which is several times as fast as statements with values. `missing`: leaves out rows that are there already."""
    names, into = ", ".join(columns), table
    if missing:
        into = "arrivals"
        cursor.execute(f"CREATE TEMPORARY TABLE {into} (LIKE {table}) ON COMMIT DROP")
    with cursor.copy(f"COPY {into} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    if missing:
        cursor.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {into} ON CONFLICT DO NOTHING")
        cursor.execute(f"DROP TABLE {into}")
