"""Real engines for the tests: the built-in weights, few slots, and a supervisor that is stopped whatever happens."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from providers.http.client import PooledClient
from providers.local.spec import EngineSpec, Pace
from providers.local.supervisor import EngineSupervisor
from providers.local.weights import resolve_model

WEIGHTS = str(resolve_model("builtin:smollm2-135m-instruct"))
PATIENCE_S = 60.0  # for what takes a second on a quiet machine
QUICK = Pace(first_backoff_s=0.05, max_backoff_s=0.2, stop_grace_s=PATIENCE_S)


def engine_spec(**fields: Any) -> EngineSpec:
    small: dict[str, Any] = {
        "name": "cpu",
        "model_path": WEIGHTS,
        "slots": 2,
        "threads": 1,  # two would spin while they wait for each other on a busy machine
        "ctx_per_slot": 512,
        "max_prompt_tokens": 256,
        "max_wait_s": PATIENCE_S,
    }
    return EngineSpec(**{**small, **fields})


async def eventually(holds: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    """Waits until `holds()`; fails the test after `limit_s`."""
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


def is_gone(pid: int) -> bool:
    """True when no such process runs; a zombie whose new parent has not looked yet does not run."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    except (ProcessLookupError, FileNotFoundError):
        return True


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    client = PooledClient()
    yield client
    await client.aclose()


@pytest.fixture
async def supervise(client: PooledClient) -> AsyncIterator[Callable[..., EngineSupervisor]]:
    """Makes supervisors, and stops them after the test."""
    made: list[EngineSupervisor] = []

    def make(pace: Pace = QUICK, command: tuple[str, ...] | None = None, **fields: Any) -> EngineSupervisor:
        made.append(EngineSupervisor(engine_spec(**fields), client, pace, *([command] if command else [])))
        return made[-1]

    yield make
    for supervisor in made:
        await supervisor.stop()
