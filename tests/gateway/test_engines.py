"""Owned engines behind the gateway: replicas of one, what their time costs, and what becomes of requests when one is lost."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ledger.engine_time import engine_lines
from ledger.rollups import roll_up
from ledger.window import Window
from providers.local.admission import Admission
from providers.local.backend import EngineBackend
from providers.local.prefills import Prefills
from providers.local.supervisor import EngineSupervisor
from tests.gateway.conftest import KEY, Gateway, running
from tests.gateway.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db"}}
providers:
  one: {{kind: openai-compatible, base_url: "{one}", api_key: k}}
engines:
  cpu: {{kind: llamacpp, model: "builtin:smollm2-135m-instruct", replicas: 2, slots: 1, threads: 1, context: 512, gpu_usd_per_hour: 3.6}}
policies: {{mended: {{recovery: continue}}, fast: {{slo: {{ttft_p95_ms: 400}}}}, once: {{retry: {{max_attempts: 1}}}}}}
models:
  own: {{targets: [{{engine: cpu}}]}}
  fast: {{policy: fast, targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
  backed: {{policy: mended, targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
  once: {{policy: once, targets: [{{engine: cpu}}, {{provider: one, model: m1}}]}}
teams: {{search: {{keys: [{key}]}}}}
"""
NUSD_PER_S = 1_000_000  # 3.6 dollars an hour
STORY = "Once upon a time there was a small fox who lived near the river and liked to count stones. " * 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstream() -> AsyncIterator[Upstream]:
    server = await Upstream().start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("engines")
    async with running(CONFIG.format(folder=folder, one=upstream.base_url, key=KEY), folder) as gateway:
        await all_ready(gateway)
        yield gateway


def supervisors(gateway: Gateway) -> dict[str, EngineSupervisor]:
    return {name: engine for name, engine in gateway.runtime.engines.items() if isinstance(engine, EngineSupervisor)}


async def all_ready(gateway: Gateway) -> None:
    await asyncio.gather(*(engine.wait_ready(100) for engine in supervisors(gateway).values()))


def body(model: str, content: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 4, **more}


async def target_of(gateway: Gateway, content: str, **more: Any) -> str:
    answer = await gateway.post(body("own", content, **more))
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-turnout-target"])


class Stream:
    """One long answer while it comes."""

    def __init__(self, gateway: Gateway, content: str, tokens: int = 450) -> None:
        self.begun = asyncio.Event()
        self.task = asyncio.create_task(self._read(gateway, body("own", content, stream=True, max_tokens=tokens, ignore_eos=True)))

    async def _read(self, gateway: Gateway, asked: dict[str, Any]) -> str:
        text = ""
        async with gateway.http.stream("POST", "/v1/chat/completions", json=asked, headers={"authorization": f"Bearer {KEY}"}) as answer:
            async for piece in answer.aiter_text():
                text += piece
                self.begun.set()
        return text


async def test_a_prompt_finds_the_replica_that_knows_its_begin_and_others_share_the_work(gateway: Gateway) -> None:
    first = await target_of(gateway, STORY + "What did he do?")
    assert {await target_of(gateway, STORY + f"And then, {day}?") for day in ("Monday", "Tuesday", "Friday")} == {first}
    assert await target_of(gateway, "Something else", max_tokens=1) in ("cpu-1", "cpu-2")
    both = await asyncio.gather(*(target_of(gateway, f"{number} bottles", max_tokens=30, ignore_eos=True) for number in range(2)))
    assert sorted(both) == ["cpu-1", "cpu-2"]


async def test_a_request_s_share_of_an_engine_s_time_and_its_cost_stand_in_the_ledger(gateway: Gateway) -> None:
    answer = await gateway.post(body("own", "Tell me of ships", max_tokens=12))
    (row,) = await gateway.rows(answer.headers["x-request-id"])
    assert row.engine_prefill_us > 0 and row.engine_decode_us > 0
    took_us = row.engine_prefill_us + row.engine_decode_us
    assert took_us <= row.end_us - row.queue_us + 1000
    assert row.engine_nusd == pytest.approx(took_us * NUSD_PER_S / 1e6, abs=2)
    assert row.cost_nusd is None, "nobody is billed for it by the request"
    told = (await gateway.http.get(f"/v1/requests/{row.request_id}", headers={"authorization": f"Bearer {KEY}"})).json()
    assert told["attempts"][0]["engine"]["prefill_ms"] == row.engine_prefill_us / 1000


async def test_what_an_engine_tells_of_itself_is_shown(gateway: Gateway) -> None:
    live: dict[str, Any] = {"cpu-1": None}
    async with asyncio.timeout(20):
        while live["cpu-1"] is None or live["cpu-1"]["running"] != 0:  # the last look may be of a moment ago
            targets = (await gateway.http.get("/v1/targets", headers={"authorization": f"Bearer {KEY}"})).json()["data"]
            live = {target["target"]: target["live"] for target in targets}
    assert live["cpu-1"]["kv_tokens"] == 512
    assert live["one/m1"] is None, "nobody tells"


async def test_an_engine_s_hours_are_told_busy_and_idle_apart(gateway: Gateway) -> None:
    await gateway.post(body("own", max_tokens=8))
    rows = await gateway.all_rows()
    await gateway.runtime.hours._write()
    now = time.time()
    engine = gateway.runtime.ledger.engine
    roll_up(engine, now)
    lines = {line["engine"]: line for line in engine_lines(engine, Window(0, int(now * 1e6) + 1, {}), now)}
    assert sorted(lines) == ["cpu-1", "cpu-2"]
    for name, line in lines.items():
        busy_h = sum(row.engine_prefill_us + row.engine_decode_us for row in rows if row.target == name) / 3.6e9
        assert line["busy_h"] == pytest.approx(busy_h, rel=0.05, abs=2e-4) and line["busy_h"] <= line["up_h"]
        assert line["kwh"] is None, "no GPU tells"
        assert float(line["usd"]) == pytest.approx(line["up_h"] * 3.6, abs=5e-4)
        assert float(line["idle_usd"]) == pytest.approx((line["up_h"] - line["busy_h"]) * 3.6, abs=1e-3)


async def test_a_stream_with_an_slo_does_not_wait_for_an_engine_beyond_it_while_another_target_is_left(gateway: Gateway) -> None:
    streams = [Stream(gateway, f"{number} lanes") for number in range(2)]
    await asyncio.gather(*(stream.begun.wait() for stream in streams))
    answers = await asyncio.gather(*(gateway.post(body("fast", f"{number} doors", stream=True)) for number in range(3)))
    assert {answer.headers["x-turnout-target"] for answer in answers} == {"one/m1"}
    for stream in streams:
        stream.task.cancel()
    await asyncio.wait([stream.task for stream in streams])


async def test_a_prompt_that_an_engine_cannot_begin_in_time_goes_to_the_next_target_and_to_the_engine_where_none_is_left(gateway: Gateway) -> None:
    backends = [each.backend for each in gateway.runtime.routes.exact["own"].targets]
    queues = [each.admission for each in backends if isinstance(each, EngineBackend) and isinstance(each.admission, Admission)]
    before = [queue.prefills for queue in queues]
    assert len(before) == 2
    for queue in queues:
        queue.prefills = too_slow()
    backed, own = await gateway.post(body("backed", STORY)), await gateway.post(body("own", STORY))
    for queue, prefills in zip(queues, before, strict=True):
        queue.prefills = prefills
    assert (backed.status_code, backed.headers["x-turnout-target"]) == (200, "one/m1")
    assert own.status_code == 200 and own.headers["x-turnout-attempts"] == "2", "the first replica left it to the second, which was the last"


async def test_a_queue_without_room_costs_no_attempt_and_is_none_of_its_target(gateway: Gateway) -> None:
    targets = gateway.runtime.routes.exact["once"].targets
    engines = [each for each in targets if isinstance(each.backend, EngineBackend)]
    queues = [each.backend.admission for each in engines if isinstance(each.backend, EngineBackend)]
    before = [queue.prefills for queue in queues if isinstance(queue, Admission)]
    tried = [each.stats.attempts for each in engines]
    for queue in queues:
        queue.prefills = too_slow()  # type: ignore[attr-defined]
    answer = await gateway.post(body("once", STORY))
    for queue, prefills in zip(queues, before, strict=True):
        queue.prefills = prefills  # type: ignore[attr-defined]
    assert (answer.status_code, answer.headers["x-turnout-target"]) == (200, "one/m1"), "of one attempt that its policy allows"
    assert len(before) == 2 and [each.stats.attempts for each in engines] == tried
    assert {each.stats.failures.get("local_engine_busy", 0) > 0 for each in engines} == {True}


def too_slow() -> Prefills:
    """As after a prompt of 100 tokens that took a second, where a hundredth was promised."""
    prefills, now = Prefills(ttft_s=0.01), time.monotonic()
    prefills.leave(now, prefills.enter(now - 1, 100, False), read=True)
    prefills.ended(now)
    return prefills


async def test_a_replica_that_is_killed_takes_nobody_with_it(gateway: Gateway, upstream: Upstream) -> None:
    """Streams of `backed` go on elsewhere, those of `own` are told in-band; who waits in the queue is answered by who is left."""
    streams = [Stream(gateway, f"{number} roads", 300) for number in range(2)]
    await asyncio.gather(*(stream.begun.wait() for stream in streams))
    waiting = [asyncio.create_task(gateway.post(body("backed", f"{number} rivers"))) for number in range(4)]
    await asyncio.sleep(0.3)
    doomed = supervisors(gateway)["cpu-1"]
    assert doomed.pid is not None
    os.kill(doomed.pid, signal.SIGKILL)
    answers = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in answers] == [200] * 4
    told = [await stream.task for stream in streams]
    assert sum("local_engine_lost" in text for text in told) == 1 and sum(text.endswith("data: [DONE]\n\n") for text in told) == 1
    await all_ready(gateway)
    assert doomed.generation == 2
