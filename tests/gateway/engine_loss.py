"""A real engine is lost again and again under load: killed, stopped, out of memory. `make engine-loss` does it a hundred times and prints times.

Each time two streams are being answered by the engine (`own`), others wait in its queue with a provider behind it (`backed`), and the provider has
traffic of its own (`managed`).
"""

import argparse
import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import monotonic
from typing import Any

import uvloop

from gateway.workers.host import Host, SharedEngine
from providers.http.client import PooledClient
from providers.local.admission import Admission
from providers.local.spec import EngineSpec, Pace
from providers.local.supervisor import EngineSupervisor
from providers.local.weights import resolve_model
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream
from tests.providers.local.raw import fetch

CGROUP = Path("/sys/fs/cgroup/memory")
# The kernel's own out-of-memory killer, where this user may set a limit for it; elsewhere only the first two are played.
FAULTS = ("kill -9", "hang", *(("out of memory",) if os.access(CGROUP / "cgroup.procs", os.W_OK) else ()))
LIMIT_BYTES = 1 << 20
HUNGRY = {"content": "word " * 4_000_000}
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 2, context: 512}}}}
models:
  own: {{targets: [{{engine: cpu}}]}}
  backed: {{targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
  managed: {{targets: [{{provider: one, model: m1}}]}}
teams: {{search: {{keys: [{key}]}}}}
"""
PACE = Pace(first_backoff_s=0.05, max_backoff_s=0.05)  # a loss follows the other here; the rest is the pace of any gateway
QUEUED = 4
AUTH = {"authorization": f"Bearer {KEY}"}


@dataclass
class Outcome:
    """One loss. `told_s`: from the moment the engine was given up to each stream's in-band error. `streams`: how they ended, in full."""

    fault: str
    told_s: list[float]
    streams: list[str]
    queued: list[int]


@dataclass
class World:
    gateway: Gateway
    engine: EngineSupervisor
    managed_s: list[float] = field(default_factory=list)
    asked: int = 0

    async def lose(self, fault: str) -> Outcome:
        await self.engine.wait_ready(100)
        begun = [asyncio.Event(), asyncio.Event()]
        streams = [asyncio.create_task(self._stream(each)) for each in begun]
        await asyncio.gather(*(each.wait() for each in begun))
        queued = [asyncio.create_task(self._post("backed")) for _ in range(QUEUED)]
        while self.gateway.runtime.routes.exact["backed"].targets[0].health.running < 2 + QUEUED and not any(task.done() for task in queued):
            await asyncio.sleep(0.005)
        given_up = asyncio.create_task(self._given_up())
        await self._break(fault)
        ended = await asyncio.gather(*streams)
        at = await given_up
        statuses = await asyncio.gather(*queued)
        return Outcome(fault, [ended_at - at for _, ended_at in ended], [text for text, _ in ended], statuses)

    async def manage(self) -> None:
        """The provider's own traffic, until it is cancelled."""
        while True:
            began = monotonic()
            assert await self._post("managed") == 200
            self.managed_s.append(monotonic() - began)
            await asyncio.sleep(0.02)

    async def _post(self, model: str) -> int:
        self.asked += 1
        answer = await self.gateway.post({"model": model, "messages": [{"role": "user", "content": f"Hi {self.asked}"}], "max_tokens": 4})
        return int(answer.status_code)

    async def _stream(self, begun: asyncio.Event) -> tuple[str, float]:
        self.asked += 1
        text, asked = "", {"role": "user", "content": f"Tell a story of {self.asked} seas"}
        body: dict[str, Any] = {"model": "own", "messages": [asked], "stream": True, "max_tokens": 450, "ignore_eos": True}
        async with self.gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=AUTH) as answer:
            async for piece in answer.aiter_text():
                text += piece
                begun.set()
        return text, monotonic()

    async def _given_up(self) -> float:
        generation = self.engine.generation
        while self.engine.generation == generation and self.engine.state == "ready":
            await self.engine.changed()
        return monotonic()

    async def _break(self, fault: str) -> None:
        pid = self.engine.pid
        assert pid is not None
        if fault == "kill -9":
            os.kill(pid, signal.SIGKILL)
        elif fault == "hang":
            os.kill(pid, signal.SIGSTOP)
        else:  # what it has stays its own; whatever it asks for beyond the limit is its end
            address = self.engine.address
            assert address is not None
            with memory_limit(pid), contextlib.suppress(OSError, IndexError):
                await fetch(address, "POST", "/tokenize", HUNGRY)


@contextlib.contextmanager
def memory_limit(pid: int) -> Iterator[None]:
    group = CGROUP / f"turnout-test-{os.getpid()}-{pid}"
    group.mkdir()
    (group / "cgroup.procs").write_text(str(pid))
    (group / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    yield
    while True:  # the kernel lets go of it once the process is gone
        try:
            return group.rmdir()
        except OSError:
            time.sleep(0.01)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    upstream, client = await Upstream().start(), PooledClient()
    spec = EngineSpec(
        name="cpu",
        model_path=str(resolve_model("builtin:smollm2-135m-instruct")),
        slots=2,
        ctx_per_slot=512,
        max_prompt_tokens=384,
    )
    engine, queue = EngineSupervisor(spec, client, PACE), Admission.of(spec)
    engine.listeners.append(queue.heard)
    text = CONFIG.format(folder=folder, one=upstream.base_url, key=KEY)
    async with running(text, folder, host=Host(1, {"cpu": SharedEngine(engine, queue)})) as gateway:
        yield World(gateway, engine)
    await client.aclose()
    await upstream.stop()


def told(outcome: Outcome) -> bool:
    """Every stream was told in-band, and nobody who waited was lost."""
    return all("local_engine_lost" in text and "[DONE]" not in text for text in outcome.streams) and outcome.queued == [200] * QUEUED


async def main(rounds: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        async with world(Path(folder)) as here:
            await here.engine.wait_ready(100)
            quiet = await managed_for(here, 5.0)
            outcomes: list[Outcome] = []
            managing = asyncio.create_task(here.manage())
            for number in range(rounds):
                outcome = await here.lose(FAULTS[number % len(FAULTS)])
                outcomes.append(outcome)
                if not told(outcome):
                    print(f"round {number + 1}, {outcome.fault}: queued {outcome.queued}, streams end {[text[-300:] for text in outcome.streams]}")
            managing.cancel()
            disturbed = here.managed_s[:]
            rows = await here.gateway.all_rows()
    print(f"the pace is any gateway's, but for the wait before a restart: {PACE.max_backoff_s:g} s (1 to {Pace().max_backoff_s:g} there)")
    print(f"{'fault':15}{'times':>7}{'told and none lost':>20}{'in-band error after, ms: p50':>30}{'max':>8}")
    for fault in FAULTS:
        of = [outcome for outcome in outcomes if outcome.fault == fault]
        times = sorted(each for outcome in of for each in outcome.told_s)
        if times:
            print(f"{fault:15}{len(of):>7}{sum(map(told, of)):>20}{times[len(times) // 2] * 1e3:>30.0f}{times[-1] * 1e3:>8.0f}")
    p99 = [quantiles(each, n=100)[98] * 1e3 for each in (quiet, disturbed)]
    print(f"managed traffic p99: {p99[0]:.1f} ms while the engine idles, {p99[1]:.1f} ms while it is lost again and again")
    print(f"requests {here.asked}, in the ledger {len({row.request_id for row in rows})}")
    return 0 if all(map(told, outcomes)) else 1


async def managed_for(here: World, seconds: float) -> list[float]:
    managing = asyncio.create_task(here.manage())
    await asyncio.sleep(seconds)
    managing.cancel()
    found, here.managed_s = here.managed_s, []
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    raise SystemExit(uvloop.run(main(parser.parse_args().rounds)))
