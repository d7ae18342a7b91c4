"""Two llama.cpp replicas on a local Ray cluster as one engine, one of them killed under load. Heavy: `make test-ray`."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running

pytestmark = [pytest.mark.ray, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
PYTHON = Path(os.environ.get("TURNOUT_RAY_PYTHON", ".venv-ray/bin/python")).absolute()
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines:
  fleet: {{kind: ray-serve, python: "{python}", model: "builtin:smollm2-135m-instruct", replicas: 2, slots: 2, threads: 1, context: 512}}
models: {{chat: {{targets: [{{engine: fleet}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
AUTH = {"authorization": f"Bearer {KEY}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("ray")
    async with running(CONFIG.format(folder=folder, python=PYTHON, key=KEY), folder) as gateway:
        gateway.http.timeout = 300
        await engine_of(gateway).wait_ready(500)
        await replicas(gateway, 2)
        yield gateway


def engine_of(gateway: Gateway) -> EngineSupervisor:
    engine = gateway.runtime.engines["fleet"]
    assert isinstance(engine, EngineSupervisor)
    return engine


async def replicas(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(200):
        while (seen := engine_of(gateway).reading) is None or seen.replicas != count:
            await asyncio.sleep(0.02)


def replica_pids() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::ServeReplica:turnout-fleet"):
                found.append(int(entry.name))
    return found


def body(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": content}], "max_tokens": 8, **more}


async def test_answers_come_whole_and_streamed_and_both_replicas_work(gateway: Gateway) -> None:
    unary = await gateway.post(body("Hi"))
    assert unary.status_code == 200 and unary.json()["usage"]["completion_tokens"] > 0
    streamed = await gateway.post(body("Hi", stream=True))
    assert streamed.text.endswith("data: [DONE]\n\n")
    answers = await asyncio.gather(*(gateway.post(body(f"{number} bottles", max_tokens=30)) for number in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert len(replica_pids()) == 2


async def test_who_leaves_stops_the_replica(gateway: Gateway) -> None:
    async with gateway.http.stream(
        "POST", "/v1/chat/completions", json=body("A story", stream=True, max_tokens=450, ignore_eos=True), headers=AUTH
    ) as answer:
        async for _ in answer.aiter_text():
            break
    async with asyncio.timeout(60):
        while (seen := engine_of(gateway).reading) is None or seen.running != 0:
            await asyncio.sleep(0.02)


async def test_a_replica_killed_under_load_is_seen_and_replaced_and_nobody_waits_in_vain(gateway: Gateway) -> None:
    queue = gateway.runtime.backends[0].admission  # type: ignore[attr-defined]
    assert queue._slots == 4
    asked = [asyncio.create_task(gateway.post(body(f"{number} rivers", stream=True, max_tokens=200, ignore_eos=True))) for number in range(8)]
    async with asyncio.timeout(100):
        while (seen := engine_of(gateway).reading) is None or (seen.running or 0) < 4:
            await asyncio.sleep(0.02)
    os.kill(replica_pids()[0], signal.SIGKILL)
    await replicas(gateway, 1)
    assert queue._slots == 2, "what is let in follows the replicas that are left"
    texts = [(await each).text for each in asked]
    whole = [text for text in texts if text.endswith("data: [DONE]\n\n")]
    cut = [text for text in texts if '"error"' in text]
    assert len(whole) + len(cut) == 8 and len(whole) >= 6 and len(cut) <= 2, [text[-200:] for text in cut]
    await replicas(gateway, 2)
    assert (await gateway.post(body("Hi again"))).status_code == 200
    assert engine_of(gateway).generation == 1, "the engine itself was never down"
