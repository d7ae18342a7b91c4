"""Ledger rows by the million: copies of one that the gateway wrote, over two months, with names spread as random ones are."""

import sqlite3
import time
from pathlib import Path

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
