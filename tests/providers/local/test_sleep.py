"""An engine that nobody wants sleeps, and wakes for the next request: real children, one of which keeps its process as vLLM on a GPU does."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from providers.local.admission import Admission
from providers.local.port import NOTHING
from providers.local.spec import Pace
from providers.local.supervisor import EngineSupervisor
from tests.providers.local.conftest import PATIENCE_S, eventually, is_gone
from tests.providers.local.raw import chat, fetch

Supervise = Callable[..., EngineSupervisor]
OFTEN = Pace(first_backoff_s=0.05, health_every_s=0.05, stop_grace_s=PATIENCE_S)
LONG_S = 200.0  # of vLLM a start is thought to take two minutes, before one was seen
CHILD = Path(__file__).with_name("sleeping_engine.py")


async def started(engine: EngineSupervisor) -> tuple[Admission, int]:
    queue = Admission.of(engine.spec)
    queue.stands_before(engine)
    await engine.start()
    await engine.wait_ready(LONG_S)
    assert engine.pid is not None
    return queue, engine.pid


async def test_an_engine_that_cannot_sleep_is_stopped_and_started_for_the_next_request(supervise: Supervise) -> None:
    engine = supervise(OFTEN, sleep_after_s=0.3)
    queue, pid = await started(engine)
    held = await queue.acquire(NOTHING)
    await asyncio.sleep(0.6)
    assert engine.state == "ready", "somebody is in it"
    held.release()
    await eventually(lambda: engine.state == "sleeping" and engine.pid is None)
    assert is_gone(pid) and engine.retry_after_s == 0, "who asks it is not sent away"
    await queue.acquire(NOTHING)
    address = await engine.wait_ready(PATIENCE_S)
    assert engine.generation == 2 and engine.pid != pid
    assert (await fetch(address, "POST", "/v1/chat/completions", chat(max_tokens=2)))[0] == 200


async def test_who_cannot_wait_for_it_to_wake_is_told_at_once_and_it_wakes_all_the_same(supervise: Supervise) -> None:
    engine = supervise(OFTEN, sleep_after_s=0.1)
    await started(engine)
    await eventually(lambda: engine.state == "sleeping" and engine.pid is None)
    asked = asyncio.create_task(engine.wait_ready(0.001))
    await asyncio.wait([asked])
    assert "slept, and wakes" in str(asked.exception())
    assert engine.state == "waking" and engine.retry_after_s >= 1
    await eventually(lambda: engine.state == "ready")


async def test_one_that_can_sleep_keeps_its_process(supervise: Supervise, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    engine = supervise(OFTEN, (sys.executable, "-I", str(CHILD), str(seen)), kind="vllm", sleep_after_s=0.2)
    _, pid = await started(engine)
    await eventually(lambda: engine.state == "sleeping" and "POST /sleep?level=1" in seen.read_text())
    assert engine.address is None and engine.pid == pid
    await engine.wait_ready(PATIENCE_S)
    assert (engine.generation, engine.pid) == (1, pid)
    asked = [line for line in seen.read_text().splitlines() if line.startswith("POST")]
    assert asked[:2] == ["POST /sleep?level=1", "POST /wake_up"]


async def test_one_that_dies_in_its_sleep_is_started_again(supervise: Supervise, tmp_path: Path) -> None:
    engine = supervise(OFTEN, (sys.executable, "-I", str(CHILD), str(tmp_path / "seen")), kind="vllm", sleep_after_s=0.2)
    _, pid = await started(engine)
    await eventually(lambda: engine.state == "sleeping" and "its process stays" in engine.detail)  # killed earlier it is stopped until it is wanted
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: engine.generation == 2 and engine.state == "ready")


async def test_one_that_sleeps_is_stopped_without_a_trace(supervise: Supervise, tmp_path: Path) -> None:
    engine = supervise(OFTEN, (sys.executable, "-I", str(CHILD), str(tmp_path / "seen")), kind="vllm", sleep_after_s=0.2)
    _, pid = await started(engine)
    await eventually(lambda: engine.state == "sleeping")
    await engine.stop()
    assert engine.state == "stopped" and is_gone(pid)
