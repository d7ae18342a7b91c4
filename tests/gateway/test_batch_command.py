"""`turnout batch` against a running gateway: submitted, watched, fetched, cancelled; and what it says when something is wrong."""

import asyncio
import contextlib
import json
import os
import pty
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anthropic import AsyncAnthropic

from gateway.cli.batch_client import Looks, Progress
from tests.command import turnout
from tests.gateway.batching import COST_NUSD, chat, config, ended, jsonl, made, row
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.test_command import COMMAND, clean_env
from tests.gateway.test_message_batches import asked
from tests.gateway.upstream import Upstream, silent, status


@pytest.fixture
async def gateway(one: Upstream, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(config(f"sqlite:///{tmp_path}/turnout.db", one.base_url), tmp_path) as gateway:
        yield gateway


async def run(gateway: Gateway, folder: Path, *args: str, key: str = KEY) -> "subprocess.CompletedProcess[str]":
    env = clean_env(TURNOUT_URL=gateway.url, TURNOUT_KEY=key)
    return await asyncio.to_thread(turnout, "batch", *args, cwd=folder, env=env)


async def test_a_file_is_submitted_watched_and_its_results_fetched(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl([row(f"r{n}") for n in range(20)]))
    done = await run(gateway, tmp_path, "submit", "rows.jsonl", "--watch")
    assert done.returncode == 0, done.stderr
    id, *said = done.stdout.splitlines()
    assert id.startswith("batch_") and f"{id} completed 20/20 rows" in said[-1] and "one 100%" in said[-1]
    assert f"${20 * COST_NUSD / 1e9:.4f}" in said[-1]
    done = await run(gateway, tmp_path, "download", id, "--folder", "out", "--json")
    assert json.loads(done.stdout) == {"output": f"out/{id}.output.jsonl"}
    lines = (tmp_path / "out" / f"{id}.output.jsonl").read_text().splitlines()
    assert {json.loads(line)["custom_id"] for line in lines} == {f"r{n}" for n in range(20)}
    told = json.loads((await run(gateway, tmp_path, "status", id, "--json")).stdout)
    assert (told["status"], told["total"], told["rows"]["succeeded"], told["cost_usd"]) == ("completed", 20, 20, 20 * COST_NUSD / 1e9)
    assert id in (await run(gateway, tmp_path, "status")).stdout
    asked = {"custom_id": "a", "params": {"model": "solo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}}
    other = (await gateway.post({"requests": [asked]}, path="/v1/messages/batches")).json()["id"]
    assert [line.split()[0] for line in (await run(gateway, tmp_path, "status")).stdout.splitlines()] == [other, id]


async def test_on_a_terminal_there_is_a_bar(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl([row(f"r{n}") for n in range(20)]))
    ours, its = pty.openpty()
    env = clean_env(TURNOUT_URL=gateway.url, TURNOUT_KEY=KEY, TERM="xterm", COLUMNS="140")
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "batch", "submit", "rows.jsonl", "--watch"), cwd=tmp_path, env=env, stdout=its, stderr=its
    )
    os.close(its)

    def shown() -> str:
        seen = b""
        with contextlib.suppress(OSError):  # the terminal is closed: the command has ended
            while piece := os.read(ours, 65536):
                seen += piece
        return seen.decode()

    text = await asyncio.to_thread(shown)
    os.close(ours)
    assert await process.wait() == 0, text
    assert "━" in text and "20/20" in text and "one 100%" in text


async def test_a_fault_is_told_by_its_line_and_is_exit_code_1(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(jsonl([row("a"), row("b", chat("x", "nobody's"))]))
    done = await run(gateway, tmp_path, "submit", "rows.jsonl", "--watch")
    assert done.returncode == 1 and done.stderr.startswith("line 2: there is no model"), done.stderr
    (tmp_path / "no.jsonl").write_text("hello\n")
    done = await run(gateway, tmp_path, "submit", "no.jsonl")
    assert done.returncode == 2 and "no.jsonl:1" in done.stderr
    for key, code in (("", 2), ("sk-nobody", 1)):
        done = await run(gateway, tmp_path, "status", key=key)
        assert done.returncode == code and done.stderr.count("\n") == 1
    done = await run(gateway, tmp_path, "status", "batch_none")
    assert done.returncode == 1 and "there is no batch" in done.stderr


async def test_a_batch_is_cancelled(gateway: Gateway, one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = silent
    batch = await made(gateway.sdk, [row("a")])
    done = await run(gateway, tmp_path, "download", batch.id)
    assert done.returncode == 1 and "when it has ended" in done.stderr
    done = await run(gateway, tmp_path, "cancel", batch.id)
    assert done.returncode == 0 and "cancelling" in done.stdout
    assert (await ended(gateway.sdk, batch)).status == "cancelled"
    assert (await run(gateway, tmp_path, "watch", batch.id, "--json")).returncode == 1


async def test_a_batch_of_messages_is_watched_and_fetched_too(gateway: Gateway, one: Upstream, tmp_path: Path) -> None:
    one.plays["m1"] = [status(400), status(400)]
    async with AsyncAnthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as sdk:
        batch = await sdk.messages.batches.create(requests=[asked("a"), asked("b")])
    done = await run(gateway, tmp_path, "watch", batch.id, "--every", "0.1")
    assert done.returncode == 0 and "2/2 rows, 2 without an answer" in done.stdout, done.stdout + done.stderr
    assert (await run(gateway, tmp_path, "download", batch.id)).returncode == 0
    assert (tmp_path / f"{batch.id}.results.jsonl").read_text().count("errored") == 2


async def test_nobody_there_is_said_in_a_line(gateway: Gateway, tmp_path: Path) -> None:
    env = clean_env(TURNOUT_URL="http://127.0.0.1:9", TURNOUT_KEY=KEY)
    done = await asyncio.to_thread(turnout, "batch", "status", cwd=tmp_path, env=env)
    assert done.returncode == 1 and "does not answer" in done.stderr and done.stderr.count("\n") == 1


def look(done: int, tokens: int, usd: float, unpriced: int = 0) -> Progress:
    rows = {"succeeded": done, "errored": 0, "cancelled": 0, "expired": 0}
    more = {"input_tokens": 0, "cost_usd": usd, "unpriced": unpriced, "targets": {}, "files": {}}
    return Progress(id="b", status="in_progress", total=100, rows=rows, output_tokens=tokens, **more)  # type: ignore[arg-type]


def test_a_pace_is_what_came_between_two_looks_and_unknown_before() -> None:
    looks = Looks()
    first = looks.add(10.0, look(0, 0, 0.0))
    assert (first.rows_per_s, first.tokens_per_s, first.eta_s, first.projected_usd) == (None, None, None, None)
    second = looks.add(15.0, look(20, 1000, 0.5))
    assert (second.rows_per_s, second.tokens_per_s, second.eta_s, second.projected_usd) == (4.0, 200.0, 20.0, 2.5)
    assert looks.add(16.0, look(30, 1000, 0.5, unpriced=3)).projected_usd is None
