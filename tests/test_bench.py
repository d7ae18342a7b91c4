"""The benchmarks run: each script of docs/performance.md, briefly. What they measure is never asserted: machines are noisy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BRIEF = {"bench/http_client.py": ["--requests", "160"]}
SCRIPTS = re.findall(r"^\.venv/bin/python (bench/\S+)$", (ROOT / "docs" / "performance.md").read_text(), re.M)
NEEDS = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("taskset") is None or (os.cpu_count() or 1) < 2,
    reason="the benchmark compiles its load generator with gcc and pins it to a second processor with taskset",
)


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return done.stdout


@NEEDS
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_prints_its_figures(script: str) -> None:
    assert re.search(r"\d+\.\d+ +(CPU )?us", run(script, *BRIEF.get(script, [])))


@NEEDS
def test_the_comparison_prints_a_row_for_each_gateway() -> None:
    table = run("bench/compare.py", "direct", "turnout", "--scale", "0.05")
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["direct", "turnout"]


def test_two_processes_outlive_their_redis(tmp_path: Path) -> None:
    """docs/two-processes.md, briefly: nobody is told of the loss by an error, and no more is admitted than the page says."""
    assert "bench/store_loss.py\n" in (ROOT / "docs" / "two-processes.md").read_text()
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed here, and could not be (scripts/install_servers.sh says why)")
    told = run("bench/store_loss.py", "--seconds", "6", "--rps", "40")
    assert "answers other than 200 and 429: 0" in told and re.search(r"^ +2 lost +40 +\d+ +\d+ +0 ", told, re.M), told
