# ruff: noqa: ASYNC230, ASYNC240 - small local files do not block
"""The supervisor over real children: ready, crash, restart, starts in vain, hang, stop. No state is read before it is reached."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from contract.errors import EngineUnavailable
from providers.http.client import PooledClient
from providers.local.spec import Pace
from providers.local.supervisor import EngineSupervisor
from providers.local.vllm_command import environment, serve_command
from tests.providers.local.conftest import PATIENCE_S, QUICK, WEIGHTS, engine_spec, eventually, is_gone
from tests.providers.local.raw import chat, fetch, send

Supervise = Callable[..., EngineSupervisor]
NEVER_READY = (sys.executable, "-I", "-c", "import sys; sys.stdin.read()")


async def started(supervisor: EngineSupervisor) -> EngineSupervisor:
    await supervisor.start()
    await supervisor.wait_ready(PATIENCE_S)
    return supervisor


def pid_of(supervisor: EngineSupervisor) -> int:
    assert supervisor.pid is not None
    return supervisor.pid


async def test_an_engine_starts_answers_and_stops_without_a_trace(supervise: Supervise) -> None:
    engine = supervise()
    assert (engine.state, engine.address, engine.pid) == ("stopped", None, None)
    await engine.start()
    assert engine.state == "starting" and engine.retry_after_s >= 1
    address = await engine.wait_ready(PATIENCE_S)
    assert (engine.state, engine.generation, engine.retry_after_s) == ("ready", 1, 0)
    assert (await fetch(address, "POST", "/v1/chat/completions", chat(max_tokens=2)))[0] == 200
    pid, folder = pid_of(engine), Path(str(address.origin.uds)).parent
    await engine.stop()
    assert (engine.state, engine.address, engine.pid) == ("stopped", None, None)
    assert is_gone(pid) and not folder.exists()
    await engine.stop()


async def test_a_killed_child_is_replaced_and_the_stream_in_it_breaks_at_once(supervise: Supervise) -> None:
    engine = await started(supervise())
    first = await engine.wait_ready(0)
    reader, writer = await send(first, "POST", "/v1/chat/completions", chat(stream=True, ignore_eos=True))
    await reader.readuntil(b'"content":"')
    os.kill(pid_of(engine), signal.SIGKILL)
    async with asyncio.timeout(10):
        assert b"[DONE]" not in await reader.read()
        await eventually(lambda: engine.state == "restarting")
    writer.close()
    assert engine.address is None
    second = await engine.wait_ready(PATIENCE_S)
    assert engine.generation == second.generation == 2
    assert second.authorization != first.authorization and second.origin != first.origin
    assert (await fetch(second, "GET", "/v1/models"))[0] == 200
    assert not Path(str(first.origin.uds)).parent.exists()


async def test_exit_code_0_is_a_crash_too(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(first_backoff_s=PATIENCE_S)))
    os.kill(pid_of(engine), signal.SIGTERM)  # the child ends cleanly, and nobody of us asked it to
    await eventually(lambda: engine.detail.startswith("exited with code 0"))
    assert engine.state == "restarting" and engine.retry_after_s > PATIENCE_S / 2


async def test_who_waits_is_told_at_once_when_the_engine_will_not_be_back_in_time(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(first_backoff_s=PATIENCE_S)))
    os.kill(pid_of(engine), signal.SIGKILL)
    await eventually(lambda: engine.retry_after_s > PATIENCE_S / 2)
    async with asyncio.timeout(1):
        with pytest.raises(EngineUnavailable) as refused:
            await engine.wait_ready(5)
    assert refused.value.retry_after_s is not None and refused.value.retry_after_s > PATIENCE_S / 2


async def test_starts_that_come_to_nothing_are_told_of_with_the_engine_s_own_words_and_go_on(supervise: Supervise, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    with Path(WEIGHTS).open("rb") as whole:
        model.write_bytes(whole.read(1_000_000))
    engine = supervise(model_path=str(model))
    await engine.start()
    await eventually(lambda: engine.state == "failed")
    assert engine.generation == 5 and engine.retry_after_s >= 1
    assert "5 starts in a row" in engine.detail and "exited with code 1" in engine.detail and "failed to load model" in engine.detail
    assert engine.reason is not None and engine.reason.startswith("exited with code 1: ") and "\n" not in engine.reason
    with pytest.raises(EngineUnavailable, match=r"is down, and will be back in about \d+ s: exited with code 1"):
        await engine.wait_ready(PATIENCE_S)
    await eventually(lambda: engine.generation > 5)
    model.unlink()
    model.symlink_to(WEIGHTS)
    await eventually(lambda: engine.state == "ready")
    assert engine.reason is None and engine.standing == "is ready"


async def test_an_engine_that_was_ready_between_its_crashes_comes_back_each_time(supervise: Supervise) -> None:
    engine = await started(supervise())
    for crash in range(1, 8):
        os.kill(pid_of(engine), signal.SIGKILL)
        await eventually(lambda ended=crash: engine.generation > ended)  # type: ignore[misc]
        await engine.wait_ready(PATIENCE_S)
    assert (engine.state, engine.generation) == ("ready", 8)


async def test_a_child_that_is_never_ready_is_ended_and_counted_as_a_crash(supervise: Supervise) -> None:
    engine = supervise(Pace(first_backoff_s=0.01, max_starts=2), command=NEVER_READY, start_timeout_s=0.2)
    await engine.start()
    await eventually(lambda: engine.state == "failed")
    assert "was not ready within 0.2 s" in engine.detail and engine.pid is None


async def test_a_command_that_cannot_be_run_is_a_crash_with_its_reason(supervise: Supervise) -> None:
    engine = supervise(Pace(first_backoff_s=0.01, max_starts=2), command=("/nowhere/engine",))
    await engine.start()
    await eventually(lambda: engine.state == "failed")
    assert "could not be started" in engine.detail and "/nowhere/engine" in engine.detail


async def test_a_child_that_answers_no_health_check_is_killed_and_replaced(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(first_backoff_s=0.01, health_every_s=0.05, health_timeout_s=2.0, health_failures=2)))
    pid = pid_of(engine)
    os.kill(pid, signal.SIGSTOP)
    await eventually(lambda: engine.generation > 1)
    assert is_gone(pid)
    await engine.wait_ready(PATIENCE_S)


async def test_a_child_that_is_stopped_is_taken_for_hung_at_its_first_unanswered_check(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(first_backoff_s=0.01, health_every_s=0.05, health_timeout_s=PATIENCE_S, still_s=0.5)))
    os.kill(pid_of(engine), signal.SIGSTOP)
    await eventually(lambda: engine.generation > 1)
    assert engine.reason == "hung: it neither answered nor computed anything for 0.5 s"
    await engine.wait_ready(PATIENCE_S)


async def test_a_child_that_hardly_gets_a_processor_is_no_hung_one(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(health_every_s=0.01, health_timeout_s=PATIENCE_S, still_s=0.5)))
    os.setpriority(os.PRIO_PROCESS, pid_of(engine), 19)
    hogs = [await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", "while True: pass") for _ in range(8)]
    try:
        address = await engine.wait_ready(0)
        assert (await fetch(address, "POST", "/v1/chat/completions", chat(max_tokens=2, ignore_eos=True)))[0] == 200
        await asyncio.sleep(3)
    finally:
        for hog in hogs:
            hog.kill()
            await hog.wait()
    assert (engine.state, engine.generation) == ("ready", 1)


async def test_a_healthy_child_passes_its_checks(supervise: Supervise) -> None:
    engine = await started(supervise(Pace(health_every_s=0.01, health_failures=1, health_timeout_s=PATIENCE_S)))
    await asyncio.sleep(0.5)  # some dozen checks
    assert (engine.state, engine.generation) == ("ready", 1)


async def test_a_reported_hang_kills_the_child_it_is_about_and_no_later_one(supervise: Supervise) -> None:
    engine = await started(supervise())
    engine.give_up(1, "gave no token for 60 s")
    await eventually(lambda: engine.generation == 2)
    assert engine.detail.startswith("gave no token for 60 s")
    await engine.wait_ready(PATIENCE_S)
    pid = engine.pid
    engine.give_up(1, "an old tale")
    await asyncio.sleep(0.1)
    assert (engine.state, engine.pid) == ("ready", pid)


async def test_the_loss_of_a_child_is_told_of_its_generation(supervise: Supervise) -> None:
    engine = await started(supervise())
    assert not await engine.is_lost(1, within_s=0.01)
    watch = asyncio.create_task(engine.is_lost(1, within_s=PATIENCE_S))
    await asyncio.sleep(0)
    os.kill(pid_of(engine), signal.SIGKILL)
    assert await watch
    await engine.wait_ready(PATIENCE_S)
    assert await engine.is_lost(1, within_s=0) and not await engine.is_lost(2, within_s=0.01)


async def test_stopping_while_it_starts_or_waits_to_restart_leaves_nothing(supervise: Supervise) -> None:
    engine = supervise(Pace(first_backoff_s=PATIENCE_S), command=NEVER_READY)
    await engine.start()
    await eventually(lambda: engine.pid is not None)
    pid = pid_of(engine)
    waiter = asyncio.create_task(engine.wait_ready(PATIENCE_S))
    await asyncio.sleep(0)
    await engine.stop()
    assert is_gone(pid)
    with pytest.raises(EngineUnavailable, match="is stopped"):
        await waiter
    await engine.start()
    await eventually(lambda: engine.pid is not None)
    os.kill(pid_of(engine), signal.SIGKILL)
    await eventually(lambda: engine.detail.startswith("killed by signal 9"))
    await engine.stop()
    assert engine.state == "stopped"


def test_it_works_under_uvloop_too() -> None:
    async def life() -> None:
        client = PooledClient()
        engine = await started(EngineSupervisor(engine_spec(), client, QUICK))
        os.kill(pid_of(engine), signal.SIGKILL)
        await eventually(lambda: engine.generation == 2)
        address = await engine.wait_ready(PATIENCE_S)
        assert (await fetch(address, "POST", "/v1/chat/completions", chat(max_tokens=2)))[0] == 200
        pid = pid_of(engine)
        await engine.stop()
        await client.aclose()
        assert is_gone(pid)

    uvloop.run(life())


# A gateway in small: it starts the engine, says so, and waits to be killed.
GATEWAY = """
import asyncio, sys
from providers.http.client import PooledClient
from providers.local.spec import EngineSpec
from providers.local.supervisor import EngineSupervisor
from providers.local.vllm_command import environment

