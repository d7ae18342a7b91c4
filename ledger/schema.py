"""The ledger's tables. `attempts` is append-only; `schema_version` names the shape a database was made with.

Version 2 added `bindings` and `kept_answers`, version 3 what was predicted and decided, version 4 organisations and the cache, version 5
`admin_sessions`, version 6 `alerts`, version 7 keys made at run time, version 8 the policy, its SLO and roll-ups, version 9 what engines of ours did,
version 10 summaries of roll-ups, images and searches, version 11 what predictions came to in roll-ups, version 12 how long engines slept, version 15
what budgets are charged where a cost is not known, version 16 indexes of targets' roll-ups and of engines' minutes; an older database gets what it
lacks when it is opened.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    cast,
    delete,
    insert,
    inspect,
    literal,
    or_,
    select,
)
from sqlalchemy.schema import CreateColumn

VERSION = 16
UPGRADED = frozenset(range(1, VERSION))  # older versions that lack nothing but tables and columns

metadata = MetaData()


def _string(length: int) -> String:
    """The length is what is expected: SQLite holds nobody to it, and PostgreSQL must not refuse a row for a provider's long id."""
    return String(length).with_variant(Text(), "postgresql")


USAGE_CLASSES = (
    "input_uncached",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "output_visible",
    "reasoning",
    "audio_output",
    "image_output",
    "server_tool_calls",
    "web_searches",
    "file_searches",
)

