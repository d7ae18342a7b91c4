"""The ledger's rows as a Parquet or CSV file, written by DuckDB; no more of them in memory than a batch."""

import tempfile
from pathlib import Path

import msgspec
from sqlalchemy import BigInteger, Boolean, Engine, Float, Integer, select

from ledger.schema import attempts
from ledger.window import Window, matching

MOST_BYTES = 1 << 28  # of one row
FORMATS = {".parquet": "(FORMAT parquet, COMPRESSION zstd)", ".csv": "(FORMAT csv, HEADER)"}
_TYPES = ((BigInteger, "BIGINT"), (Integer, "INTEGER"), (Boolean, "BOOLEAN"), (Float, "DOUBLE"))


def export(engine: Engine, window: Window, file: Path) -> int:
    """How many attempts were written. Raises KeyError for an ending other than .parquet and .csv, OSError, SQLAlchemyError, duckdb.Error."""
    import duckdb

    encode_lines = msgspec.json.Encoder().encode_lines
    options, columns = FORMATS[file.suffix], list(attempts.columns)
    at, count = attempts.c.started_at_us, 0
    query = select(attempts).where(at >= window.from_us, at < window.to_us, *matching(window, attempts.c)).order_by(at)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        plain = Path(folder) / "rows.json"
        with plain.open("wb") as out, engine.connect() as connection:
            for rows in connection.execution_options(yield_per=5_000).execute(query).mappings().partitions():
                out.write(encode_lines([dict(row) for row in rows]))
                count += len(rows)
        types = {column.name: next((name for kind, name in _TYPES if isinstance(column.type, kind)), "VARCHAR") for column in columns}
        with duckdb.connect() as database:
            read = database.read_json(str(plain), columns=types, format="newline_delimited", maximum_object_size=MOST_BYTES)
            read.to_view("rows")
            database.execute(f"COPY (SELECT * FROM rows) TO '{str(file).replace(chr(39), chr(39) * 2)}' {options}")
    return count
