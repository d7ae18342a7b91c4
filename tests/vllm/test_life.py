# ruff: noqa: ASYNC240 - small local files do not block
"""A vLLM engine's life: its start is told, who leaves is stopped in every phase, its core is killed, it sleeps and wakes, nothing is left of it."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from providers.local.admission import Admission
from providers.local.backend import EngineBackend
from providers.local.prefills import Prefills
from tests.gateway.conftest import KEY, Gateway, running
from tests.vllm.conftest import AUTH, CHECKPOINT, PATIENCE_S, PYTHON, engine_of, eventually, group_of

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]
LONG = "Once upon a time there was a small fox who lived near the river and liked to count stones. " * 60  # about 1,200 tokens: some seconds
SLOW = 5.0  # how much longer a machine that others use too may take; what it took is printed (`-rP`)
MOST_TOKENS = 10  # 2 or 3 in 100 ms, and what a look at the engine takes


def body(content: str, **more: Any) -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": content}], "max_tokens": 400, "ignore_eos": True, **more}


def core_of(gateway: Gateway, process: str) -> int:
    """vLLM's core, or its worker, among the engine's processes."""
    for pid in group_of(engine_of(gateway).pid or 0):
        if b"VLLM::" + process.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError(f"the engine has no {process}")


async def told(gateway: Gateway, *names: str) -> float:
    """The sum of those metrics, asked of the engine itself, now."""
    address = engine_of(gateway).address
    assert address is not None
    reader, writer = await asyncio.open_unix_connection(str(address.origin.uds))
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")
    page = (await reader.read()).decode()
    writer.close()
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(tuple(f"vllm:{name}{{" for name in names)))


async def until(gateway: Gateway, holds: Callable[[float], bool], *names: str) -> float:
    """Waits until that holds of those metrics; seconds."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not holds(await told(gateway, *names)):
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def until_running(gateway: Gateway, count: int) -> float:
    """Waits for so many requests in the engine; seconds."""
    return await until(gateway, lambda found: found == count, "num_requests_running", "num_requests_waiting")


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def ready(gateway: Gateway) -> None:
    await engine_of(gateway).wait_ready(PATIENCE_S)


async def test_its_start_was_told_step_by_step_and_the_gateway_was_not_ready(tmp_path: Path) -> None:
    text = f"""
state: {{database: "sqlite:///{tmp_path}/turnout.db"}}
engines:
  meanings: {{kind: vllm, python: "{PYTHON}", model: "{CHECKPOINT}", slots: 2, context: 512, sleep_when_idle: 2,
             args: [--enforce-eager, --runner, pooling, --convert, embed]}}
models: {{meaning: {{targets: [{{engine: meanings}}]}}}}
teams: {{search: {{keys: [{KEY}]}}}}
"""
    async with running(text, tmp_path) as gateway:
        stages = set()
        async with asyncio.timeout(PATIENCE_S):
            while (seen := await gateway.http.get("/health/ready")).status_code == 503:
                assert seen.json()["status"] == "starting" and seen.json()["engines"]["meanings"]["ready_in_s"] is not None
                stages.add(seen.json()["engines"]["meanings"]["stage"])
                await asyncio.sleep(0.02)
        assert any("loading the weights" in (stage or "") for stage in stages), stages
        await embeds_and_sleeps_and_wakes(gateway)
        group = engine_of(gateway, "meanings").pid
        assert group is not None and len(group_of(group)) > 2
    assert not group_of(group), "nothing of it is left"


