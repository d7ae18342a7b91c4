"""Clients who leave while they wait for an engine, while it reads their prompt, and while it decodes: when the gateway lets go of the engine, and
when the engine stops. `make engine-leaving` prints the times, of llama.cpp and, where TURNOUT_VLLM names what `make test-vllm` made, of vLLM.

The client is a process of its own and so is the engine; whoever leaves is alone in the engine, except in the queue.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Literal

import uvloop

from providers.local.admission import Admission
from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running

Phase = Literal["queue", "prefill", "decode"]
PHASES: tuple[Phase, ...] = ("queue", "prefill", "decode")
LEAVER = Path(__file__).with_name("leaver.py")
LONG = "Once upon a time there was a small fox who lived near the river and liked to count stones. "  # 20 tokens
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
ANSWERS = (("streamed", True, CHAT), ("whole", False, CHAT))
COMPLETIONS = (("completion, whole", False, COMPLETION),)  # which vLLM is asked for whole, and not streamed
PATIENCE_S = 240.0
WATCHED = {"llamacpp": "/slots", "vllm": "/metrics"}
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
engines: {{own: {{slots: 1, context: 2048, max_wait_s: 60, {engine}}}}}
models: {{own: {{targets: [{{engine: own}}]}}}}
teams: {{search: {{keys: [{key}]}}}}
"""
LLAMACPP = 'kind: llamacpp, model: "builtin:smollm2-135m-instruct"'


@dataclass(frozen=True)
class Left:
    """Milliseconds since the client left. `closed`: until the gateway had closed its connection to the engine, or, of one in the queue, his place in
    it was given up; `idle`: until the engine worked on nothing; None in the queue."""

    closed: float
    idle: float | None


@dataclass
class World:
    gateway: Gateway
    engine: EngineSupervisor
    queue: Admission
    asked: int = 0

    def body(self, prompt: str, stream: bool, path: str) -> dict[str, Any]:
        self.asked += 1
        prompt = f"{self.asked}: {prompt}"  # which no prefix cache has
        more = {"prompt": prompt} if path == COMPLETION else {"messages": [{"role": "user", "content": prompt}]}
        return {"model": "own", "stream": stream, "max_tokens": 400, "ignore_eos": True, **more}

    async def leave(self, phase: Phase, stream: bool, path: str = CHAT) -> Left:
        """One who leaves; the engine is idle before and after."""
        await self.engine.wait_ready(PATIENCE_S)
        busy = asyncio.create_task(self.gateway.post(self.body("A long story", True, CHAT))) if phase == "queue" else None
        while busy is not None and self.queue.running == 0:
            await asyncio.sleep(0.001)
        body = self.body(LONG * 60 if phase == "prefill" else "Tell me a story.", stream, path)
        leaver = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(LEAVER), self._orders(phase, path, body), stdout=asyncio.subprocess.PIPE
        )
        if busy is None:
            told = json.loads((await leaver.communicate())[0])
            await self._rest()
            return Left(told["closed"], told["idle"])
        async with asyncio.timeout(PATIENCE_S):
            while self.queue.waiting == 0:
                await asyncio.sleep(0.001)
            while self.queue.waiting:
                await asyncio.sleep(0.0005)
        at = monotonic()
        told = json.loads((await leaver.communicate())[0])
        busy.cancel()
        await self._rest()
        return Left((at - told["left"]) * 1e3, None)

    def _orders(self, phase: Phase, path: str, body: dict[str, Any]) -> str:
        address = self.engine.address
        assert address is not None
        engine = {"socket": str(address.origin.uds), "authorization": address.authorization.decode(), "path": WATCHED[self.engine.spec.speaks]}
        gateway = {"url": self.gateway.url, "key": KEY, "gateway": os.getpid(), "asked": path, "pause_s": 0.5}
        return json.dumps({**gateway, **engine, "phase": phase, "body": body})

    async def _rest(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.queue.requests or (self.engine.reading is not None and self.engine.reading.running):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def world(folder: Path, engine: str = LLAMACPP) -> AsyncIterator[World]:
    async with running(CONFIG.format(folder=folder, engine=engine, key=KEY), folder) as gateway:
        gateway.http.timeout = PATIENCE_S
        supervisor, queue = gateway.runtime.engines["own"], gateway.runtime.backends[0].admission  # type: ignore[attr-defined]
        assert isinstance(supervisor, EngineSupervisor) and isinstance(queue, Admission)
        await supervisor.wait_ready(PATIENCE_S)
        yield World(gateway, supervisor, queue)


def vllm(folder: str) -> str:
    home = Path(folder).absolute()
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"  # GiB
    return f'kind: vllm, python: "{home}/bin/python", model: "{home}/model/checkpoint", dtype: bfloat16, args: [--enforce-eager]'


async def main(rounds: int) -> None:
    engines = {"llama.cpp": LLAMACPP}
    if home := os.environ.get("TURNOUT_VLLM"):
        engines["vLLM"] = vllm(home)
    print(f"{'engine':10} {'phase':8} {'answer':18} {'times':>5} {'gateway, ms: p50':>17} {'max':>7} {'engine, ms: p50':>16} {'max':>7}")
    for name, engine in engines.items():
        with tempfile.TemporaryDirectory() as folder:
            async with world(Path(folder), engine) as here:
                for phase in PHASES:
                    for kind, stream, path in (*ANSWERS, *(COMPLETIONS if name == "vLLM" else ())):
                        found = [await here.leave(phase, stream, path) for _ in range(rounds)]
                        ours, its = [each.closed for each in found], [each.idle - each.closed for each in found if each.idle is not None]
                        engine_s = f"{median(its):>16.0f} {max(its):>7.0f}" if its else f"{'-':>16} {'-':>7}"
                        print(f"{name:10} {phase:8} {kind:18} {len(found):>5} {median(ours):>17.1f} {max(ours):>7.1f} {engine_s}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    uvloop.run(main(parser.parse_args().rounds))
