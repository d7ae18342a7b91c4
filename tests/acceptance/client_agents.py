"""Codex CLI and Claude Code, each in a home of its own: one answer, and one shell command that the model asks for."""

import json
import os
import subprocess
from pathlib import Path

import pytest

BIN = Path(__file__).parent / "agents" / "node_modules" / ".bin"
PROGRAM_S = 90

CODEX = """
model = "{model}"
model_provider = "turnout"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.turnout]
name = "Turnout"
base_url = "{base_url}/v1"
env_key = "TURNOUT_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
}


def run(command: list[str], home: Path, environment: dict[str, str]) -> str:
    """What the program printed; it sees nothing of this machine's own settings."""
    (home / "work").mkdir(parents=True)
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), **environment}
    done = subprocess.run(
        command, cwd=home / "work", env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROGRAM_S, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def codex(base_url: str, api_key: str, model: str, home: Path, prompt: str) -> list[dict[str, object]]:
    """The items of one `codex exec`."""
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(CODEX.format(model=model, base_url=base_url))
    printed = run([str(BIN / "codex"), "exec", "--skip-git-repo-check", "--json", prompt], home, {"TURNOUT_KEY": api_key})
    events = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return [event["item"] for event in events if event["type"] == "item.completed"]


def claude(base_url: str, api_key: str, model: str, home: Path, prompt: str) -> str:
    """The result of one `claude -p`."""
    models = dict.fromkeys(("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL"), model)
    environment = {**QUIET, **models, "ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_AUTH_TOKEN": api_key}
    printed = run([str(BIN / "claude"), "-p", prompt, "--allowedTools", "Bash", "--output-format", "json"], home, environment)
    answer = json.loads(printed.splitlines()[-1])
    assert not answer["is_error"], answer
    return str(answer["result"])


@pytest.mark.skipif(not (BIN / "codex").exists(), reason="Codex CLI is not installed")
def test_codex_answers(base_url: str, api_key: str, model: str, tmp_path: Path) -> None:
    items = codex(base_url, api_key, model, tmp_path, "SAY:hello")
    assert [item["text"] for item in items if item["type"] == "agent_message"] == ["hello"]


@pytest.mark.skipif(not (BIN / "codex").exists(), reason="Codex CLI is not installed")
def test_codex_runs_a_command(base_url: str, api_key: str, model: str, tmp_path: Path) -> None:
    items = codex(base_url, api_key, model, tmp_path, 'CALL:exec_command {"cmd": "echo from-the-tool"}')
    assert [item["exit_code"] for item in items if item["type"] == "command_execution"] == [0]
    (said,) = [str(item["text"]) for item in items if item["type"] == "agent_message"]
    assert said.startswith("DONE:") and "from-the-tool" in said


@pytest.mark.skipif(not (BIN / "claude").exists(), reason="Claude Code is not installed")
def test_claude_code_answers(base_url: str, api_key: str, model: str, tmp_path: Path) -> None:
    assert claude(base_url, api_key, model, tmp_path, "SAY:hello") == "hello"


@pytest.mark.skipif(not (BIN / "claude").exists(), reason="Claude Code is not installed")
def test_claude_code_runs_a_command(base_url: str, api_key: str, model: str, tmp_path: Path) -> None:
    said = claude(base_url, api_key, model, tmp_path, 'CALL:Bash {"command": "echo from-the-tool", "description": "echo"}')
    assert said.startswith("DONE:") and "from-the-tool" in said
