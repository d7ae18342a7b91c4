"""Four gateways, each a process of its own, that share a Redis and a ledger: 500 requests at once where there is money for 37."""

import asyncio
import json
from pathlib import Path

import httpx2
from sqlalchemy import create_engine

from bench.store_loss import started
from ledger.spent import spent_nusd
from tests.gateway.redis_server import RedisServer
from tests.gateway.upstream import USAGE, Exchange, Upstream, good

KEY, ROOM, AT_ONCE, PROCESSES = "sk-race", 37, 500, 4
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}).encode()
WORST_NUSD = len(BODY) * 1000 + 10 * 2000
COST_NUSD = USAGE["prompt_tokens"] * 1000 + USAGE["completion_tokens"] * 2000  # type: ignore[operator]
CONFIG = """
state: {{database: "sqlite:///{folder}/turnout.db", redis: "{redis}", redis_deadline_ms: 5000}}
providers: {{up: {{kind: openai-compatible, base_url: "{upstream}", api_key: k}}}}
models: {{m: {{targets: [{{provider: up, price: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}}}]}}}}
teams: {{t: {{keys: [{key}], budget: {{usd: {usd:.9f}, window: total}}}}}}
"""


async def test_exactly_as_many_as_can_be_paid_are_admitted_by_all_of_them_together(one: Upstream, tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(x: Exchange) -> None:
        await go.wait()
        await good(x)

    one.plays["m"] = held
    redis = RedisServer(tmp_path).start()
    text = CONFIG.format(folder=tmp_path, redis=redis.url, upstream=one.base_url, key=KEY, usd=(ROOM * WORST_NUSD + WORST_NUSD // 2) / 1e9)
    (tmp_path / "turnout.yaml").write_text(text)
    gateways = [await started(tmp_path) for _ in range(PROCESSES)]
    limits = httpx2.Limits(max_connections=AT_ONCE)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        async with httpx2.AsyncClient(timeout=100, trust_env=False, limits=limits, headers=headers) as client:
            urls = [f"{gateways[number % PROCESSES][1]}/v1/chat/completions" for number in range(AT_ONCE)]
            asked = [asyncio.create_task(client.post(url, content=BODY)) for url in urls]
            done: set[asyncio.Task[httpx2.Response]] = set()
            async with asyncio.timeout(60):
                while len(done) < AT_ONCE - ROOM:
                    done, _ = await asyncio.wait(asked, timeout=0.2)
            assert {task.result().status_code for task in done} == {402}
            async with asyncio.timeout(30):
                while len(one.journal) < ROOM:
                    await asyncio.sleep(0.05)
            assert not any("x-turnout-degraded" in task.result().headers for task in done)
            go.set()
            answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [200] * ROOM + [402] * (AT_ONCE - ROOM)
    finally:
        for process, _ in gateways:
            process.terminate()
        for process, _ in gateways:
            assert await process.wait() == 0
        redis.kill()
    engine = create_engine(f"sqlite:///{tmp_path}/turnout.db")
    assert spent_nusd(engine, "team", "t", 0) == ROOM * COST_NUSD
    engine.dispose()
