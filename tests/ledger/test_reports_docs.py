"""docs/reports.md: every command in it runs, and every report and group that it names exists."""

import json
import re
from pathlib import Path

import pytest

from ledger.reports import REPORTS
from tests.command import turnout
from tests.ledger.rows import row
from tests.ledger.test_commands import KNOWN, ago, fill

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "reports.md").read_text()
COMMANDS = re.findall(r"^\.venv/bin/turnout (.*)$", TEXT, re.M)
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


@pytest.mark.parametrize("path", re.findall(r"/v1/reports/(\S+?)\"", TEXT))
def test_every_query_asks_for_what_there_is(path: str) -> None:
    name, query = path.split("?")
    groups = dict(part.split("=") for part in query.split("&"))["group_by"].split(",")
    assert set(groups) <= set(REPORTS[name].groups)
