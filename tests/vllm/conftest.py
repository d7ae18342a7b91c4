"""Real vLLM on this machine's CPU, as engines of a real gateway. `TURNOUT_VLLM`: the folder that `make test-vllm` made."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running

HOME = Path(os.environ.get("TURNOUT_VLLM", ".venv-vllm")).absolute()
PYTHON, CHECKPOINT, ADAPTER = HOME / "bin" / "python", HOME / "model" / "checkpoint", HOME / "model" / "adapter"
PATIENCE_S = 240.0  # of a start: vLLM itself takes about 40 s of two processors that are not busy
ENGINE = (
    f'kind: vllm, python: "{PYTHON}", model: "{CHECKPOINT}", slots: 4, context: 2048, max_wait_s: 60, tool_parser: hermes, dtype: bfloat16, '
    f'adapters: {{tuned: "{ADAPTER}"}}, args: [--enforce-eager, --max-lora-rank, "8"]'
)
AUTH = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(autouse=True, scope="session")
def small_cache() -> None:
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB


def engine_of(gateway: Gateway, name: str = "own") -> EngineSupervisor:
    engine = gateway.runtime.engines[name]
    assert isinstance(engine, EngineSupervisor)
    return engine


async def eventually(holds: Callable[[], bool], limit_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


def group_of(pid: int) -> set[int]:
    """The processes of an engine's group that run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == pid and fields[0] not in "ZX":
                found.add(int(entry.name))
    return found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("vllm")
    text = f"""
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines:
  own: {{{ENGINE}}}
models:
  chat: {{targets: [{{engine: own}}]}}
  local: {{targets: [{{engine: own}}]}}
  tuned: {{targets: [{{engine: own, model: tuned}}]}}
teams:
  search: {{keys: [{KEY}]}}
"""
    async with running(text, folder) as gateway:
        gateway.http.timeout = PATIENCE_S
        yield gateway
