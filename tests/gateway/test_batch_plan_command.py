"""`turnout batch plan` on docs/batch-providers.md's own configuration, with and without a ledger that real requests have filled."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.batch_plan import sized_of, span
from gateway.cli.main import app
from tests.config.files import ROOT
from tests.gateway.conftest import running
from tests.gateway.upstream import Upstream

TEXT = (ROOT / "docs" / "batch-providers.md").read_text()
(CONFIG,) = [block for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S) if "teams:" in block]
COMMANDS = [line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
ROWS = 5000


def line_of(number: int, **more: Any) -> dict[str, Any]:
    body = {"model": "chat", "max_tokens": 100, "messages": [{"role": "user", "content": f"row {number} " * 80}]}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body | more}


def write(folder: Path, lines: list[Any]) -> Path:
    file = folder / "requests.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


async def practise(folder: Path) -> None:
    """Twelve answers from openai, none from anthropic."""
    upstream = await Upstream().start()
    text = CONFIG.replace("9101", str(upstream.port)) + 'state: {database: "sqlite:///turnout.db"}\n'
    async with running(text, folder) as gateway:
        for _ in range(12):
            answer = await gateway.post({"model": "chat", "messages": [{"role": "user", "content": "depot " * 150}]}, key="sk-search")
            assert answer.status_code == 200
    await upstream.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("plan")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(practise(folder))
        write(folder, [line_of(number) for number in range(ROWS)])
        yield folder
    finally:
        os.chdir(here)


def planned(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["batch", "plan", "requests.jsonl", "--config", "turnout.yaml", *arguments])


def told(*arguments: str, code: int = 0) -> dict[str, Any]:
    done = planned(*arguments, "--json")
    assert done.exit_code == code, done.output
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_within_a_day_the_cheapest_batch_api_takes_all(folder: Path) -> None:
    plan = told()
    assert [(share["target"], share["how"], share["rows"]) for share in plan["shares"]] == [("openai/small", "provider_batch", ROWS)]
    assert plan["in_time"] and plan["ends_s"] == 86400.0
    costs = {(way["target"], way["how"]): float(way["cost_usd"]) for way in plan["ways"]}
    assert costs["openai/small", "provider_batch"] == pytest.approx(costs["openai/small", "realtime"] / 2)
    assert float(plan["cost_usd"]) == costs["openai/small", "provider_batch"]


def test_what_was_measured_live_meets_a_deadline_that_no_batch_api_does(folder: Path) -> None:
    plan = told("--deadline", "6h")
    assert [(share["target"], share["how"]) for share in plan["shares"]] == [("openai/small", "realtime")]
    why = {(way["target"], way["how"]): way["why_not"] for way in plan["ways"]}
    assert why["openai/small", "provider_batch"] == "it ends 18.0 h after the deadline"
    assert [(way["target"], way["how"]) for way in plan["ways"] if way["assumed_speed"]] == [("anthropic/large", "realtime")]
    assert why["openai/small", "realtime"] is None


def test_a_team_s_limit_is_the_pace_of_its_live_calls(folder: Path, tmp_path: Path) -> None:
    plan = told("--deadline", "1h", "--team", "search", "--concurrency", "1000")
    assert plan["ends_s"] == ROWS / 2, "120 requests a minute"
    file = write(tmp_path, [line_of(number) for number in range(2 * ROWS)])
    arguments = ["batch", "plan", str(file), "--config", "turnout.yaml", "--deadline", "1h", "--team", "search", "--concurrency", "1000", "--json"]
    done = CliRunner().invoke(app, arguments)
    late = json.loads(done.stdout)
    assert done.exit_code == 1 and not late["in_time"] and late["ends_s"] == pytest.approx(ROWS, rel=0.01)


@pytest.mark.parametrize("deadline", ["30m", "8d", "0h", "tomorrow"])
def test_a_deadline_that_no_batch_can_have_is_refused(folder: Path, deadline: str) -> None:
    done = planned("--deadline", deadline)
    assert done.exit_code == 2 and "hours or days up to 7d" in " ".join(done.stderr.replace("│", " ").split())


def test_more_rows_than_a_batch_may_have_are_no_plan() -> None:
    line = json.dumps(line_of(0)).encode()
    with pytest.raises(ValueError, match=r"^:50001: a batch has 50000 rows at most$"):
        sized_of([line] * 50_001, None)


def test_the_table_shows_the_plan_and_every_way(folder: Path) -> None:
    done = planned()
    asked, share, verdict, head, *ways = done.stdout.splitlines()
    assert re.fullmatch(rf"model chat: {ROWS} rows of about \d+ tokens, 100 at most in an answer, to end within 24h", asked)
    assert re.fullmatch(rf"  {ROWS} rows: openai/small, batch API, \$[\d.]+, ends in 24\.0 h", share)
    assert re.fullmatch(r"in all \$[\d.]+, ends in 24\.0 h: in time", verdict)
    assert head.split() == ["target", "how", "USD", "ends", "in", "in", "time", "why", "not"] and len(ways) == 4


def test_without_a_ledger_speeds_are_assumed_and_none_is_made(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(CONFIG + f'state: {{database: "sqlite:///{tmp_path}/none.db"}}\n')
    done = planned("--deadline", "6h", "--config", str(tmp_path / "other.yaml"))
    assert done.exit_code == 0 and "there is no ledger at" in done.stderr and "10 s a row are assumed" in done.stderr
    assert "its speed is assumed" in done.stdout and ": in time" in done.stdout
    assert [file.name for file in tmp_path.iterdir()] == ["other.yaml"]


WRONG = {
    "no JSON": (["{"], ":1: it is not JSON"),
    "no body": ([line_of(0), {"custom_id": "x", "url": "/v1/chat/completions"}], ":2: it has no `url` and `body`"),
    "two endpoints": ([line_of(0), {**line_of(1), "url": "/v1/responses"}], ":2: it asks /v1/responses"),
    "nothing": (["", ""], ": it holds no request"),
    "no model": ([line_of(0, model=None)], ": no row names a model"),
}


@pytest.mark.parametrize(("lines", "says"), WRONG.values(), ids=WRONG)
def test_a_file_that_cannot_be_planned_exits_1_with_its_line(folder: Path, tmp_path: Path, lines: list[Any], says: str) -> None:
    file = write(tmp_path, lines)
    done = CliRunner().invoke(app, ["batch", "plan", str(file), "--config", "turnout.yaml"])
    assert done.exit_code == 1 and f"{file}{says}" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--deadline", "soon"], "hours or days up to 7d"),
        (["--team", "serch"], "did you mean `search`?"),
        (["--model", "chta"], "did you mean `chat`?"),
    ],
)
def test_a_wrong_use_exits_2(folder: Path, arguments: list[str], says: str) -> None:
    done = planned(*arguments)
    assert done.exit_code == 2 and says in " ".join(done.stderr.replace("│", " ").split())


def test_a_limit_counts_only_where_every_row_has_one() -> None:
    lines = [json.dumps(line_of(number)).encode() for number in range(3)]
    assert sized_of(lines, None).max_tokens == 100
    free = json.dumps(line_of(3, max_tokens=None)).encode()
    assert sized_of([*lines, free], None).max_tokens is None
    assert sized_of(lines, "other").model == "other"


@pytest.mark.parametrize(("seconds", "says"), [(40, "40 s"), (59, "59 s"), (119, "2 min"), (7200, "2.0 h"), (86400, "24.0 h"), (172800, "2.0 d")])
def test_a_time_is_told_as_people_say_it(seconds: float, says: str) -> None:
    assert span(seconds) == says


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_document_works(folder: Path, command: str) -> None:
    line = command.replace(".venv/bin/turnout", str(Path(sys.executable).with_name("turnout")))
    done = subprocess.run(["bash", "-ec", line], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr
