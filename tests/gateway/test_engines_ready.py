"""What keeps a gateway from being ready, how its engines' start is told, and what becomes of requests while an engine sleeps."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.engines_shown import engine_shown
from ledger.engine_time import engine_lines
from ledger.window import Window
from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers: {{one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}}}
engines: {{cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", slots: 1, threads: 1, context: 512{more}}}}}
metrics: {{key: sk-metrics}}
policies: {{fast: {{slo: {{ttft_p95_ms: 150}}}}}}
models:
  own: {{targets: [{{engine: cpu}}]}}
  fast: {{policy: fast, targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
teams: {{search: {{keys: [{key}]}}}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    server = await Upstream().start()
    yield server
    await server.stop()


def config(folder: Path, upstream: Upstream, more: str = "") -> str:
    return CONFIG.format(folder=folder, one=upstream.base_url, key=KEY, more=more)


def engine_of(gateway: Gateway) -> EngineSupervisor:
    engine = gateway.runtime.engines["cpu"]
    assert isinstance(engine, EngineSupervisor)
    return engine


async def status(url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """`turnout engines status`, as somebody runs it."""
    command = [Path(sys.executable).with_name("turnout"), "engines", "status", "--url", url, *more]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=100)


async def readiness(gateway: Gateway) -> tuple[int, str]:
    told = await gateway.http.get("/health/ready")
    return told.status_code, told.json()["status"]


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **more}


async def hours_told(gateway: Gateway) -> None:
    """Of an engine that slept and was woken: all its time since it was ready first was either up or asleep."""
    await gateway.runtime.hours._write()
    now = time.time()
    (line,) = engine_lines(gateway.runtime.ledger.engine, Window(0, int(now * 1e6) + 1, {}), now)
    assert line["asleep_h"] > 0 and line["up_h"] > 0, line
    assert float(line["asleep_usd"]) == pytest.approx(line["asleep_h"] * 3.6, abs=5e-4)
    assert float(line["usd"]) == pytest.approx((line["asleep_h"] + line["up_h"]) * 3.6, abs=5e-4)
    assert float(line["idle_usd"]) <= line["up_h"] * 3.6 + 5e-4


async def test_a_gateway_is_ready_once_each_model_has_a_target_and_stays_so_when_an_engine_is_lost(tmp_path: Path, upstream: Upstream) -> None:
    async with running(config(tmp_path, upstream), tmp_path) as gateway:
        engine = engine_of(gateway)
        assert await readiness(gateway) == (503, "starting")
        shown = await status(gateway.url, "--wait", "60", "--json")
        assert shown.returncode == 0 and "cpu ready" in shown.stderr, shown.stderr
        assert json.loads(shown.stdout)["engines"] == {"cpu": {"state": "ready", "stage": None, "ready_in_s": None, "reason": None}}
        assert await readiness(gateway) == (200, "ok")
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        async with asyncio.timeout(10):
            while engine.state == "ready":
                await asyncio.sleep(0.005)
        assert await readiness(gateway) == (200, "ok")
        engine.staged("loading the weights, 40 %")
        (told,) = [each for each in (await targets(gateway)) if each["owned"]]
        assert told["engine"]["state"] == "restarting" and told["engine"]["stage"] == "loading the weights, 40 %" and told["engine"]["ready_in_s"] > 0
        await engine.stop()
        assert await readiness(gateway) == (200, "ok"), "`fast` has a provider"
        table = await status(gateway.url)
        assert table.returncode == 0 and "stopped" in table.stdout


async def targets(gateway: Gateway) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = (await gateway.http.get("/v1/targets", headers={"authorization": f"Bearer {KEY}"})).json()["data"]
    return data


async def test_a_gateway_whose_engines_are_all_given_up_is_not_ready(tmp_path: Path, upstream: Upstream) -> None:
    text = config(tmp_path, upstream).replace("  fast: {policy", "  # {policy")
    async with running(text, tmp_path) as gateway:
        await engine_of(gateway).stop()
        assert await readiness(gateway) == (503, "engines")


async def test_who_does_not_answer_is_named(tmp_path: Path, upstream: Upstream) -> None:
    for url in ("http://127.0.0.1:9", upstream.base_url):
        shown = await status(url)
        assert shown.returncode == 2 and shown.stderr, url


async def test_a_request_wakes_an_engine_that_sleeps_and_who_cannot_wait_is_answered_elsewhere(tmp_path: Path, upstream: Upstream) -> None:
    async with running(config(tmp_path, upstream, ", sleep_when_idle: 0.2, gpu_usd_per_hour: 3.6"), tmp_path) as gateway:
        engine = engine_of(gateway)
        await asleep(engine)
        assert await readiness(gateway) == (200, "ok")
        assert engine_shown(engine) == {"state": "sleeping", "stage": None, "ready_in_s": None, "reason": None}
        page = (await gateway.http.get("/metrics", headers={"authorization": "Bearer sk-metrics"})).text
        assert 'turnout_engine_state{engine="cpu",state="sleeping"} 1' in page
        answer = await gateway.post(body("own"))
        assert answer.status_code == 200 and answer.headers["x-turnout-target"] == "cpu"
        await hours_told(gateway)
        generation = engine.generation
        await asleep(engine)
        fast = await gateway.post(body("fast", stream=True))
        assert fast.status_code == 200 and fast.headers["x-turnout-target"] == "one/m1"
        async with asyncio.timeout(30):
            while engine.generation == generation:
                await asyncio.sleep(0.005)


async def test_who_cannot_wait_for_an_engine_to_wake_is_told_how_long_it_takes_or_answered_elsewhere(tmp_path: Path, upstream: Upstream) -> None:
    text = config(tmp_path, upstream, ", sleep_when_idle: 0.2, max_wait_s: 0.05")
    text = text.replace("models:\n", "models:\n  backed: {targets: [{engine: cpu}, {provider: one, model: m1}]}\n")
    async with running(text, tmp_path) as gateway:
        engine = engine_of(gateway)
        await asleep(engine)
        took_s = engine.wakes_in_s
        told = await gateway.post(body("own"))
        assert took_s > 0.05 and told.status_code == 503, "the last start's time, which is longer than anybody waits here"
        assert max(1.0, took_s - 1) <= int(told.headers["retry-after"]) <= max(1.0, took_s) + 1
        assert (await targets(gateway))[0]["engine"]["state"] in ("waking", "ready", "sleeping"), "it wakes all the same"
        await engine.wait_ready(60)
        await asleep(engine)
        backed = await gateway.post(body("backed"))
        assert backed.status_code == 200 and backed.headers["x-turnout-target"] == "one/m1"


async def test_a_replica_that_sleeps_is_left_asleep_while_another_is_idle(tmp_path: Path, upstream: Upstream) -> None:
    async with running(config(tmp_path, upstream, ", replicas: 2, sleep_when_idle: 0.5"), tmp_path) as gateway:
        first, second = (engine for engine in gateway.runtime.engines.values() if isinstance(engine, EngineSupervisor))
        await asyncio.gather(asleep(first), asleep(second))
        answers = [(await gateway.post(body("own"))).headers["x-turnout-target"] for _ in range(6)]
        assert len(set(answers)) == 1 and sorted((first.generation, second.generation)) == [1, 2]


async def asleep(engine: EngineSupervisor) -> None:
    async with asyncio.timeout(60):
        while engine.state != "sleeping" or engine.pid is not None:
            await asyncio.sleep(0.005)