async def embeds_and_sleeps_and_wakes(gateway: Gateway) -> None:
    engine = engine_of(gateway, "meanings")
    gateway.http.timeout = PATIENCE_S
    answer = await gateway.post({"model": "meaning", "input": ["a cat", "a kitten"]}, path="/v1/embeddings")
    assert [len(each["embedding"]) for each in answer.json()["data"]] == [576, 576], answer.text
    chat = await gateway.post({"model": "meaning", "messages": [{"role": "user", "content": "a cat"}]})
    assert chat.status_code == 400 and "'meanings' is not one for /chat/completions" in chat.text
    slept = engine.pid
    await eventually(lambda: engine.state == "sleeping" and engine.pid is None)
    assert slept is not None and not group_of(slept), "vLLM has no sleep on a CPU, so its processes are gone"
    seen = await gateway.http.get("/health/ready")
    assert seen.status_code == 200 and seen.json()["engines"]["meanings"]["state"] == "sleeping"
    early = await gateway.post({"model": "meaning", "input": "a dog"}, path="/v1/embeddings")
    assert early.status_code in (200, 503), "it is woken; who cannot wait so long is told when to come"
    await engine.wait_ready(PATIENCE_S)
    assert (await gateway.post({"model": "meaning", "input": "a dog"}, path="/v1/embeddings")).status_code == 200


async def stopped(gateway: Gateway, asked: asyncio.Task[Any]) -> None:
    """He who asked leaves, and the engine computes no more for him than it does in some 100 ms, counted in tokens: they do not depend on who else
    uses the machine. The time is printed."""
    before = await told(gateway, "generation_tokens_total")
    asked.cancel()
    took_s = await until_running(gateway, 0)
    tokens = await told(gateway, "generation_tokens_total") - before
    print(f"stopped after {took_s * 1000:.0f} ms and {tokens:.0f} tokens")
    assert tokens <= MOST_TOKENS


async def decoding(gateway: Gateway, wanted: dict[str, Any], path: str = "/v1/chat/completions") -> asyncio.Task[Any]:
    before = await told(gateway, "generation_tokens_total")
    asked = asyncio.create_task(gateway.post(wanted, path=path))
    await until(gateway, lambda tokens: tokens > before + 3, "generation_tokens_total")
    return asked


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_it_decodes_stops_it(gateway: Gateway, stream: bool) -> None:
    await stopped(gateway, await decoding(gateway, body("Tell me a story.", stream=stream, max_tokens=1500)))


async def test_who_leaves_a_whole_completion_stops_it_too(gateway: Gateway) -> None:
    """vLLM is asked for it whole, not streamed."""
    wanted = {"model": "chat", "prompt": "Once upon a time", "max_tokens": 1500, "ignore_eos": True}
    await stopped(gateway, await decoding(gateway, wanted, "/v1/completions"))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_while_his_prompt_is_read_stops_it(gateway: Gateway, stream: bool) -> None:
    asked = asyncio.create_task(gateway.post(body(f"{stream} {LONG}", stream=stream)))
    await until_running(gateway, 1)
    await stopped(gateway, asked)


async def test_who_leaves_the_queue_never_enters(gateway: Gateway) -> None:
    queue = gateway.runtime.backends[0].admission  # type: ignore[attr-defined]
    busy = [asyncio.create_task(gateway.post(body(f"{number} stories", max_tokens=1500))) for number in range(4)]
    await eventually(lambda: queue.requests == 4)
    waits = [asyncio.create_task(gateway.post(body("One more", stream=stream))) for stream in (True, False)]
    await eventually(lambda: queue.waiting == 2)
    for each in waits:
        each.cancel()
    began = time.monotonic()
    await eventually(lambda: queue.waiting == 0)
    assert time.monotonic() - began <= 0.1 * SLOW
    for each in busy:
        each.cancel()
    await until_running(gateway, 0)
    await eventually(lambda: queue.requests == 0)


async def streamed(gateway: Gateway, number: int, begun: asyncio.Event) -> tuple[str, float]:
    """All that came, and when it ended."""
    text, asked = "", body(f"Story {number}", stream=True, max_tokens=1500)
    async with gateway.http.stream("POST", "/v1/chat/completions", json=asked, headers=AUTH) as answer:
        async for piece in answer.aiter_text():
            text += piece
            begun.set()
    return text, time.monotonic()