async def main():
    spec = EngineSpec(name="cpu", model_path=sys.argv[1], slots=1, ctx_per_slot=256, max_prompt_tokens=128)
    engine = EngineSupervisor(spec, PooledClient())
    await engine.start()
    address = await engine.wait_ready(100)
    print(engine.pid, address.origin.uds, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_a_gateway_killed_outright_takes_its_engine_with_it_and_the_next_one_clears_up(supervise: Supervise) -> None:
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-I", "-c", GATEWAY, WEIGHTS, stdout=asyncio.subprocess.PIPE)
    assert gateway.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        while len(words := (await gateway.stdout.readline()).decode().split()) != 2:
            assert words, "the gateway ended"
    pid, path = words
    assert not is_gone(int(pid))
    gateway.kill()
    await gateway.wait()
    await eventually(lambda: is_gone(int(pid)))
    assert Path(path).parent.exists(), "nobody was left to remove it"
    engine = await started(supervise())
    assert not Path(path).parent.exists(), "the next gateway does"
    assert (await fetch(await engine.wait_ready(0), "GET", "/v1/models"))[0] == 200


async def test_an_engine_sees_the_gpus_that_are_its_own(supervise: Supervise) -> None:
    engine = await started(supervise(gpus=(2, 3)))
    assert b"CUDA_VISIBLE_DEVICES=2,3" in Path(f"/proc/{pid_of(engine)}/environ").read_bytes().split(b"\0")
    assert environment(engine_spec(kind="vllm", gpus=(0,)), "key")["CUDA_VISIBLE_DEVICES"] == "0"


def test_vllm_fetches_from_the_domains_that_it_is_given_and_from_no_other() -> None:
    closed, given = [serve_command(engine_spec(kind="vllm", media_domains=domains), "s") for domains in ((), ("a.example", "b.example"))]
    assert closed[closed.index("--allowed-media-domains") + 1] == "none.invalid"
    at = given.index("--allowed-media-domains")
    assert given[at + 1 : at + 3] == ("a.example", "b.example") and given[at + 3].startswith("--")
    assert environment(engine_spec(kind="vllm"), "key")["VLLM_MEDIA_URL_ALLOW_REDIRECTS"] == "0"
