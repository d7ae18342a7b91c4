# ruff: noqa: ASYNC240 - small local files do not block
"""The supervisor over children whose server outlives what computes, as vLLM's does: it is taken for lost all the same, and the whole group ends."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from contract.errors import AttemptError, ConnectFailed, EngineLost, EngineUnavailable, UpstreamError
from providers.http.client import PooledClient
from providers.http.port import Clocks, Endpoint
from providers.local.computing import members
from providers.local.cores import Cores
from providers.local.loss import judged
from providers.local.spec import Pace
from providers.local.supervisor import EngineSupervisor
from tests.providers.local.conftest import PATIENCE_S, QUICK, eventually, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of another's processes")
CHILD = Path(__file__).with_name("cored_engine.py")
UNCHECKED = replace(
    QUICK, first_backoff_s=0.5, max_backoff_s=1.0, stop_grace_s=1.0, health_every_s=PATIENCE_S, core_every_s=0.01, still_s=0.3, silent_s=PATIENCE_S
)  # its health is not looked at
CLOCKS = Clocks(connect_s=PATIENCE_S, headers_s=PATIENCE_S, first_token_s=PATIENCE_S, idle_s=PATIENCE_S, total_s=PATIENCE_S)

Supervise = Callable[..., EngineSupervisor]
Start = Callable[..., Awaitable[EngineSupervisor]]


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """The file that makes the engine's server say that its core is dead."""
    return tmp_path / "dead"


@pytest.fixture
async def start(supervise: Supervise, dead: Path) -> Start:
    async def started(pace: Pace = UNCHECKED) -> EngineSupervisor:
        engine = supervise(pace, command=(sys.executable, "-I", str(CHILD), str(dead)), kind="vllm", python=sys.executable)
        await engine.start()
        await eventually(lambda: engine.state == "ready")  # which a start of vLLM is not thought to be so soon
        return engine

    return started


def core_of(engine: EngineSupervisor) -> int:
    assert engine.pid is not None
    return next(pid for pid in members(engine.pid) if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"VLLM::"))


async def until_back(engine: EngineSupervisor, group: int) -> None:
    """Waits for the second child, and for the end of all that the first one was."""
    await eventually(lambda: engine.generation == 2)
    await eventually(lambda: all(is_gone(pid) for pid in members(group)))
    await engine.wait_ready(PATIENCE_S)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (signal.SIGKILL, "its process VLLM::EngineCore ended"),
        (signal.SIGSTOP, "hung: its process VLLM::EngineCore was stopped for 0.3 s"),
    ],
)
async def test_the_loss_of_its_core_is_the_engine_s(start: Start, fault: signal.Signals, reason: str) -> None:
    engine = await start()
    group, core = engine.pid, core_of(engine)
    assert group is not None and Cores.of(group).titles == ("VLLM::EngineCore",)
    os.kill(core, fault)
    await eventually(lambda: engine.state == "restarting")
    assert engine.detail == reason and engine.retry_after_s >= 1
    await until_back(engine, group)


async def test_one_that_computes_nothing_while_requests_run_is_taken_for_hung(start: Start) -> None:
    engine = await start(replace(UNCHECKED, silent_s=0.5))
    await eventually(lambda: engine.state == "restarting")
    assert engine.detail == "hung: requests ran in it, and it computed nothing for 0.5 s"


async def test_one_whose_server_says_that_its_core_is_dead_is_lost_at_the_next_look(start: Start, dead: Path) -> None:
    engine = await start(replace(UNCHECKED, health_every_s=0.05))
    dead.touch()
    await eventually(lambda: engine.state == "restarting")
    assert engine.detail == "its server says that its core is dead"


async def test_who_fails_in_it_tells_the_supervisor_and_hears_whether_it_is_lost(start: Start, dead: Path, client: PooledClient) -> None:
    engine = await start()
    address = await engine.wait_ready(0)
    failed = UpstreamError("the provider failed in its stream")
    assert await judged(failed, engine, address, client) is failed and engine.state == "ready"
    dead.touch()
    async with asyncio.timeout(PATIENCE_S):  # a look at its health may take too long on a busy machine
        while not isinstance(await judged(failed, engine, address, client), EngineLost):
            pass
    assert engine.state == "restarting" and engine.detail == "its server says that its core is dead"


async def test_an_engine_that_takes_no_connections_is_lost_and_what_was_not_sent_may_wait_for_the_next(start: Start, client: PooledClient) -> None:
    engine = await start()
    address, group = await engine.wait_ready(0), engine.pid
    assert group is not None
    Path(str(address.origin.uds)).unlink()
    newcomer = PooledClient()  # which keeps no connection from before
    with pytest.raises(ConnectFailed) as error:
        await newcomer.send(Endpoint(address.origin, "/v1/models", method="GET"), b"", CLOCKS)
    await newcomer.aclose()
    assert isinstance(await judged(error.value, engine, address, client), EngineUnavailable)
    assert engine.detail == "its server takes no connections"
    await until_back(engine, group)
    want_of_descriptors: AttemptError = ConnectFailed("the gateway could not connect to the upstream")
    assert await judged(want_of_descriptors, engine, await engine.wait_ready(0), client) is want_of_descriptors
    assert engine.generation == 2
