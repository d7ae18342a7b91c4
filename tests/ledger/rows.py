"""Rows to put into a ledger, and the one that holds them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Engine, delete

from contract.usage import Usage
from ledger.row import AttemptRow
from ledger.schema import metadata

STARTED_AT_US = 1_790_000_000_000_000


def row(request_id: str = "req_1", attempt: int = 1, **fields: Any) -> AttemptRow:
    """A plain good row; `fields` are what matters to a test."""
    plain = {
        "started_at_us": STARTED_AT_US,
        "team": "red",
        "key_id": "key_1",
        "endpoint": "chat.completions",
        "stream": False,
        "model_asked": "solo",
        "route": "solo",
        "target": "one",
        "model_sent": "gpt-5",
        "status": "ok",
        "reason": "first in order",
    }
    return AttemptRow(request_id=request_id, attempt=attempt, **{**plain, **fields})


FULL_USAGE = Usage(
    input_uncached=1,
    cache_read=2,
    cache_write_5m=3,
    cache_write_1h=4,
    audio_input=5,
    image_input=10,
    output_visible=6,
    reasoning=7,
    audio_output=8,
    image_output=11,
    server_tool_calls=9,
    web_searches=12,
    file_searches=13,
    source="estimated",
    raw=msgspec.Raw(b'{ "prompt_tokens":15,\n "note": "\xc3\xa9 \\u00e9", "prompt_tokens":15.0 }'),
    service_tier="priority",
)
FULL_ROW = row(
    "req_full",
    3,
    stream=True,
    status="cut",
    error_code="upstream_stream_truncated",
    http_status=200,
    client_status=200,
    queue_us=1,
    connect_us=2,
    headers_us=3,
    first_token_us=4,
    end_us=2**62,
    usage=FULL_USAGE,
    cost_nusd=2**62,
    finish_reason="stop",
    native_finish_reason="end_turn",
    upstream_id="chatcmpl-é-🚃-'; DROP TABLE attempts; --",
    bytes_request=10,
    bytes_upstream=20,
    bytes_client=30,
    billed="gateway",
    prompt_tokens_estimated=11,
    predicted_ttft_us=12,
    predicted_end_us=13,
    predicted_end_p95_us=14,
    predicted_output_tokens=15,
    predicted_cost_nusd=16,
    predicted_p_slo=0.9,
    decision=msgspec.Raw(b'{"policy":"interactive","candidates":[{"target":"one","p_ttft":null}]}'),
)


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


def emptied(engine: Engine) -> None:
    """As it was when it was made."""
    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            if table.name not in ("schema_version", "rollup_state"):
                connection.execute(delete(table))


@contextmanager
def without(engine: Engine, *tables: str) -> Iterator[None]:
    """A database that lacks tables for a while."""
    for old, new in ((tables, [f"{name}_away" for name in tables]), ([f"{name}_away" for name in tables], tables)):
        with engine.begin() as connection:
            for was, becomes in zip(old, new, strict=True):
                connection.exec_driver_sql(f"ALTER TABLE {was} RENAME TO {becomes}")
        if new is not tables:
            yield


def sql(file: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What another program sees in the file."""
    connection = sqlite3.connect(file)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()
