"""docs/replay.md: its commands run on the week that it shows, and its table is what is printed."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.replay import make
from gateway.replay.conditions import FIGURES
from tests.command import turnout
from tests.config.files import ROOT

TEXT = (ROOT / "docs" / "replay.md").read_text()
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
REQUESTS = 8_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("week")
    make(folder, REQUESTS, "spread")
    yield folder


@pytest.mark.parametrize("command", [line for line in COMMANDS if "turnout replay" in line])
def test_a_command_of_the_document_works(folder: Path, command: str) -> None:
    done = turnout(*shlex.split(command)[1:], cwd=folder)
    assert done.returncode == 0 and done.stdout and not done.stderr, (done.stdout, done.stderr)


def test_the_document_shows_the_table_that_is_printed(folder: Path) -> None:
    (shown,) = re.findall(r"^```text\n(.*?)^```", TEXT, re.M | re.S)
    printed = turnout("replay", "frugal.yaml", "--since", "7d", cwd=folder).stdout
    assert [line.split() for line in shown.splitlines()] == [line.split() for line in printed.splitlines()]


def test_the_week_is_made_as_the_document_says(tmp_path: Path) -> None:
    (command,) = [line for line in COMMANDS if "--make" in line]
    assert f"--requests {REQUESTS}" in command
    words = shlex.split(command.replace(str(REQUESTS), "100").replace(".venv/bin/python", sys.executable))
    done = subprocess.run([words[0], ROOT / words[1], *words[2:]], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and {"turnout.db", "turnout.yaml", "frugal.yaml"} <= {file.name for file in (tmp_path / "week").iterdir()}, (
        done.stderr
    )


def test_the_benchmark_prints_its_figures(tmp_path: Path) -> None:
    assert any(line.endswith("bench/replay.py") for line in COMMANDS)
    command = [sys.executable, str(ROOT / "bench" / "replay.py"), "--requests", "300", "--policies", "frugal"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and re.search(r"frugal: \d+ requests planned again in \d+\.\d s", done.stdout), done.stderr


def test_every_figure_that_a_condition_may_have_is_in_the_document() -> None:
    assert all(f"`{name}`" in TEXT for name in FIGURES)
