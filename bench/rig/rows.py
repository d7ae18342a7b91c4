"""Keys, and ledger rows by the million: copies of one that the gateway wrote, over two months, with names spread as random ones are."""

import sqlite3
import time
from hashlib import sha256
from pathlib import Path

from sqlalchemy import insert

from ledger.database import open_engine
from ledger.schema import key_secrets, keys

DAYS = 60
STEP = 500_000  # rows in one transaction
LEFT_OUT = ("decision", "usage_raw")  # what makes a row large, and is read only when somebody looks at it


def add_rows(database: Path, first: int, last: int, most: int) -> None:
    """Rows number `first` to `last` of `most`. The names go through the whole range in order, so that new ones fall anywhere between them."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA synchronous = off")
    connection.execute("PRAGMA cache_size = -1000000")
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(attempts)")]
    template = connection.execute(f"SELECT {', '.join(columns)} FROM attempts WHERE status = 'completed' LIMIT 1").fetchone()
    if template is None:
        template = connection.execute(f"SELECT {', '.join(columns)} FROM attempts LIMIT 1").fetchone()
    spread, began_us = (1 << 62) // (last - first), (int(time.time()) - DAYS * 86_400) * 1_000_000
    made = {
        "request_id": f"printf('req_%016x%08x', (x - {first}) * {spread}, x)",
        "started_at_us": f"{began_us} + x * {DAYS * 86_400_000_000 // most - 1}",
    }
    told = [made.get(name, "NULL" if name in LEFT_OUT else "?") for name in columns]
    values = [value for name, value in zip(columns, template, strict=True) if name not in made and name not in LEFT_OUT]
    for start in range(first, last, STEP):
        connection.execute(
            f"WITH RECURSIVE n(x) AS (SELECT {start} UNION ALL SELECT x + 1 FROM n WHERE x + 1 < {min(last, start + STEP)}) "
            f"INSERT INTO attempts ({', '.join(columns)}) SELECT {', '.join(told)} FROM n",
            values,
        )
        connection.commit()
    connection.close()


def add_keys(database: Path, count: int) -> None:
    """So many keys made at run time, of the team that asks: a configuration may hold no more than 100,000 values."""
    engine = open_engine(f"sqlite:///{database}")
    made_at_us = int(time.time() * 1_000_000)
    with engine.begin() as connection:
        if not count:
            return
        own = {"team": "bench", "made_at_us": made_at_us, "made_by": "bench", "own": "{}"}
        connection.execute(insert(keys), [{"id": f"key_{n:08}", "name": f"key {n}", "last4": f"{n % 10_000:04}", **own} for n in range(count)])
        secrets = [{"digest": sha256(f"sk-made-{n}".encode()).digest(), "key_id": f"key_{n:08}"} for n in range(count)]
        connection.execute(insert(key_secrets), secrets)
    engine.dispose()
