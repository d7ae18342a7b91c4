"""docs/acceptance.md shows what `make acceptance` runs and every gap; the Node locks name no address."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "TURNOUT_ACCEPTANCE"}
    command = [sys.executable, "scripts/acceptance.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True, timeout=60)


def test_the_document_shows_every_part_and_every_gap() -> None:
    described = run("--describe")
    assert described.returncode == 0, described.stderr
    assert (ROOT / "docs" / "acceptance.md").read_text().endswith(f"\n## Parts\n\n{described.stdout}")


def test_without_the_folder_nothing_runs_and_that_is_said() -> None:
    told = run("cassettes", "fuzz")
    assert told.returncode == 0 and told.stdout == "TURNOUT_ACCEPTANCE names no folder with the acceptance data: left out cassettes, fuzz\n"


def test_a_part_that_is_none_is_refused() -> None:
    told = run("casettes")
    assert told.returncode == 2 and "no part casettes" in told.stderr


def test_what_needs_npm_is_left_out_without_it(tmp_path: Path) -> None:
    told = run("node", "agents", TURNOUT_ACCEPTANCE=str(tmp_path), PATH=str(tmp_path))
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[:2] == ["node: left out, npm is not installed", "agents: left out, npm is not installed"]


@pytest.mark.parametrize("folder", ["node", "agents"])
def test_a_node_lock_holds_hashes_and_no_address(folder: str) -> None:
    packages = json.loads((ROOT / "tests" / "acceptance" / folder / "package-lock.json").read_text())["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert installed and all("integrity" in package and "resolved" not in package for package in installed.values())
