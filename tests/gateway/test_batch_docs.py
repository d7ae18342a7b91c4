"""docs/batch.md: its snippets and commands are run, its example loads, and its figures are those of the code."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from batch.checking import ANTHROPIC, ANTHROPIC_ID, MAX_ID, MOST_FAULTS, OPENAI
from config.tenancy import BatchSettings
from gateway.batches import batches_api, rendering, webhook_delivery
from tests.config.files import loaded
from tests.gateway.batching import chat, jsonl, row
from tests.gateway.test_command import clean_env, serving

TEXT = (Path(__file__).parents[2] / "docs" / "batch.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.M | re.S)
CONFIG = """
engines: {cpu: {kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, context: 512}}
models: {chat: {targets: [{engine: cpu}]}}
teams: {search: {keys: [KEY]}}
"""


def test_snippets_and_commands_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "turnout.yaml").write_text(CONFIG)
    rows = [row(f"r{n}", chat(f"Say {n}.", "chat", max_tokens=8)) for n in range(3)]
    (tmp_path / "rows.jsonl").write_bytes(jsonl(rows))
    snippets = [text for kind, text in BLOCKS if kind == "python"]
    (commands,) = [text for kind, text in BLOCKS if kind == "sh"]
    with serving(tmp_path, "--config", "turnout.yaml") as (url, _):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = clean_env(TURNOUT_URL=url, TURNOUT_KEY="KEY", PATH=path, BATCH_ID="")

        def run(command: list[str]) -> str:
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            return done.stdout

        openai_said, anthropic_said = [run([sys.executable, "-W", "ignore", "-c", text.replace("http://127.0.0.1:8080", url)]) for text in snippets]
        assert openai_said.count('"custom_id":"r') == 3 and anthropic_said == "hello succeeded\n"
        for command in commands.splitlines():
            said = run(["bash", "-ec", command])
            env["BATCH_ID"] = env["BATCH_ID"] or said.splitlines()[0]
        assert (tmp_path / "results" / f"{env['BATCH_ID']}.output.jsonl").read_text().count("\n") == 3


def test_a_batch_goes_on_after_its_gateway_was_killed(tmp_path: Path) -> None:
    (script,) = [text for kind, text in BLOCKS if kind == "bash"]
    (yaml, _) = [text for kind, text in BLOCKS if kind == "yml"]
    (tmp_path / "turnout.yaml").write_text(yaml.replace("context: 512", "context: 512, threads: 1"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = script.replace("8080", port).replace("ROWS=500", "ROWS=12")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=clean_env(PATH=path), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (done.stdout, done.stderr, (tmp_path / "progress.txt").read_text())
    (results,) = (tmp_path / "results").iterdir()
    ids = [json.loads(line)["custom_id"] for line in results.read_text().splitlines()]
    assert sorted(ids) == sorted(f"r{n}" for n in range(1, 13))
    said = (tmp_path / "progress.txt").read_text().splitlines()
    assert "completed 12/12 rows" in said[-1] and "in_progress" in said[1], said
    assert "cpu 100%" in said[-1]


def test_the_example_loads(tmp_path: Path) -> None:
    (yaml,) = [text for kind, text in BLOCKS if kind == "yaml"]
    result = loaded(tmp_path, yaml, {"WEBHOOK_SECRET": "s", "SEARCH_KEY": "k"})
    assert result.settings.batch.webhook is not None and result.settings.teams["search"].batch_budget is not None


def test_the_figures_are_those_of_the_code() -> None:
    table = {cells[0]: cells[1:] for cells in (re.findall(r"[^|]+", line) for line in TEXT.splitlines() if line.startswith("| "))}
    cells = {name.strip(): [cell.strip() for cell in rest] for name, rest in table.items()}
    assert cells["Rows"] == [f"{OPENAI.rows:,}", f"{ANTHROPIC.rows:,}"] and cells["Bytes"] == [f"{OPENAI.size:,}", f"{ANTHROPIC.size:,}"]
    assert cells["A row's bytes"] == [f"{OPENAI.row_bytes:,}", f"{ANTHROPIC.row_bytes:,}"]
    assert cells["`custom_id`"] == [f"1 to {MAX_ID} characters", f"1 to 64 characters: `{ANTHROPIC_ID.pattern.removesuffix('{1,64}')}`"]
    assert batches_api.ENDPOINTS == ("/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings")
    assert rendering.window_s("7d") == rendering.MOST_WINDOW_S and f"of up to {MOST_FAULTS}" in TEXT and f"for {webhook_delivery.DAYS} days" in TEXT
    assert {f"batch.{name}" for name in BatchSettings.model_fields} <= set(re.findall(r"batch\.\w+", TEXT))
