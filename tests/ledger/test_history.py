"""Taken out, priced anew, and held against a provider's own count: the real command, a real file."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from contract.usage import Usage
from ledger.reconciling import read
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
    (found,) = json.loads(turnout("spend", "--json", "--config", "c.yaml").stdout)
    assert found["cost_nusd"] == 2 * 6_000_000_000 + 11_250_000_000 + 77 and found["unpriced"] == 0


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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("{", "no JSON"),
        ('{"data": []}', "no rows"),
        ("model,input_tokens\ngpt-5,1\n", "row 1 of the export cannot be read"),
        (f"start_time,input_tokens\n{TODAY},many\n", "row 1 of the export cannot be read"),
    ],
)
def test_what_is_no_export_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(text)


def test_the_full_row_can_be_exported(turnout: Turnout, tmp_path: Path) -> None:
    url = fill(tmp_path / "some.db", FULL_ROW)
    assert "1 attempts" in turnout("export", "full.parquet", "--database", url, "--since", "999999w").stdout