@pytest.mark.parametrize(
    ("process", "fault", "within_s"),
    [("EngineCore", signal.SIGKILL, 1.0), ("EngineCore", signal.SIGSTOP, 4.5), ("Worker", signal.SIGSTOP, 4.5)],
    ids=["core killed", "core stopped", "worker stopped"],
)
async def test_its_core_is_lost_under_streams_which_are_told_and_the_queue_waits_for_the_next(
    gateway: Gateway, process: str, fault: signal.Signals, within_s: float
) -> None:
    engine = engine_of(gateway)
    queue = gateway.runtime.backends[0].admission  # type: ignore[attr-defined]
    generation, pid, address = engine.generation, engine.pid, engine.address
    assert pid is not None and address is not None
    begun = [asyncio.Event() for _ in range(4)]
    streams = [asyncio.create_task(streamed(gateway, number, each)) for number, each in enumerate(begun)]
    await asyncio.gather(*(each.wait() for each in begun))
    queued = [asyncio.create_task(gateway.post(body(f"{number} queue", max_tokens=2, stream=False))) for number in range(2)]
    await eventually(lambda: queue.waiting == 2)
    began = time.monotonic()
    os.kill(core_of(gateway, process), fault)
    told = await asyncio.gather(*streams)
    assert all("local_engine_lost" in text and "[DONE]" not in text for text, _ in told), [text[-300:] for text, _ in told]
    print(f"told after {(max(at for _, at in told) - began) * 1000:.0f} ms: {engine.reason or engine.detail}")
    assert max(at for _, at in told) - began <= within_s * SLOW
    assert engine.state == "restarting"
    for answer in await asyncio.gather(*queued):  # who cannot wait so long is told when to come
        assert answer.status_code == 200 or (answer.status_code == 503 and int(answer.headers["retry-after"]) > 0), answer.text
        print(f"queued: {answer.status_code}")
    await engine.wait_ready(PATIENCE_S)
    assert engine.generation == generation + 1
    assert not group_of(pid) and not Path(str(address.origin.uds)).exists(), "neither a process nor its socket is left"
    assert (await gateway.post(body("Hi", max_tokens=2))).status_code == 200


async def test_short_prompts_keep_their_promise_beside_one_that_is_too_slow_for_it(tmp_path: Path) -> None:
    """Its own measured speed sets the promise: half as long as the long prompt takes alone."""
    text = f"""
state: {{database: "sqlite:///{tmp_path}/turnout.db"}}
engines:
  own: {{kind: vllm, python: "{PYTHON}", model: "{CHECKPOINT}", slots: 4, context: 2048, max_wait_s: 60, ttft_ms: 60000, dtype: bfloat16,
        args: [--enforce-eager]}}
models: {{chat: {{targets: [{{engine: own}}]}}}}
teams: {{search: {{keys: [{KEY}]}}}}
"""
    async with running(text, tmp_path) as gateway:
        gateway.http.timeout = PATIENCE_S
        await engine_of(gateway).wait_ready(PATIENCE_S)
        backend = gateway.runtime.routes.exact["chat"].targets[0].backend
        assert isinstance(backend, EngineBackend) and isinstance(backend.admission, Admission)
        assert (await gateway.post(body("Hello.", max_tokens=1))).status_code == 200, "the first is slower than any other"
        began = time.monotonic()
        assert (await gateway.post(body(f"0 {LONG}", max_tokens=1))).status_code == 200
        promised_s = (time.monotonic() - began) / 2
        backend.admission.prefills = Prefills(promised_s, slow_share=engine_of(gateway).spec.slow_share)
        assert (await gateway.post(body(f"1 {LONG}", max_tokens=1))).status_code == 200, "by whose speed the next is too slow"
        slow = asyncio.create_task(gateway.post(body(f"2 {LONG}", max_tokens=1)))
        kept = []
        while not slow.done() and len(kept) < 40:
            began = time.monotonic()
            answer = await gateway.post(body(f"{len(kept)} hello", max_tokens=1))
            kept.append(answer.status_code == 200 and time.monotonic() - began <= promised_s)
        assert (await slow).status_code == 200 and len(kept) >= 3 and sum(kept) >= 0.9 * len(kept), kept
