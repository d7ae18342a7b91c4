# ruff: noqa: ASYNC240 - looking at /proc and at a socket's mode does not block
"""The engine's child process, alone: its socket, its key, what it knows, and every way it ends. With the real engine."""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from providers.local.folders import MAX_SOCKET_PATH, SocketFolder
from providers.local.llamacpp_child import READY, SPINS, ChildOrders
from providers.local.process import CHILDREN, EngineProcess
from tests.providers.local.conftest import PATIENCE_S, WEIGHTS, engine_spec, eventually, is_gone
from tests.providers.local.raw import busy_slots, chat, fetch, send


async def ready_child() -> EngineProcess:
    child = await EngineProcess.spawn(engine_spec(), generation=1)
    async with asyncio.timeout(PATIENCE_S):
        assert await child.said_ready(), list(child.tail)
    return child


@pytest.fixture
async def child() -> AsyncIterator[EngineProcess]:
    child = await ready_child()
    yield child
    await child.end(PATIENCE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[EngineProcess]:
    """One engine for the tests that leave it as it was."""
    child = await ready_child()
    yield child
    await child.end(PATIENCE_S)


@pytest.mark.asyncio(loop_scope="module")
async def test_real_tokens_come_over_the_socket(shared: EngineProcess) -> None:
    status, body = await fetch(shared.address, "POST", "/v1/chat/completions", chat("What is the capital of France?", max_tokens=12, temperature=0))
    answer = json.loads(body)
    assert status == 200 and answer["usage"]["completion_tokens"] > 3 and answer["model"] == "cpu"
    assert answer["choices"][0]["message"]["content"].strip()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", ["/v1/models", "/slots", "/metrics", "/props"])
async def test_nothing_but_health_is_told_without_the_key(shared: EngineProcess, path: str) -> None:
    assert (await fetch(shared.address, "GET", path, key=False))[0] == 401
    assert (await fetch(shared.address, "GET", path))[0] == 200
    assert (await fetch(shared.address, "GET", "/health", key=False))[0] == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_only_we_may_reach_the_socket(shared: EngineProcess) -> None:
    path = Path(str(shared.address.origin.uds))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_uid == path.parent.stat().st_uid == os.getuid()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_key_is_in_no_argument_no_environment_and_no_repr(shared: EngineProcess) -> None:
    key = shared.address.authorization.split(b" ")[1]
    assert len(key) >= 40
    for name in ("cmdline", "environ"):
        assert key not in Path(f"/proc/{shared.pid}/{name}").read_bytes()
    assert key.decode() not in repr(shared.address)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_child_leads_a_process_group_of_its_own_and_ignores_ctrl_c(shared: EngineProcess) -> None:
    assert os.getpgid(shared.pid) == os.getsid(shared.pid) == shared.pid
    os.kill(shared.pid, signal.SIGINT)
    assert await shared.exit_within(0.3) is None
    assert (await fetch(shared.address, "GET", "/health"))[0] == 200


@pytest.mark.asyncio(loop_scope="module")
async def test_a_client_that_hangs_up_mid_stream_frees_the_slot(shared: EngineProcess) -> None:
    reader, writer = await send(shared.address, "POST", "/v1/chat/completions", chat(stream=True, ignore_eos=True))
    await reader.readuntil(b'"content":"')
    assert await busy_slots(shared.address) == 1
    writer.close()
    async with asyncio.timeout(PATIENCE_S):
        while await busy_slots(shared.address):
            await asyncio.sleep(0.01)


async def test_sigterm_ends_the_child_cleanly_with_a_stream_open(child: EngineProcess) -> None:
    reader, writer = await send(child.address, "POST", "/v1/chat/completions", chat(stream=True, ignore_eos=True))
    await reader.readuntil(b'"content":"')
    os.kill(child.pid, signal.SIGTERM)
    assert await child.exit_within(PATIENCE_S) == 0
    assert not Path(str(child.address.origin.uds)).exists()
    assert b"[DONE]" not in await reader.read()
    writer.close()


async def test_ending_a_child_leaves_no_process_and_no_folder() -> None:
    child = await ready_child()
    assert await child.end(PATIENCE_S) == 0
    assert is_gone(child.pid)
    assert not Path(str(child.address.origin.uds)).parent.exists()


async def test_a_child_that_hears_no_sigterm_is_killed_after_the_grace(child: EngineProcess) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    assert await child.end(0.2) == -signal.SIGKILL
    assert is_gone(child.pid)


async def test_nothing_of_the_working_folder_or_the_environment_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("providers", "xllamacpp", "msgspec", "json", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-engines")
    child = await ready_child()
    assert b"sk-not-for-engines" not in Path(f"/proc/{child.pid}/environ").read_bytes()
    await child.end(PATIENCE_S)


def orders(folder: Path, parent_pid: int) -> bytes:
    told = ChildOrders(
        socket_path=str(folder / "e.sock"),
        api_key="k",
        model_path=WEIGHTS,
        alias="cpu",
        slots=1,
        ctx_per_slot=256,
        threads=1,
        step_tokens=12,
        parent_pid=parent_pid,
    )
    return msgspec.json.encode(told) + b"\n"


async def test_the_end_of_stdin_ends_the_child_and_a_stale_socket_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "e.sock"))
    process = await asyncio.create_subprocess_exec(*CHILDREN["llamacpp"], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(orders(tmp_path, os.getpid()))
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == READY
        process.stdin.close()
        assert await process.wait() == 0
    assert not (tmp_path / "e.sock").exists()


async def test_its_threads_do_not_keep_processors_from_others_while_they_wait(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *CHILDREN["llamacpp"],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_DISPLAY_ENV": "verbose"},  # what the threads' library goes by, as it says itself
    )
    async with asyncio.timeout(PATIENCE_S):
        _, said = await process.communicate(orders(tmp_path, os.getpid()))
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in said.decode()


async def test_a_child_whose_parent_is_already_gone_does_not_start(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *CHILDREN["llamacpp"], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate(orders(tmp_path, parent_pid=os.getppid()))
    assert process.returncode == 1 and out == b"" and b"the parent is gone" in err


# Starts the child with a stdin that stays open when this parent dies, says the child's pid, and waits to be killed.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[2:], stdin=int(sys.argv[1]), stdout=subprocess.PIPE)
print(child.pid, flush=True)
assert child.stdout.readline()
print("ready", flush=True)
time.sleep(600)
"""


async def test_a_parent_killed_outright_takes_the_child_with_it(tmp_path: Path) -> None:
    theirs, ours = os.pipe()
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", PARENT, str(theirs), *CHILDREN["llamacpp"], stdout=asyncio.subprocess.PIPE, pass_fds=[theirs]
    )
    os.close(theirs)
    assert parent.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        pid = int(await parent.stdout.readline())
        os.write(ours, orders(tmp_path, parent.pid))
        assert await parent.stdout.readline() == b"ready\n"
        assert not is_gone(pid)
        parent.kill()
        await parent.wait()
    await eventually(lambda: is_gone(pid))
    os.close(ours)


def test_a_socket_s_path_stays_short_where_the_temporary_folder_is_deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = SocketFolder()
    assert len(os.fsencode(folder.socket)) <= MAX_SOCKET_PATH
    folder.remove()
