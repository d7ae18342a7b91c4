"""A batch asked by llama.cpp actors on a local Ray cluster, one of them killed in the middle: every row once. Heavy: `make test-ray`."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from batch.schema import batch_rows
from ledger.database import open_engine
from ledger.schema import attempts
from tests.gateway.batching import chat, ended, lines, made, row, until
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.workers import children, command_of
from tests.postgres_server import PostgresServer

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
PYTHON = Path(os.environ.get("TURNOUT_RAY_PYTHON", ".venv-ray/bin/python")).absolute()
ACTOR = """
state: {{database: "{database}"}}
batch: {{folder: "{folder}/files", concurrency: 2, lease_s: 5}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, threads: 1, context: 512}}}}
models: {{chat: {{targets: [{{engine: cpu}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
CONFIG = """
state: {{database: "{database}"}}
batch:
  executor: ray
  folder: "{folder}/files"
  lease_s: 5
  ray: {{python: "{python}", config: "{folder}/actor.yaml", folder: "{folder}/actors", actors: 2{more}}}
providers: {{nobody: {{kind: openai-compatible, base_url: "http://127.0.0.1:9/v1", api_key: k}}}}
models: {{chat: {{targets: [{{provider: nobody, model: m, price: free}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
ROWS = 60


@pytest.fixture(scope="module", params=[False, True], ids=["its own cluster", "an existing cluster"])
def existing(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def database(existing: bool) -> Iterator[str]:
    server = PostgresServer().start()
    yield server.database()
    server.end()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """One that was there before: its head, which ends with us."""
    command = (PYTHON.with_name("ray"), "start", "--head", "--block", "--port=0", "--include-dashboard=false", "--num-cpus=2")
    with (folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    try:
        until = time.monotonic() + 120
        while b"Ray runtime started" not in (folder / "head.log").read_bytes():
            assert head.poll() is None and time.monotonic() < until, (folder / "head.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        head.terminate()
        head.wait(60)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(existing: bool, tmp_path_factory: pytest.TempPathFactory, database: str) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("actors")
    given: dict[str, Any] = {"database": database, "folder": folder, "python": PYTHON, "key": KEY, "more": ", address: auto" if existing else ""}
    (folder / "actor.yaml").write_text(ACTOR.format(**given))
    with cluster(folder) if existing else contextlib.nullcontext():
        async with running(CONFIG.format(**given), folder) as gateway:
            yield gateway


def actors() -> list[int]:
    """The processes of Ray whose child is a gateway: those of the actors."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in found if command_of(pid).startswith("ray::Worker") and any("actor.yaml" in command_of(child) for child in children(pid))]


async def test_every_row_is_answered_once_though_an_actor_is_killed(gateway: Gateway, database: str) -> None:
    batch = await made(gateway.sdk, [row(f"r{n}", chat(f"Count from {n}.", "chat", max_tokens=24)) for n in range(ROWS)])
    batch = await until(gateway.sdk, batch, lambda each: each.request_counts is not None and each.request_counts.completed >= ROWS // 4, 300)
    before = actors()
    assert len(before) == 2, "both work"
    os.kill(before[0], signal.SIGKILL)
    batch = await ended(gateway.sdk, batch, 300)
    assert batch.status == "completed" and batch.request_counts is not None and batch.request_counts.completed == ROWS, batch
    assert set(await lines(gateway.sdk, batch.output_file_id)) == {f"r{n}" for n in range(ROWS)}
    told = json.loads(batch.model_dump_json())["turnout"]
    engine = open_engine(database)
    with engine.connect() as connection:
        team = connection.execute(
            select(func.count()).where(attempts.c.attempt > 0, attempts.c.billed == "team", attempts.c.status == "ok")
        ).scalar_one()
        states = connection.execute(select(batch_rows.c.state, func.count()).group_by(batch_rows.c.state)).all()
    engine.dispose()
    assert team == ROWS and [tuple(each) for each in states] == [("succeeded", ROWS)]
    assert told["targets"] == {"cpu": ROWS}, "the gateway itself asked none"
    async with asyncio.timeout(120):
        while len(now := actors()) < 2 or before[0] in now:
            await asyncio.sleep(0.1)
    print(f"{ROWS} rows by 2 actors, one killed: {told['repeated_rows']} rows asked again")
