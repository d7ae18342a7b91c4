"""docs/reports.md: every command in it runs, and every report and group that it names exists."""

import json
import re
from pathlib import Path

import pytest

from contract.usage import Usage
from ledger.reports import REPORTS
from tests.command import turnout
from tests.ledger.rows import row
from tests.ledger.test_commands import KNOWN, ago, fill

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "reports.md").read_text()
COMMANDS = re.findall(r"^\.venv/bin/turnout (.*)$", TEXT, re.M)
HOUR_US = 3_600_000_000
CONFIG = """
state: {database: "sqlite:///var/turnout.db"}
providers: {one: {kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}}
models: {solo: {targets: [{provider: one, model: gpt-5}]}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports_docs")
    (folder / "turnout.yaml").write_text(CONFIG)
    usage = {"model": "gpt-5", "input_tokens": 120, "input_cached_tokens": 20, "output_tokens": 15}
    start = ago(90_000) // 10**6
    (folder / "usage.json").write_text(json.dumps({"data": [{"start_time": start, "end_time": start + 86_400, "results": [usage]}]}))
    fill(folder / "var" / "turnout.db", row(target="openai", started_at_us=ago(50_000), usage=KNOWN, cost_nusd=5, stream=True, first_token_us=9))
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(folder: Path, command: str) -> None:
    done = turnout(*command.split(), cwd=folder)
    assert done.returncode == 0 and done.stdout, (done.stdout, done.stderr)


def test_the_sample_export_is_reconciled_as_shown(tmp_path: Path) -> None:
    export, shown = re.findall(r"Of this `usage.json`\n\n```json\n(.*?)```.*?```\n(.*?)```", TEXT, re.S)[0]
    (tmp_path / "usage.json").write_text(export)
    at_us = json.loads(export)["data"][0]["start_time"] * 10**6 + 5 * HOUR_US
    whole = Usage(input_uncached=1_000, cache_read=500, output_visible=50, reasoning=25)
    rows = [row(f"req_{n}", target="openai", started_at_us=at_us, usage=whole, cost_nusd=5) for n in range(2)]
    rows.append(
        row("mini", target="openai", model_sent="gpt-5-mini", started_at_us=at_us, usage=Usage(input_uncached=600, output_visible=40), cost_nusd=9)
    )
    other = Usage(input_uncached=70, output_visible=7)
    rows.append(row("other", target="openai", model_sent="gpt-4.1", started_at_us=at_us + HOUR_US, usage=other, cost_nusd=196_000))
    rows.append(row("later", target="openai", model_sent="gpt-4.1", started_at_us=at_us + 24 * HOUR_US, usage=other, cost_nusd=196_000))
    url = fill(tmp_path / "some.db", *rows)
    done = turnout("reconcile", "usage.json", "--provider", "openai", "--database", url, cwd=tmp_path)
    assert done.returncode == 1 and [line.split() for line in done.stdout.splitlines()] == [line.split() for line in shown.splitlines()], done.stdout


@pytest.mark.parametrize("path", re.findall(r"/v1/reports/(\S+?)\"", TEXT))
def test_every_query_asks_for_what_there_is(path: str) -> None:
    name, query = path.split("?")
    groups = dict(part.split("=") for part in query.split("&"))["group_by"].split(",")
    assert set(groups) <= set(REPORTS[name].groups)
