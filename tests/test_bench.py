"""The benchmarks run: each script of docs/performance.md, briefly. What they measure is never asserted: machines are noisy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "bench"))  # at its end: bench/policy is not policy/

from check import compared
from rig.table import shown, values

ROOT = Path(__file__).parent.parent
BRIEF = {"bench/http_client.py": ["--requests", "160"]}
SCRIPTS = re.findall(r"^\.venv/bin/python (bench/\S+)$", (ROOT / "docs" / "performance.md").read_text(), re.M)
NEEDS = pytest.mark.skipif(
    shutil.which("gcc") is None or shutil.which("taskset") is None or (os.cpu_count() or 1) < 2,
    reason="the benchmark compiles its load generator with gcc and pins it to a second processor with taskset",
)


def run(*command: str, limit_s: float = 110) -> str:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


@NEEDS
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_prints_its_figures(script: str) -> None:
    assert re.search(r"\d+\.\d+ +(CPU )?us", run(script, *BRIEF.get(script, [])))


@NEEDS
@pytest.mark.timeout(400)  # on a machine that does much else
def test_the_comparison_prints_a_row_for_each_gateway() -> None:
    printed = run("bench/compare.py", "direct", "turnout-limits", "--scale", "0.1", "--only", "full", "streams", "dialects", limit_s=390)
    assert "Not measured" not in printed
    cost, streams, dialects = (part.splitlines()[2:] for part in printed.split("\n\n") if part.startswith("| gateway") and part.count("\n") > 1)
    assert [[line.split("|")[1].strip() for line in part] for part in (cost, streams, dialects)] == [
        ["direct, without a gateway", "**Turnout, everything on**"],
        ["**Turnout, everything on**"],
        ["**Turnout, everything on**"],
    ]


def test_a_ratio_and_a_difference_are_of_one_pass() -> None:
    passes = [
        {"direct": {"p50_ms": 1.0}, "nginx": {"cpu_us": 10.0, "p50_ms": 1.5}},
        {"direct": {"p50_ms": 3.0}, "nginx": {"cpu_us": 40.0, "p50_ms": 3.2}},
    ]
    passes = [{**each, "turnout": {"cpu_us": each["nginx"]["cpu_us"] * 5}} for each in passes]
    assert values(passes, "turnout", "cpu_us/nginx") == [5.0, 5.0]
    assert values(passes, "nginx", "+p50_ms") == pytest.approx([0.5, 0.2])
    assert values(passes, "litellm", "cpu_us/nginx") == []
    assert shown(values(passes, "nginx", "cpu_us"), 0) == "25 [10–40]"


def test_a_tenth_more_instructions_is_a_fault_and_less_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"chat": [1_000, 0], "stream": [1_000, 0]}
    assert compared({"chat": (1_150, 0), "stream": (1_090, 0)}, kept) == ["chat"]
    assert "+15.0%" in capsys.readouterr().out


@NEEDS
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="instructions are counted with valgrind")
def test_a_chat_request_that_costs_a_sixth_more_is_found() -> None:
    done = subprocess.run([sys.executable, "bench/check.py", "--slower", "15"], cwd=ROOT, capture_output=True, text=True, timeout=590)
    assert done.returncode == 1 and re.search(r"^chat .*TOO MUCH$", done.stdout, re.M), done.stdout + done.stderr


def test_two_processes_outlive_their_redis(tmp_path: Path) -> None:
    """docs/two-processes.md, briefly: nobody is told of the loss by an error, and no more is admitted than the page says."""
    assert "bench/store_loss.py\n" in (ROOT / "docs" / "two-processes.md").read_text()
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed here, and could not be (scripts/install_servers.sh says why)")
    told = run("bench/store_loss.py", "--seconds", "6", "--rps", "40")
    assert "answers other than 200 and 429: 0" in told and re.search(r"^ +2 lost +40 +\d+ +\d+ +0 ", told, re.M), told
