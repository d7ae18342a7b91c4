"""Taken out, priced anew, and held against a provider's own count: the real command, a real file."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from contract.usage import Usage
from ledger.database import open_engine
from ledger.reconciling import read
from ledger.rollups import roll_up
from ledger.upkeep import purge
from tests import command
from tests.ledger.rows import FULL_ROW, row, sql
from tests.ledger.test_commands import ago, fill

DAY_S = 86_400
TODAY = 1_790_000_000 // DAY_S * DAY_S
AT_US = (TODAY + 3_600) * 10**6
CACHED = Usage(input_uncached=1_000, cache_read=500, cache_write_5m=200, cache_write_1h=100, output_visible=50, reasoning=25)
CONFIG = """
providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}, openai: {kind: openai, api_key: k}}
models:
  solo: {targets: [{provider: one, model: gpt-5, price: {input_usd_per_mtok: 2, output_usd_per_mtok: 4}}]}
  "oai/*": {targets: [{provider: openai, model: "*"}]}
state: {database: "sqlite:///some.db"}
"""
Turnout = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def turnout(tmp_path: Path) -> Turnout:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = command.turnout(*arguments, cwd=tmp_path)
        assert done.returncode == code and "Traceback" not in done.stderr, (done.stdout, done.stderr)
        return done

    return call


# --- export ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["rows.parquet", "it's.csv"])
def test_an_export_holds_every_row_as_it_is_in_the_ledger(turnout: Turnout, tmp_path: Path, name: str) -> None:
    odd = row("req_odd", started_at_us=ago(5), model_asked='a "b", \\N\n模型', error_code="")
    url = fill(
        tmp_path / "some.db", odd, row("req_b", started_at_us=ago(4), usage=CACHED, cost_nusd=2**62), row("req_c", started_at_us=ago(3), team="blue")
    )
    assert turnout("export", name, "--database", url, "--team", "red").stdout == f"2 attempts written to {name}\n"
    first, second = duckdb.read_parquet(str(tmp_path / name)).fetchall() if name.endswith("t") else duckdb.read_csv(str(tmp_path / name)).fetchall()
    expected = sql(tmp_path / "some.db", "SELECT request_id, cost_nusd, model_asked FROM attempts WHERE team = 'red' ORDER BY started_at_us")
    columns = [column for (_, column, *_) in sql(tmp_path / "some.db", "PRAGMA table_info(attempts)")]
    at = [columns.index(column) for column in ("request_id", "cost_nusd", "model_asked")]
    assert [tuple(found[place] for place in at) for found in (first, second)] == expected
    assert second[columns.index("cache_read")] == 500 and first[columns.index("cache_read")] is None


def test_an_export_into_another_kind_of_file_exits_2(turnout: Turnout) -> None:
    assert ".parquet or .csv" in turnout("export", "rows.xlsx", code=2).stderr


# --- reprice ---------------------------------------------------------------------------------------------------------------
def test_history_is_priced_anew_and_its_sums_follow(turnout: Turnout, tmp_path: Path) -> None:
    known = Usage(input_uncached=1_000_000, output_visible=1_000_000)
    fill(
        tmp_path / "some.db",
        row("req_a", started_at_us=ago(7_000), usage=known, cost_nusd=1),
        row("req_b", started_at_us=ago(7_000), usage=known),
        row("req_c", started_at_us=ago(7_000), status="failed"),
        row("req_d", started_at_us=ago(7_000), route="oai/*", target="openai", model_sent="gpt-5", usage=known),
        row("req_e", started_at_us=ago(7_000), target="gone", usage=known, cost_nusd=77),
    )
    (tmp_path / "c.yaml").write_text(CONFIG)
    before = turnout("spend", "--json", "--config", "c.yaml").stdout
    planned = json.loads(turnout("reprice", "--dry-run", "--json", "--config", "c.yaml").stdout)
    assert turnout("spend", "--json", "--config", "c.yaml").stdout == before
    assert json.loads(turnout("reprice", "--json", "--config", "c.yaml").stdout) == planned
    assert {line["target"]: (line["rows"], line["changed"], line["unknown"]) for line in planned} == {
        "one/gpt-5": (2, 2, 0),
        "openai/gpt-5": (1, 1, 0),
        "gone/gpt-5": (1, 0, 1),
    }
    *_, total = turnout("reprice", "--dry-run", "--config", "c.yaml").stdout.splitlines()
    assert total.split() == ["(total)", "4", "0", "1", "23.250000077", "23.250000077"]
    (found,) = json.loads(turnout("spend", "--json", "--config", "c.yaml").stdout)
    assert found["cost_nusd"] == 2 * 6_000_000_000 + 11_250_000_000 + 77 and found["unpriced"] == 0


def test_days_whose_rows_were_deleted_are_said_to_keep_their_prices(turnout: Turnout, tmp_path: Path) -> None:
    used = Usage(input_uncached=1_000_000)
    rows = [row(f"req_{days}", started_at_us=ago(days * DAY_S), usage=used, cost_nusd=1) for days in (5, 0)]
    engine = open_engine(fill(tmp_path / "some.db", *rows))
    roll_up(engine, time.time() + 120)
    (tmp_path / "c.yaml").write_text(CONFIG)
    assert turnout("reprice", "--dry-run", "--config", "c.yaml").stderr == ""
    assert purge(engine, 2, time.time()) == 1
    engine.dispose()
    done = turnout("reprice", "--json", "--config", "c.yaml")
    assert "were deleted (ledger.retention_days): their sums keep their prices" in done.stderr
    assert [line["rows"] for line in json.loads(done.stdout)] == [1]
    assert turnout("reprice", "--since", "24h", "--config", "c.yaml").stderr == ""
    (found,) = json.loads(turnout("spend", "--since", "30d", "--json", "--config", "c.yaml").stdout)
    assert found["cost_nusd"] == 1 + 2_000_000_000


# --- reconcile -------------------------------------------------------------------------------------------------------------
OPENAI = {"input_tokens": 1_500, "input_cached_tokens": 500, "output_tokens": 75, "num_model_requests": 1, "model": "gpt-5"}
ANTHROPIC = {
    "uncached_input_tokens": 1_000,
    "cache_read_input_tokens": 500,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 75,
    "model": "gpt-5",
}
NOTHING = dict.fromkeys(OPENAI, 0) | {"model": "gpt-5"}
DATE = "2026-09-21"
EXPORTS: dict[str, Any] = {
    "OpenAI's usage": {"data": [{"object": "bucket", "start_time": TODAY, "end_time": TODAY + DAY_S, "results": [OPENAI]}]},
    "OpenAI's usage by key": {"data": [{"start_time": TODAY, "end_time": TODAY + DAY_S, "results": [OPENAI | {"project": "a"}, NOTHING]}]},
    "Anthropic's usage": {"data": [{"starting_at": f"{DATE}T00:00:00Z", "ending_at": "2026-09-22T00:00:00Z", "results": [ANTHROPIC]}]},
    "OpenAI's costs": [{"data": [{"start_time": TODAY, "end_time": TODAY + DAY_S, "results": [{"amount": {"value": 0.0123, "currency": "usd"}}]}]}],
    "Anthropic's costs": {"data": [{"starting_at": f"{DATE}T00:00:00Z", "results": [{"amount": "1.23", "currency": "USD", "model": "gpt-5"}]}]},
    "CSV of OpenAI": f"start_time,model,input_tokens,input_cached_tokens,output_tokens\n{TODAY},gpt-5,1500,500,75\n",
    "CSV of Anthropic": "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_read,usage_output_tokens\n"
    f"{DATE},gpt-5,1000,500,75\n",
}


@pytest.fixture
def url(tmp_path: Path) -> str:
    other = row("req_b", started_at_us=AT_US - DAY_S * 10**6, usage=CACHED, cost_nusd=1)
    return fill(tmp_path / "some.db", row("req_a", started_at_us=AT_US, usage=CACHED, cost_nusd=12_300_000), other)


def text_of(export: Any) -> str:
    return export if isinstance(export, str) else json.dumps(export)


@pytest.mark.parametrize("export", EXPORTS.values(), ids=EXPORTS)
def test_an_export_that_says_what_the_ledger_says_agrees(turnout: Turnout, tmp_path: Path, url: str, export: Any) -> None:
    (tmp_path / "export").write_text(text_of(export))
    assert "agrees" in turnout("reconcile", "export", "--provider", "one", "--database", url).stdout


def test_what_differs_is_told_row_by_row_and_exits_1(turnout: Turnout, tmp_path: Path, url: str) -> None:
    more = text_of(EXPORTS["OpenAI's usage"]).replace("1500", "1600").replace('"gpt-5"}', '"gpt-5"}, {"model": "gpt-4o", "output_tokens": 3}')
    (tmp_path / "export.json").write_text(more)
    lines = json.loads(turnout("reconcile", "export.json", "--provider", "one", "--database", url, "--json", code=1).stdout)
    assert [(line["told"]["model"], line["differences"]) for line in lines] == [("gpt-4o", {"output": -3}), ("gpt-5", {"input_uncached": -100})]


def reconciled(turnout: Turnout, tmp_path: Path, url: str, *buckets: Any) -> list[Any]:
    (tmp_path / "export.json").write_text(json.dumps({"data": buckets}))
    return [
        (line["told"]["from_s"], line["told"]["model"], line["only_ours"], line["differences"])
        for line in json.loads(turnout("reconcile", "export.json", "--provider", "one", "--database", url, "--json", code=1).stdout)
    ]


def bucket(start_s: int, *results: Any) -> dict[str, Any]:
    return {"start_time": start_s, "end_time": start_s + DAY_S, "results": results}


def test_a_model_whose_requests_alone_are_known_is_told_too(turnout: Turnout, tmp_path: Path) -> None:
    rows = [row("req_a", started_at_us=AT_US, usage=CACHED), row("req_b", model_sent="picture", started_at_us=AT_US)]
    found = reconciled(turnout, tmp_path, fill(tmp_path / "some.db", *rows), bucket(TODAY, OPENAI))
    assert found == [(TODAY, "gpt-5", False, {}), (TODAY, "picture", True, {"requests": 1})]


def test_what_the_ledger_alone_has_is_told_of_the_export_s_time_and_of_no_other(turnout: Turnout, tmp_path: Path) -> None:
    rows = [
        row(f"req_{n}_{model}", model_sent=model, started_at_us=AT_US + n * DAY_S * 10**6, usage=CACHED)
        for n, model in ((-1, "gpt-5"), (0, "gpt-5"), (0, "gpt-4o"), (1, "gpt-5"), (2, "gpt-5"), (4, "gpt-5"))
    ]
    failed = row("failed", model_sent="o3", status="failed", started_at_us=AT_US)
    url = fill(tmp_path / "some.db", *rows, failed)
    ours = {"input_uncached": 1_000, "cache_read": 500, "cache_write_5m": 200, "cache_write_1h": 100, "output": 75, "requests": 1}
    found = reconciled(turnout, tmp_path, url, bucket(TODAY, OPENAI), bucket(TODAY + DAY_S), bucket(TODAY + 3 * DAY_S, OPENAI | {"output_tokens": 0}))
    assert found == [
        (TODAY, "gpt-5", False, {}),
        (TODAY, "gpt-4o", True, ours),
        (TODAY + DAY_S, "gpt-5", True, ours),
        (TODAY + 2 * DAY_S, "gpt-5", True, ours),
        (TODAY + 3 * DAY_S, "gpt-5", False, {"input_uncached": -1_000, "cache_read": -500, "requests": -1}),
    ]


def test_audio_and_images_are_of_the_input_and_the_output_that_openai_tells(turnout: Turnout, tmp_path: Path) -> None:
    heard = Usage(input_uncached=100, cache_read=20, audio_input=30, image_input=4, output_visible=10, reasoning=5, audio_output=40, image_output=2)
    url = fill(tmp_path / "some.db", row("req_a", model_sent="gpt-audio", started_at_us=AT_US, usage=heard))
    told = {"model": "gpt-audio", "input_tokens": 154, "input_cached_tokens": 20, "output_tokens": 57, "num_model_requests": 1}
    spoken = {**told, "input_audio_tokens": 30, "output_audio_tokens": 40}
    (tmp_path / "export").write_text(json.dumps({"data": [bucket(TODAY, spoken)]}))
    assert "agrees" in turnout("reconcile", "export", "--provider", "one", "--database", url).stdout
    found = reconciled(turnout, tmp_path, url, bucket(TODAY, {**spoken, "output_audio_tokens": 41, "input_tokens": 155}))
    assert found == [(TODAY, "gpt-audio", False, {"input_uncached": -1, "audio_output": -1})]


def test_attempts_that_failed_are_no_requests_of_a_provider(turnout: Turnout, tmp_path: Path) -> None:
    failed = [row("req_a", n, model_sent="gpt-5", status="failed", http_status=500, started_at_us=AT_US) for n in (1, 2, 3)]
    url = fill(tmp_path / "some.db", *failed, row("req_a", 4, model_sent="gpt-5", started_at_us=AT_US, usage=CACHED))
    (tmp_path / "export").write_text(json.dumps({"data": [bucket(TODAY, OPENAI)]}))
    assert "agrees" in turnout("reconcile", "export", "--provider", "one", "--database", url).stdout


def test_a_dated_name_is_its_alias_s_model(turnout: Turnout, tmp_path: Path) -> None:
    models = ("o3", "gpt-4o", "gpt-4o-2024-08-06", "claude-a-20250929", "claude-a-20251001", "old")
    url = fill(tmp_path / "some.db", *(row(model, model_sent=model, started_at_us=AT_US, usage=CACHED) for model in models))
    names = ("o3-2025-04-16", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "claude-a-20250929", "claude-a-20251001")
    found = reconciled(turnout, tmp_path, url, bucket(TODAY, *(OPENAI | {"model": name} for name in names)))
    assert [(model, only, differences) for _, model, only, differences in found[:-1]] == [
        ("claude-a-20250929", False, {}),
        ("claude-a-20251001", False, {}),
        ("gpt-4o-2024-08-06 + gpt-4o-2024-11-20", False, {}),
        ("o3-2025-04-16", False, {}),
    ]
    assert found[-1][1:3] == ("old", True)


@pytest.mark.parametrize(
    ("command", "option"),
    [(["reconcile", "export", "--provider"], "--provider"), (["export", "x.csv", "--team"], "--team"), (["spend", "--team"], "--team")],
)
def test_a_name_that_nobody_knows_is_an_error(turnout: Turnout, tmp_path: Path, url: str, command: list[str], option: str) -> None:
    (tmp_path / "export").write_text(text_of(EXPORTS["OpenAI's usage"]))
    (tmp_path / "c.yaml").write_text(
        f"state: {{database: '{url}'}}\nproviders: {{new: {{kind: openai, api_key: '${{NOT_SET}}'}}}}\nteams: {{fresh: {{}}}}\n"
    )
    assert f"Invalid value for {option}" in turnout(*command, "nope", "--config", "c.yaml", code=2).stderr
    known = "new" if option == "--provider" else "fresh"
    assert "Invalid value" not in turnout(*command, known, "--config", "c.yaml", code=1 if known == "new" else 0).stderr


@pytest.mark.parametrize("usd", ["inf", "nan", "0", "-1"])
def test_an_hour_s_price_is_more_than_nothing_and_not_without_end(turnout: Turnout, url: str, usd: str) -> None:
    done = turnout("report", "breakeven", "--gpu-usd-per-hour", usd, "--database", url, code=2)
    assert "--gpu-usd-per-hour" in done.stderr and "no price of an hour" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("{", "no JSON"),
        ('{"data": []}', "no rows"),
        ('[{"data": [], "has_more": true}, {"data": [{"start_time": 1}], "has_more": true}]', "last page says"),
        ("model,input_tokens\ngpt-5,1\n", "row 1 of the export cannot be read"),
        (f"start_time,input_tokens\n{TODAY},many\n", "row 1 of the export cannot be read"),
        ('{"data": null}', "`data` of the export is null, and must be a list"),
        ('{"data": [7]}', "7 stands in `data`"),
        ("[7]", "7 stands in `the export`"),
        ('{"data": [{"start_time": 1, "results": {"model": "m"}}]}', "`results` of the export is {.*must be a list"),
        ('{"data": [{"start_time": 1, "results": ["m"]}]}', "stands in `results`"),
        ('{"data": [{"start_time": 1e300, "results": []}]}', "1e.300 is no time in Unix seconds"),
        ('{"data": [{"start_time": -5}]}', "-5 is no time"),
        ('{"data": [{"start_time": 9, "end_time": 8}]}', "it ends at 8, which is not after its beginning at 9"),
        ('{"data": [{"start_time": 9, "input_tokens": -3}]}', "-3 is no count of input_tokens"),
        ('{"data": [{"start_time": 9, "input_tokens": 1e300}]}', "is no count of input_tokens"),
        ('{"data": [{"start_time": 9, "model": {"name": "m"}}]}', "is no model's name"),
        ('{"data": [{"start_time": 9, "cache_creation": 7}]}', "7 stands in `cache_creation`"),
        ("[" * 5_000, "no JSON"),
    ],
)
def test_what_is_no_export_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)


def test_the_full_row_can_be_exported(turnout: Turnout, tmp_path: Path) -> None:
    url = fill(tmp_path / "some.db", FULL_ROW)
    assert "1 attempts" in turnout("export", "full.parquet", "--database", url, "--since", "999999w").stdout