attempts = Table(
    "attempts",
    metadata,
    Column("request_id", _string(64), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started_at_us", BigInteger, nullable=False),
    Column("team", _string(200), nullable=False),
    Column("key_id", _string(64), nullable=False),
    Column("endpoint", _string(64), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("model_asked", _string(500), nullable=False),
    Column("route", _string(500), nullable=False),
    Column("target", _string(200), nullable=False),
    Column("model_sent", _string(500), nullable=False),
    Column("status", _string(32), nullable=False),
    Column("reason", _string(100), nullable=False),
    Column("error_code", _string(100)),
    Column("http_status", Integer),
    Column("client_status", Integer),
    Column("queue_us", BigInteger),
    Column("connect_us", BigInteger),
    Column("headers_us", BigInteger),
    Column("first_token_us", BigInteger),
    Column("end_us", BigInteger),
    *(Column(name, BigInteger) for name in USAGE_CLASSES),
    Column("usage_source", _string(16)),
    Column("usage_raw", Text),
    Column("service_tier", _string(40)),
    Column("cost_nusd", BigInteger),
    Column("finish_reason", _string(32)),
    Column("native_finish_reason", _string(100)),
    Column("upstream_id", _string(200)),
    Column("bytes_request", BigInteger, nullable=False),
    Column("bytes_upstream", BigInteger, nullable=False),
    Column("bytes_client", BigInteger, nullable=False),
    Column("billed", _string(16), nullable=False, server_default="team"),
    Column("prompt_tokens_estimated", BigInteger),
    Column("predicted_ttft_us", BigInteger),
    Column("predicted_end_us", BigInteger),
    Column("predicted_end_p95_us", BigInteger),
    Column("predicted_output_tokens", BigInteger),
    Column("predicted_cost_nusd", BigInteger),
    Column("predicted_p_slo", Float),
    Column("organisation", _string(200), nullable=False, server_default=""),
    Column("cache", _string(16)),
    Column("saved_nusd", BigInteger),
    Column("policy", _string(200), nullable=False, server_default=""),
    Column("slo_met", Boolean),
    Column("overhead_us", BigInteger),
    Column("engine_prefill_us", BigInteger),
    Column("engine_decode_us", BigInteger),
    Column("engine_nusd", BigInteger),
    Column("held_nusd", BigInteger),
    Column("decision", Text),
    Index("attempts_by_time", "started_at_us"),
    Index("attempts_by_team", "team", "started_at_us"),
)

bindings = Table(
    "bindings",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("target", _string(700), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
)

kept_answers = Table(
    "kept_answers",
    metadata,
    Column("id", _string(200), primary_key=True),
    Column("team", _string(200), nullable=False),
    Column("model", _string(500), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
)

admin_sessions = Table(
    "admin_sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("issuer", _string(2000), nullable=False),
    Column("subject", _string(255), nullable=False),
    Column("name", _string(200), nullable=False),
    Column("roles", Text, nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("seen_at_us", BigInteger, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", _string(40), primary_key=True),
    Column("scope_kind", _string(16), nullable=False),
    Column("scope_name", _string(200), nullable=False),
    Column("window", _string(16), nullable=False),
    Column("start_s", BigInteger, nullable=False),
    Column("share", Float, nullable=False),
    Column("budget_nusd", BigInteger, nullable=False),
    Column("spent_nusd", BigInteger, nullable=False),
    Column("on_exhausted", _string(16), nullable=False),
    Column("seen_at_us", BigInteger, nullable=False),
    Column("claimed_at_us", BigInteger),
    Column("told_at_us", BigInteger),
)

keys = Table(
    "keys",
    metadata,
    Column("id", _string(64), primary_key=True),
    Column("name", _string(200), nullable=False),
    Column("team", _string(200), nullable=False),
    Column("last4", _string(4), nullable=False),
    Column("made_at_us", BigInteger, nullable=False),
    Column("made_by", _string(300), nullable=False),
    Column("expires_at_us", BigInteger),
    Column("revoked_at_us", BigInteger),
    Column("own", Text, nullable=False),
    Index("keys_by_team", "team"),
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", _string(64), nullable=False),
    Column("expires_at_us", BigInteger),
    Index("key_secrets_by_key", "key_id"),
)

tenancy_changes = Table(
    "tenancy_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("changes", BigInteger, nullable=False),
)


# Roll-ups (ledger/rollups.py): sums of `attempts` over one minute, hour or day of UTC. `span_s`: 60, 3,600 or 86,400.
def _span() -> tuple[Column[int], Column[int]]:
    return Column("span_s", Integer, nullable=False), Column("start_s", BigInteger, nullable=False)


USAGE_DIMENSIONS = ("organisation", "team", "key_id", "model_asked", "target", "model_sent", "policy", "status")
USAGE_MEASURES = (
    *("rows", "requests", "attempts", "estimated", "unpriced"),
    *USAGE_CLASSES,
    *("cost_nusd", "absorbed_nusd", "saved_nusd", "engine_us", "engine_nusd", "slo_met", "slo_missed", "unpriced_tokens", "held_nusd"),
)
usage_rollups = Table(
    "usage_rollups",
    metadata,
    *_span(),
    *(Column(name, _string(500), nullable=False) for name in USAGE_DIMENSIONS),
    *(Column(name, BigInteger) for name in USAGE_MEASURES),
    Index("usage_rollups_by_span", "span_s", "start_s"),
    Index("usage_rollups_by_team", "team", "span_s", "start_s"),
    Index("usage_rollups_by_target", "target", "span_s", "start_s"),
)

# `prompt`: which of contract.scale.PROMPTS; -1: not known. `counts`: ledger/histogram.py. `predictions`: ledger/predictions.py.
LATENCY_DIMENSIONS = ("team", "model_asked", "target", "model_sent", "policy", "prompt")
latency_rollups = Table(
    "latency_rollups",
    metadata,
    *_span(),
    *(Column(name, _string(500), nullable=False) for name in LATENCY_DIMENSIONS[:-1]),
    Column("prompt", Integer, nullable=False),
    Column("counts", LargeBinary, nullable=False),
    Column("predictions", LargeBinary),
    Index("latency_rollups_by_span", "span_s", "start_s"),
    Index("latency_rollups_by_team", "team", "span_s", "start_s"),
)

# Roll-ups of hours and days told apart by fewer dimensions, the others being "": `detail` is a place in ledger/summaries.py's lists.
usage_summaries = Table(
    "usage_summaries",
    metadata,
    Column("detail", Integer, nullable=False),
    *_span(),
    *(Column(name, _string(500), nullable=False) for name in USAGE_DIMENSIONS),
    *(Column(name, BigInteger) for name in (*USAGE_MEASURES, "failed")),
    Index("usage_summaries_by_span", "detail", "span_s", "start_s"),
)
latency_summaries = Table(
    "latency_summaries",
    metadata,
    Column("detail", Integer, nullable=False),
    *_span(),
    *(Column(name, _string(500), nullable=False) for name in LATENCY_DIMENSIONS[:-1]),
    Column("prompt", Integer, nullable=False),
    Column("counts", LargeBinary, nullable=False),
    Column("predictions", LargeBinary),
    Index("latency_summaries_by_span", "detail", "span_s", "start_s"),
)

# Spans whose roll-ups are not what their rows say any more; each transaction that changes rows adds entries of its own.
stale_spans = Table(
    "stale_spans",
    metadata,
    Column("id", _string(40), primary_key=True),
    *_span(),
)

# One row. `turn`: updated first by whoever changes roll-ups, so that one does at a time. `purged_s`: attempts from before were deleted.
rollup_state = Table(
    "rollup_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("turn", BigInteger, nullable=False),
    Column("purged_s", BigInteger, nullable=False),
)

# Owned engines' time, a row for each engine and minute or part of one; whoever looks after the engine writes it. `energy_mj`: of its GPUs.
# `asleep_us`: beside `up_us`; null in rows of a version before 12.
engine_minutes = Table(
    "engine_minutes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("engine", String(200), nullable=False),
    Column("ended_at_us", BigInteger, nullable=False),
    Column("up_us", BigInteger, nullable=False),
    Column("busy_us", BigInteger, nullable=False),
    Column("energy_mj", BigInteger),
    Column("nusd_per_hour", BigInteger),
    Column("asleep_us", BigInteger),
    Index("engine_minutes_by_time", "ended_at_us"),
    Index("engine_minutes_by_engine", "engine", "ended_at_us", "up_us", "busy_us", "energy_mj", "nusd_per_hour", "asleep_us"),  # all that is asked
)

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))


def make_tables(connection: Connection) -> None:
    """Makes the tables that are missing, and what tables of an older version lack: a column is null there, or has its default."""
    there = set(inspect(connection).get_table_names())
    metadata.create_all(connection)
    if rollup_state.name not in there:
        connection.execute(insert(rollup_state), {"id": 1, "turn": 0, "purged_s": 0})
        minute = attempts.c.started_at_us // 60_000_000 * 60
        written = select(cast(minute, String(40)), literal(60), minute).distinct()
        connection.execute(insert(stale_spans).from_select(["id", "span_s", "start_s"], written))
    elif usage_summaries.name not in there:  # those of hours and days are made anew from what there is of them
        connection.execute(delete(latency_rollups).where(latency_rollups.c.team == ""))  # of all teams together: a summary now
        span = (usage_rollups.c.span_s, usage_rollups.c.start_s)
        id = cast(span[0], String(20)) + "-" + cast(span[1], String(20))
        made = select(id, *span).where(span[0] != 60).distinct()
        connection.execute(insert(stale_spans).from_select(["id", "span_s", "start_s"], made))
    if latency_rollups.name in there and not _has(connection, latency_rollups, "predictions"):
        minute = attempts.c.started_at_us // 60_000_000 * 60
        predicted = or_(*(column.is_not(None) for column in attempts.c if column.name.startswith("predicted_")))
        made = select("predictions-" + cast(minute, String(40)), literal(60), minute).where(predicted).distinct()
        connection.execute(insert(stale_spans).from_select(["id", "span_s", "start_s"], made))
    if usage_rollups.name in there and not _has(connection, usage_rollups, "unpriced_tokens"):
        start = usage_rollups.c.start_s
        made = select("unpriced-" + cast(start, String(40)), literal(60), start).where(usage_rollups.c.span_s == 60, usage_rollups.c.unpriced > 0)
        connection.execute(insert(stale_spans).from_select(["id", "span_s", "start_s"], made.distinct()))
    for table in metadata.sorted_tables:
        if table.name in there:
            has = {column["name"] for column in inspect(connection).get_columns(table.name)}
            for column in table.columns:
                if column.name not in has:
                    definition = CreateColumn(column).compile(dialect=connection.dialect)
                    connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")
            indexed = {index["name"] for index in inspect(connection).get_indexes(table.name)}
            for index in table.indexes:
                if index.name not in indexed:
                    index.create(connection)


def _has(connection: Connection, table: Table, column: str) -> bool:
    return any(each["name"] == column for each in inspect(connection).get_columns(table.name))
